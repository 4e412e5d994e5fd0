"""Size and channels of a rendered picture, the same in training and scoring.

Owns: area resizing, padding to an aspect ratio, luminance. Knows nothing of DICOM.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medray.spec.pixels import PixelSpec

Array = npt.NDArray[Any]
Scale = tuple[float, float]

_LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def fit_picture(pixels: Array, spec: PixelSpec) -> tuple[Array, Scale]:
    """Give a picture (H,W) or (H,W,3) the size and channels of `spec`; the dtype stays.

    Returns the picture and by how much a pixel grew along rows and columns.
    """
    if spec.channels == 1 and pixels.ndim == 3:
        pixels = luminance(pixels)
    scale = (1.0, 1.0)
    if spec.size is not None and spec.size != pixels.shape[:2]:
        pixels, scale = resize(pixels, spec.size, pad=spec.fit == "pad")
    if spec.channels == 3 and pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    return pixels, scale


def luminance(rgb: Array) -> Array:
    """(H,W,3) → (H,W), the same dtype, rounded half to even (ITU-R BT.601)."""
    return _as_dtype(rgb.astype(np.float64) @ _LUMINANCE, rgb.dtype)


def resize(pixels: Array, size: tuple[int, int], *, pad: bool = False) -> tuple[Array, Scale]:
    """Resize (H,W) or (H,W,C) to `size`, by area where it shrinks, bilinear where it grows.

    `pad` keeps the aspect ratio and fills the rest with the darkest value: 0 for uint8,
    otherwise the picture's own least value. Returns pixels and the growth of one pixel.
    """
    height, width = pixels.shape[:2]
    target = size
    if pad:
        ratio = min(size[0] / height, size[1] / width)
        target = (
            min(size[0], max(1, round(height * ratio))),
            min(size[1], max(1, round(width * ratio))),
        )
    planes = pixels[..., None] if pixels.ndim == 2 else pixels
    resized = np.stack(
        [_resize_plane(planes[..., i], target) for i in range(planes.shape[-1])], axis=-1
    )
    out = _as_dtype(resized.reshape(*target, *pixels.shape[2:]), pixels.dtype)
    if target != size:
        fill = 0 if pixels.dtype == np.uint8 else pixels.min()
        canvas = np.full((*size, *pixels.shape[2:]), fill, pixels.dtype)
        top, left = (size[0] - target[0]) // 2, (size[1] - target[1]) // 2
        canvas[top : top + target[0], left : left + target[1]] = out
        out = canvas
    return out, (height / target[0], width / target[1])


def _resize_plane(plane: Array, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(H,W) → float32 of `size`: each axis shrinks by area first, then grows bilinearly."""
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    smaller = (min(size[1], image.width), min(size[0], image.height))
    if smaller != image.size:
        image = image.resize(smaller, Image.Resampling.BOX)
    if (size[1], size[0]) != image.size:
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)


def _as_dtype(values: Array, dtype: np.dtype[Any]) -> Array:
    """Round to the nearest value of `dtype`, half to even."""
    if dtype.kind == "f":
        return values.astype(dtype)
    info = np.iinfo(dtype)
    return np.clip(np.rint(values.astype(np.float64)), info.min, info.max).astype(dtype)
