"""A heat map laid over the picture it explains, as a PNG.

Owns the colours and the encoding. Pillow only: a prediction on one file must not wait for a
plotting library. The colour map is perceptually ordered (lightness rises steadily from black over
violet and orange to pale yellow), so that it also reads without colour vision.

Shapes: H, W of the picture; h, w of the heat map, which is scaled up to it.
"""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from medray.errors import DataError

Array = np.ndarray[Any, Any]

# Lightness in CIE L* of these stops: 0, 13, 31, 48, 66, 81, 97.
_STOPS_RGB = np.array(
    [
        (0, 0, 0),
        (45, 17, 84),
        (123, 34, 116),
        (199, 69, 86),
        (243, 128, 57),
        (250, 193, 88),
        (253, 248, 210),
    ],
    dtype=np.float64,
)

SMALLEST_SIDE = 256


def colours(values: Array) -> Array:
    """uint8 RGB (…, 3) for values in 0..1; outside is clipped, NaN is the lowest colour."""
    position = np.clip(np.nan_to_num(values, nan=0.0), 0.0, 1.0) * (len(_STOPS_RGB) - 1)
    stops = np.arange(len(_STOPS_RGB))
    channels = [np.interp(position, stops, _STOPS_RGB[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def overlay(picture: Array, heatmap: Array, strength: float = 0.6) -> Array:
    """Lay the heat map over the picture; uint8 RGB (H, W, 3).

    picture   (H, W) or (H, W, 3); uint8 is shown as it is, other types from least to greatest.
    heatmap   (h, w) in 0..1; scaled to (H, W). Where it is 0 the picture shows unchanged.
    strength  weight of the colour where the heat map is 1.
    Raises DataError for other shapes.
    """
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] not in (1, 3)):
        raise DataError(f"a picture is (H, W) or (H, W, 3), got {picture.shape}")
    if heatmap.ndim != 2:
        raise DataError(f"a heat map is (h, w), got {heatmap.shape}")
    grey_HWC = as_uint8(picture).reshape(*picture.shape[:2], -1)
    base_HW3 = np.broadcast_to(grey_HWC, (*picture.shape[:2], 3)).astype(np.float64)
    heat_HW = np.clip(_scaled(np.nan_to_num(heatmap), *picture.shape[:2]), 0.0, 1.0)
    weight_HW1 = strength * heat_HW[..., None]
    mixed = (1.0 - weight_HW1) * base_HW3 + weight_HW1 * colours(heat_HW)
    return np.rint(mixed).astype(np.uint8)


def as_uint8(picture: Array) -> Array:
    """Turn a picture into uint8: as it is, or stretched from least to greatest."""
    if picture.dtype == np.uint8:
        return picture
    values = np.nan_to_num(picture.astype(np.float64))
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    return np.rint((values - low) * (255.0 / ((high - low) or 1.0))).astype(np.uint8)


def encode_png(picture: Array) -> bytes:
    """Encode a uint8 picture (H, W) or (H, W, 3) as PNG bytes."""
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


def heatmap_png(picture: Array, heatmap: Array, strength: float = 0.6) -> bytes:
    """Picture and overlay side by side as PNG bytes; small pictures are enlarged to be seen."""
    return side_by_side(as_uint8(picture), overlay(picture, heatmap, strength))


def side_by_side(picture: Array, laid_over: Array) -> bytes:
    """PNG bytes of a picture, uint8 (H, W) or (H, W, 1 or 3), and its overlay (H, W, 3)."""
    plain = picture.reshape(*picture.shape[:2], -1)
    left = np.broadcast_to(plain, (*plain.shape[:2], 3))
    both = np.concatenate([left, laid_over], axis=1)
    factor = max(1, -(-SMALLEST_SIDE // max(1, min(plain.shape[:2]))))
    return encode_png(both.repeat(factor, axis=0).repeat(factor, axis=1))


def _scaled(heatmap: Array, height: int, width: int) -> Array:
    image = Image.fromarray(np.ascontiguousarray(heatmap, dtype=np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float64)
