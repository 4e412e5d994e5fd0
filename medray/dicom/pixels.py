"""A parsed dataset → pictures, exactly as PS3.3 C.7.6.3 and C.11 say.

Owns: modality LUT, VOI LUT and windows, padding, MONOCHROME1, palettes, colour spaces.
Codecs are somebody else's (`decode_codec`); sizes and channels are resize's.

Shapes: H rows, W columns, F frames. Stored values → modality values (float64) → grey levels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.multival import MultiValue

from medray.dicom import codecs
from medray.dicom.codecs import DecodeFrame, FrameFormat
from medray.dicom.files import quiet, split_encapsulated, split_native
from medray.dicom.instance import (
    INVALID,
    Spacing,
    frame_count_of,
    frame_format_of,
    macro_of,
    numbers_of,
    require_picture,
    spacing_of,
    value_of,
)
from medray.dicom.resize import fit_picture
from medray.errors import Code, RejectError
from medray.spec.pixels import FixedWindow, PixelSpec, WindowIndex

Array = npt.NDArray[Any]
Values = npt.NDArray[np.float64]

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


@dataclass(frozen=True, slots=True)
class Lut:
    """A look-up table (PS3.3 C.11.1.1): entry 0 is for the input value `first`."""

    first: int
    entries: Array
    bits: int

    def __call__(self, values: Array) -> Values:
        """Look values up; those outside take the first or last entry."""
        index = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return self.entries[index.astype(np.int64)].astype(np.float64)


@dataclass(frozen=True, slots=True)
class Window:
    """A VOI window in modality units (PS3.3 C.11.2.1.2)."""

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, slots=True)
class GreyMeaning:
    """What one frame's stored grey values mean."""

    slope: float = 1.0
    intercept: float = 0.0
    modality_lut: Lut | None = None
    voi: tuple[Lut | Window | None, ...] = ()  # None: present but unusable
    padding: tuple[int, int] | None = None  # inclusive, stored values

    def modality(self, stored: Array) -> Values:
        """Turn stored into modality values (PS3.3 C.11.1)."""
        if self.modality_lut is not None:
            return self.modality_lut(stored)
        return stored.astype(np.float64) * self.slope + self.intercept

    def padded(self, stored: Array) -> npt.NDArray[np.bool_] | None:
        """Where pixels are padding (PS3.3 C.7.5.1.1.2), or None if nothing is said of it."""
        if self.padding is None:
            return None
        return (stored >= self.padding[0]) & (stored <= self.padding[1])


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
    frames, fmt = _frames_of(ds, fmt, count)
    stored = [decode_codec(frame, fmt) for frame in frames]
    if any(array.shape != fmt.shape for array in stored):
        raise RejectError(Code.SIZE_MISMATCH, f"decoded shape is not {fmt.shape}")
    inverted = fmt.photometric_interpretation == "MONOCHROME1" and spec.window != "none"
    if fmt.photometric_interpretation in _GREY:
        with quiet():
            meanings = grey_meanings(ds, fmt, count)
        arrays = render_grey(stored, meanings, spec, bits=fmt.bits_stored, inverted=inverted)
    elif fmt.photometric_interpretation == "PALETTE COLOR":
        palette = _palette(ds, fmt)
        arrays = [np.stack([lut(array) for lut in palette], -1).astype("u1") for array in stored]
    else:
        arrays = [
            _rgb8(array, codecs.colour_left(frame, fmt), fmt.bits_stored)
            for array, frame in zip(stored, frames, strict=True)
        ]
    with quiet():
        spacings = [spacing_of(ds, frame) for frame in range(count)]
    name = fmt.photometric_interpretation
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


