"""A parsed dataset → pictures, exactly as PS3.3 C.7.6.3 and C.11 say.

Owns: the order of the steps, what a run's window setting chooses, MONOCHROME1, the dtype of
modality values. Each step is somebody else's: frames, codecs (`decode_codec`), luts, colour;
sizes and channels are resize's.

Shapes: H rows, W columns, F frames. Stored values → modality values (float64) → grey levels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from medray.dicom import codecs
from medray.dicom.codecs import DecodeFrame, FrameFormat
from medray.dicom.colour import palette_of, rgb8, through_palette
from medray.dicom.files import quiet
from medray.dicom.frames import frames_of
from medray.dicom.instance import (
    Spacing,
    frame_count_of,
    frame_format_of,
    require_picture,
    spacing_of,
)
from medray.dicom.luts import GreyMeaning, Lut, Window, grey_meanings, present
from medray.dicom.resize import fit_picture
from medray.errors import Code, RejectError
from medray.spec.pixels import FixedWindow, PixelSpec, WindowIndex

Array = npt.NDArray[Any]

_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_J2K_ONLY = ("YBR_ICT", "YBR_RCT")


@dataclass(frozen=True, slots=True)
class Picture:
    """One item as a model sees it.

    pixels      (H,W) or (H,W,3); for `item: instance` (F,H,W) or (F,H,W,3)
    frame       index from 0; 0 for a whole instance
    spacing_mm  between rows and between columns of `pixels`, after resizing; None if unknown
    inverted    MONOCHROME1 was turned round for presentation
    """

    frame: int
    pixels: Array
    spacing_mm: Spacing | None
    photometric_interpretation: str
    inverted: bool


def decode(
    ds: pydicom.Dataset, spec: PixelSpec, *, decode_codec: DecodeFrame = codecs.decode_frame
) -> list[Picture]:
    """Decode every frame of an instance; one Picture per item of `spec.item`.

    Grey pictures are uint8 0..255 for presentation, or with `window: none` modality values in
    the first of int16, uint16, int32 that holds all of the instance exactly, else float32.
    Colour is uint8. Raises RejectError with the code of whatever is wrong.
    """
    instance = require_picture(ds)
    fmt, count = frame_format_of(instance), frame_count_of(instance)
    _check_photometric(fmt)
    if fmt.decoded_bytes * count > codecs.MAX_DECODED_BYTES:
        raise RejectError(Code.TOO_LARGE, f"{count} frames of {fmt.decoded_bytes} bytes")
    if fmt.photometric_interpretation in _COLOUR:
        fmt = replace(fmt, pixel_representation=0)  # colour has no sign
    frames, fmt = frames_of(ds, fmt, count)
    stored = [decode_codec(frame, fmt) for frame in frames]
    if any(array.shape != fmt.shape for array in stored):
        raise RejectError(Code.SIZE_MISMATCH, f"decoded shape is not {fmt.shape}")
    name = fmt.photometric_interpretation
    inverted = name == "MONOCHROME1" and spec.window != "none"
    if name in _GREY:
        with quiet():
            meanings = grey_meanings(ds, fmt, count)
        arrays = render_grey(stored, meanings, spec, bits=fmt.bits_stored, inverted=inverted)
    else:
        arrays = _render_colour(ds, fmt, frames, stored)
    with quiet():
        spacings = [spacing_of(ds, frame) for frame in range(count)]
    return as_pictures(arrays, spacings, spec, photometric=name, inverted=inverted)


def as_pictures(
    arrays: list[Array],
    spacings: list[Spacing | None],
    spec: PixelSpec,
    *,
    photometric: str,
    inverted: bool,
) -> list[Picture]:
    """Channels, size and grouping of rendered frames (H,W) or (H,W,3), as `spec` asks."""
    fitted = [fit_picture(array, spec) for array in arrays]
    spaced = [
        None if spacing is None else (spacing[0] * scale[0], spacing[1] * scale[1])
        for spacing, (_, scale) in zip(spacings, fitted, strict=True)
    ]
    pixels = [array for array, _ in fitted]
    if spec.item == "instance":
        return [Picture(0, np.stack(pixels), spaced[0], photometric, inverted)]
    return [
        Picture(frame, array, spacing, photometric, inverted)
        for frame, (array, spacing) in enumerate(zip(pixels, spaced, strict=True))
    ]


def _check_photometric(fmt: FrameFormat) -> None:
    name = fmt.photometric_interpretation
    family = codecs.codec_of(fmt.transfer_syntax_uid).family
    if name not in (*_GREY, *_COLOUR, "PALETTE COLOR"):
        raise RejectError(Code.UNSUPPORTED_PHOTOMETRIC, "not one of PS3.3 C.7.6.3.1.2 in use")
    if name in _J2K_ONLY and family not in ("j2k", "htj2k"):
        raise RejectError(Code.UNSUPPORTED_PHOTOMETRIC, f"{name} outside JPEG 2000")
    if fmt.samples_per_pixel != (3 if name in _COLOUR else 1):
        raise RejectError(Code.INVALID_ATTRIBUTE, f"SamplesPerPixel does not fit {name}")


def _render_colour(
    ds: pydicom.Dataset, fmt: FrameFormat, frames: list[bytes], stored: list[Array]
) -> list[Array]:
    """Palette indices (H,W) or colour (H,W,3), one per frame → (H,W,3) RGB uint8."""
    if fmt.photometric_interpretation == "PALETTE COLOR":
        palette = palette_of(ds, fmt)
        return [through_palette(array, palette) for array in stored]
    return [
        rgb8(array, codecs.colour_left(frame, fmt), fmt.bits_stored)
        for array, frame in zip(stored, frames, strict=True)
    ]


# ---------------------------------------------------------------- stored → grey levels


def render_grey(
    stored: list[Array], meanings: list[GreyMeaning], spec: PixelSpec, *, bits: int, inverted: bool
) -> list[Array]:
    """Render stored values (H,W), one per frame, as `spec.window` asks; same shapes."""
    pairs = list(zip(stored, meanings, strict=True))
    if spec.window == "none":
        dtype = _value_dtype(pairs)
        return [_pointwise(frame, lambda x, m=m: m.modality(x).astype(dtype)) for frame, m in pairs]
    chosen = [_choose_voi(meaning, spec) for meaning in meanings]
    full = _full_range(pairs, bits) if None in chosen else (0.0, 0.0)

    def levels(values: Array, meaning: GreyMeaning, voi: Lut | Window | None) -> Array:
        shown = np.rint(present(meaning.modality(values), voi, full) * 255).astype(np.uint8)
        shown = 255 - shown if inverted else shown
        padded = meaning.padded(values)
        return shown if padded is None else np.where(padded, np.uint8(0), shown)

    return [
        _pointwise(frame, lambda x, m=meaning, v=voi: levels(x, m, v))
        for (frame, meaning), voi in zip(pairs, chosen, strict=True)
    ]


def _choose_voi(meaning: GreyMeaning, spec: PixelSpec) -> Lut | Window | None:
    """Choose the transform that the spec names; None for the full range."""
    if isinstance(spec.window, FixedWindow):
        return Window(spec.window.center, spec.window.width, spec.window.function)
    if not isinstance(spec.window, WindowIndex):
        return next((voi for voi in meaning.voi if voi is not None), None)
    if spec.window.index >= len(meaning.voi):
        detail = f"VOI {spec.window.index} asked for, the file has {len(meaning.voi)}"
        raise RejectError(Code.MISSING_ATTRIBUTE, detail)
    voi = meaning.voi[spec.window.index]
    if voi is None:
        raise RejectError(Code.INVALID_ATTRIBUTE, f"VOI window {spec.window.index}")
    return voi


def _full_range(pairs: list[tuple[Array, GreyMeaning]], bits: int) -> tuple[float, float]:
    """Find what is shown as black and white where no window is given, over the whole instance.

    Up to 8 bits stored: all that the header allows, so that plain 8-bit pictures stay as they
    are. Above, where few files use their full depth: what occurs outside padding.
    """
    ends: list[float] = []
    for frame, meaning in pairs:
        if bits <= 8 and meaning.modality_lut is None:
            half = 1 << bits - 1
            edges = np.array([-half, half - 1] if frame.dtype.kind == "i" else [0, 2 * half - 1])
            ends += meaning.modality(edges).tolist()
            continue
        padded = meaning.padded(frame)
        kept = frame if padded is None else frame[~padded]
        if kept.size:
            if meaning.modality_lut is None:
                kept = np.array([kept.min(), kept.max()])
            values = meaning.modality(kept)
            ends += [float(values.min()), float(values.max())]
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def _value_dtype(pairs: list[tuple[Array, GreyMeaning]]) -> np.dtype[Any]:
    """Choose the smallest dtype that holds every modality value of the instance exactly."""
    whole = all(
        meaning.modality_lut is not None
        or (meaning.slope.is_integer() and meaning.intercept.is_integer())
        for _, meaning in pairs
    )
    ends: list[float] = []
    for frame, meaning in pairs:
        ends += meaning.modality(np.array([frame.min(), frame.max()])).tolist()
        if meaning.modality_lut is not None:
            ends += [float(meaning.modality_lut.entries.max()), 0.0]
    for name in ("int16", "uint16", "int32") if whole else ():
        info = np.iinfo(name)
        if info.min <= min(ends) and max(ends) <= info.max:
            return np.dtype(name)
    return np.dtype("float32")


def _pointwise(stored: Array, function: Callable[[Array], Array]) -> Array:
    """Apply a function of single values, through a table where that is less work."""
    size = stored.dtype.itemsize
    if size > 2 or stored.size <= 1 << 8 * size:
        return function(stored)
    unsigned = f"u{size}"
    table = function(np.arange(1 << 8 * size).astype(unsigned).view(stored.dtype))
    return table[stored.view(unsigned)]
