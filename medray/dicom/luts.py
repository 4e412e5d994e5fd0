"""The look-up tables, rescales and windows of a header, and what they do to grey values.

Owns: modality LUT and rescale (PS3.3 C.11.1), VOI LUT and window (C.11.2), padding
(C.7.5.1.1.2), the bytes of any table. Decodes nothing (see codecs); must not know what a run
asks for (see pixels).

Stored values → modality values (float64) → 0..1. Shapes are kept.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.multival import MultiValue

from medray.dicom.codecs import FrameFormat, codec_of
from medray.dicom.instance import INVALID, macro_of, numbers_of, value_of
from medray.errors import Code, RejectError

Array = npt.NDArray[Any]
Values = npt.NDArray[np.float64]


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


def present(values: Values, voi: Lut | Window | None, full: tuple[float, float]) -> Values:
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
    return [lut_of(item, "LUTDescriptor", "LUTData", fmt, signed) for item in sequence]


def lut_of(ds: pydicom.Dataset, descriptor: str, data: str, fmt: FrameFormat, signed: bool) -> Lut:
    """Read a LUT (PS3.3 C.11.1.1.1); `signed` says how its first input value is to be read."""
    count, first, bits = descriptor_of(ds, descriptor)
    first &= 0xFFFF
    if signed and first >= 0x8000:
        first -= 0x10000
    entries = entries_of(value_of(ds, data), count, bits, fmt)
    if len(entries) < count:
        raise RejectError(Code.INVALID_ATTRIBUTE, f"{data}: {len(entries)} entries of {count}")
    entries = entries[:count]
    return Lut(first, entries, max(bits, int(entries.max()).bit_length()))


def descriptor_of(ds: pydicom.Dataset, keyword: str) -> tuple[int, int, int]:
    """Number of entries, first input value as written, bits per entry (PS3.3 C.11.1.1.1).

    Raises RejectError: MISSING_ATTRIBUTE, INVALID_ATTRIBUTE.
    """
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


def entries_of(value: Any, count: int, bits: int, fmt: FrameFormat) -> Array:
    """LUT entries from bytes or words; 8-bit entries may be packed two to a word."""
    if value is None or value is INVALID:
        raise RejectError(Code.MISSING_ATTRIBUTE, "look-up table data")
    big = codec_of(fmt.transfer_syntax_uid).big_endian
    if not isinstance(value, bytes):
        words = value if isinstance(value, MultiValue | list) else [value]
        value = (np.array(words, np.int64) & 0xFFFF).astype(">u2" if big else "<u2").tobytes()
    words = np.frombuffer(value[: len(value) // 2 * 2], ">u2" if big else "<u2")
    if bits <= 8 and len(value) < 2 * count:
        return np.frombuffer(words.astype("<u2").tobytes() + value[len(words) * 2 :], np.uint8)
    return words.astype(np.uint16)