def _frames_of(
    ds: pydicom.Dataset, fmt: FrameFormat, count: int
) -> tuple[list[bytes], FrameFormat]:
    """Each frame's bytes, and the format as the bytes really are."""
    codec = codecs.codec_of(fmt.transfer_syntax_uid)
    element = ds["PixelData"]
    data: bytes = element.value
    if fmt.photometric_interpretation in _COLOUR:
        fmt = replace(fmt, pixel_representation=0)  # colour has no sign
    if codec.encapsulated:
        tables = [value_of(ds, f"ExtendedOffsetTable{tail}") for tail in ("", "Lengths")]
        offsets, lengths = (
            np.frombuffer(table, "<u8").tolist() if isinstance(table, bytes) else []
            for table in (table if table and len(table) % 8 == 0 else None for table in tables)
        )
        return split_encapsulated(data, count, offsets, lengths), fmt
    if element.is_undefined_length:
        detail = "encapsulated pixel data under a native transfer syntax"
        raise RejectError(Code.INVALID_ATTRIBUTE, detail)
    swapped = fmt.transfer_syntax_uid == "1.2.840.10008.1.2.2" and element.VR == "OW"
    if swapped and fmt.bits_allocated <= 8:  # bytes travel in swapped pairs, PS3.5 8.1.1
        data = np.frombuffer(data[: len(data) // 2 * 2], np.uint16).byteswap().tobytes()
    full = fmt.rows * fmt.columns * 3 * count * fmt.bits_allocated // 8
    if fmt.photometric_interpretation == "YBR_FULL_422" and len(data) >= full:
        fmt = replace(fmt, photometric_interpretation="YBR_FULL")  # written without sharing
    return split_native(data, count, fmt), fmt


# ---------------------------------------------------------------- header → meaning


def grey_meanings(ds: pydicom.Dataset, fmt: FrameFormat, count: int) -> list[GreyMeaning]:
    """Read what each frame's grey values mean; functional groups go before the top level."""
    padding = _padding(ds, fmt)
    grouped = "PerFrameFunctionalGroupsSequence" in ds or "SharedFunctionalGroupsSequence" in ds
    meanings = [
        _meaning(
            macro_of(ds, frame, "PixelValueTransformationSequence") or ds,
            macro_of(ds, frame, "FrameVOILUTSequence") or ds,
            fmt,
            padding,
        )
        for frame in range(count if grouped else 1)
    ]
    return meanings if grouped else meanings * count


def _meaning(
    modality: pydicom.Dataset,
    voi: pydicom.Dataset,
    fmt: FrameFormat,
    padding: tuple[int, int] | None,
) -> GreyMeaning:
    signed = fmt.pixel_representation == 1
    slope = numbers_of(modality, "RescaleSlope", default=1.0)[0]
    intercept = numbers_of(modality, "RescaleIntercept", default=0.0)[0]
    if not (np.isfinite(slope) and np.isfinite(intercept)) or slope == 0:
        raise RejectError(Code.INVALID_ATTRIBUTE, "RescaleSlope or RescaleIntercept")
    luts = _luts(modality, "ModalityLUTSequence", fmt, signed)
    meaning = GreyMeaning(slope, intercept, luts[0] if luts else None, (), padding)
    low, _ = _stored_range(meaning, fmt)
    windows = _windows(voi)
    return replace(meaning, voi=(*_luts(voi, "VOILUTSequence", fmt, low < 0), *windows))


def _windows(ds: pydicom.Dataset) -> list[Window | None]:
    function = value_of(ds, "VOILUTFunction")
    name = "LINEAR" if function is None else str(function).strip().upper()
    centers, widths = (numbers_of(ds, f"Window{tail}") for tail in ("Center", "Width"))
    if centers and name not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise RejectError(Code.INVALID_ATTRIBUTE, "VOILUTFunction")
    return [
        Window(center, width, name) if np.isfinite(center) and 0 < width < np.inf else None
        for center, width in zip(centers, widths, strict=False)
    ]


def _stored_range(meaning: GreyMeaning, fmt: FrameFormat) -> tuple[float, float]:
    """Return the least and greatest modality value that the header allows."""
    if meaning.modality_lut is not None:
        entries = meaning.modality_lut.entries
        return float(entries.min()), float(entries.max())
    bits = fmt.bits_stored
    stored = (
        (-(1 << bits - 1), (1 << bits - 1) - 1) if fmt.pixel_representation else (0, 2**bits - 1)
    )
    ends = [end * meaning.slope + meaning.intercept for end in stored]
    return min(ends), max(ends)


def _padding(ds: pydicom.Dataset, fmt: FrameFormat) -> tuple[int, int] | None:
    """Pixel Padding Value and Range Limit as stored values; their VR may have the wrong sign."""
    ends = numbers_of(ds, "PixelPaddingValue")[:1]
    if not ends:
        return None
    ends += numbers_of(ds, "PixelPaddingRangeLimit")[:1]
    wrapped = [int(end) & 0xFFFF for end in ends if np.isfinite(end)]
    if fmt.pixel_representation:
        wrapped = [end - 0x10000 if end >= 0x8000 else end for end in wrapped]
    return (min(wrapped), max(wrapped)) if wrapped else None


# ---------------------------------------------------------------- look-up tables


def _luts(ds: pydicom.Dataset, keyword: str, fmt: FrameFormat, signed: bool) -> list[Lut]:
    sequence = value_of(ds, keyword)
    if not isinstance(sequence, pydicom.Sequence):
        return []
    return [_lut(item, "LUTDescriptor", "LUTData", fmt, signed) for item in sequence]


def _lut(ds: pydicom.Dataset, descriptor: str, data: str, fmt: FrameFormat, signed: bool) -> Lut:
    """Read a LUT (PS3.3 C.11.1.1.1); `signed` says how its first input value is to be read."""
    count, first, bits = _descriptor(ds, descriptor)
    first &= 0xFFFF
    if signed and first >= 0x8000:
        first -= 0x10000
    entries = _entries(value_of(ds, data), count, bits, fmt)
    if len(entries) < count:
        raise RejectError(Code.INVALID_ATTRIBUTE, f"{data}: {len(entries)} entries of {count}")
    entries = entries[:count]
    return Lut(first, entries, max(bits, int(entries.max()).bit_length()))


def _descriptor(ds: pydicom.Dataset, keyword: str) -> tuple[int, int, int]:
    value = value_of(ds, keyword)
    if value is None:
        raise RejectError(Code.MISSING_ATTRIBUTE, keyword)
    try:
        count, first, bits = (int(part) for part in value)
    except (TypeError, ValueError):
        raise RejectError(Code.INVALID_ATTRIBUTE, keyword) from None
    if not 1 <= bits <= 16:
        raise RejectError(Code.INVALID_ATTRIBUTE, keyword)
    return (count & 0xFFFF) or 0x10000, first, bits


def _entries(value: Any, count: int, bits: int, fmt: FrameFormat) -> Array:
    """LUT entries from bytes or words; 8-bit entries may be packed two to a word."""
    if value is None or value is INVALID:
        raise RejectError(Code.MISSING_ATTRIBUTE, "look-up table data")
    big = codecs.codec_of(fmt.transfer_syntax_uid).big_endian
    if not isinstance(value, bytes):
        words = value if isinstance(value, MultiValue | list) else [value]
        value = (np.array(words, np.int64) & 0xFFFF).astype(">u2" if big else "<u2").tobytes()
    words = np.frombuffer(value[: len(value) // 2 * 2], ">u2" if big else "<u2")
    if bits <= 8 and len(value) < 2 * count:
        return np.frombuffer(words.astype("<u2").tobytes() + value[len(words) * 2 :], np.uint8)
    return words.astype(np.uint16)


def _palette(ds: pydicom.Dataset, fmt: FrameFormat) -> list[Lut]:
    """Three LUTs to 0..255 (PS3.3 C.7.6.3.1.5-6); 16-bit entries keep their upper byte."""
    signed = fmt.pixel_representation == 1
    luts: list[Lut] = []
    for colour in ("Red", "Green", "Blue"):
        name = f"{colour}PaletteColorLookupTable"
        segmented = f"Segmented{name}Data"
        if value_of(ds, f"{name}Data") is None and value_of(ds, segmented) is not None:
            count, first, bits = _descriptor(ds, f"{name}Descriptor")
            words = _entries(value_of(ds, segmented), 0, 16, fmt).tolist()
            if bits <= 8:
                words = list(np.array(words, "<u2").tobytes())
            first = first - 0x10000 if signed and first >= 0x8000 else first
            luts.append(Lut(first, np.array(_expand_segments(words, count)), bits))
        else:
            luts.append(_lut(ds, f"{name}Descriptor", f"{name}Data", fmt, signed))
    wide = max(int(lut.entries.max()) for lut in luts) > 255  # some 16-bit tables hold bytes
    return [replace(lut, entries=lut.entries >> 8) for lut in luts] if wide else luts


def _expand_segments(words: list[int], count: int) -> list[int]:
    """Segmented palette data → entries (PS3.3 C.7.9.2): discrete, linear, indirect."""
    out: list[int] = []

    def run(at: int, segments: int, depth: int) -> None:
        while segments != 0 and at + 1 < len(words) and len(out) < count:
            opcode, length = words[at], words[at + 1]
            segments -= 1
            if opcode == 0:
                out.extend(words[at + 2 : at + 2 + length])
                at += 2 + length
            elif opcode == 1 and out and at + 2 < len(words):
                start, end = out[-1], words[at + 2]
                out.extend(round(start + (end - start) * k / length) for k in range(1, length + 1))
                at += 3
            elif opcode == 2 and depth == 0 and at + 3 < len(words):
                run(words[at + 2] | words[at + 3] << 16, length, depth + 1)
                at += 4
            else:
                raise RejectError(Code.INVALID_ATTRIBUTE, "segmented palette data")

    run(0, -1, 0)
    if len(out) < count:
        raise RejectError(Code.INVALID_ATTRIBUTE, f"segmented palette: {len(out)} of {count}")
    return out[:count]


# ---------------------------------------------------------------- stored → rendered


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
        shown = np.rint(_present(meaning.modality(values), voi, full) * 255).astype(np.uint8)
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


def _present(values: Values, voi: Lut | Window | None, full: tuple[float, float]) -> Values:
    """Modality values → 0..1 (PS3.3 C.11.2.1)."""
    if voi is None:
        width = full[1] - full[0]
        return np.clip((values - full[0]) / width, 0, 1) if width > 0 else np.zeros_like(values)
    if isinstance(voi, Lut):
        return voi(values) / ((1 << voi.bits) - 1)
    if voi.function == "SIGMOID":  # C.11.2.1.3.1
        exponent = np.clip(-4 * (values - voi.center) / voi.width, -700, 700)
        return 1 / (1 + np.exp(exponent))
    if voi.function == "LINEAR_EXACT":  # C.11.2.1.3.2
        return np.clip((values - voi.center) / voi.width + 0.5, 0, 1)
    center, width = voi.center - 0.5, voi.width - 1  # C.11.2.1.2.1
    if width <= 0:  # a width of one is a threshold; less is not legal and means the same
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


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


def _rgb8(array: Array, space: str, bits: int) -> Array:
    """(H,W,3) stored colour → RGB uint8; YBR_FULL by PS3.3 C.7.6.3.1.2."""
    if bits == 8 and space == "RGB":
        return array.astype(np.uint8, copy=False)
    top = (1 << bits) - 1
    values = array.astype(np.float64)
    if space == "YBR_FULL":
        luma, blue, red = values[..., 0], values[..., 1], values[..., 2]
        blue, red = blue - (1 << bits - 1), red - (1 << bits - 1)
        green = luma - (0.114 * 1.772 * blue + 0.299 * 1.402 * red) / 0.587
        values = np.stack([luma + 1.402 * red, green, luma + 1.772 * blue], -1)
    return np.rint(np.clip(values, 0, top) * (255 / top)).astype(np.uint8)
