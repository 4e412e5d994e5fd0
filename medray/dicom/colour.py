"""Palette and colour samples → RGB of 8 bits.

Owns: palettes, plain and segmented (PS3.3 C.7.6.3.1.5-6, C.7.9.2), and colour spaces
(C.7.6.3.1.2). Which space a decoder leaves is codecs' to say.

Shapes: H rows, W columns.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from medray.dicom.codecs import FrameFormat
from medray.dicom.instance import value_of
from medray.dicom.luts import Lut, descriptor_of, entries_of, lut_of
from medray.errors import Code, RejectError

Array = npt.NDArray[Any]


def palette_of(ds: pydicom.Dataset, fmt: FrameFormat) -> list[Lut]:
    """Three LUTs to 0..255 (PS3.3 C.7.6.3.1.5-6); 16-bit entries keep their upper byte."""
    signed = fmt.pixel_representation == 1
    luts: list[Lut] = []
    for colour in ("Red", "Green", "Blue"):
        name = f"{colour}PaletteColorLookupTable"
        segmented = f"Segmented{name}Data"
        if value_of(ds, f"{name}Data") is None and value_of(ds, segmented) is not None:
            count, first, bits = descriptor_of(ds, f"{name}Descriptor")
            words = entries_of(value_of(ds, segmented), 0, 16, fmt).tolist()
            if bits <= 8:
                words = list(np.array(words, "<u2").tobytes())
            first = first - 0x10000 if signed and first >= 0x8000 else first
            luts.append(Lut(first, np.array(expand_segments(words, count)), bits))
        else:
            luts.append(lut_of(ds, f"{name}Descriptor", f"{name}Data", fmt, signed))
    wide = max(int(lut.entries.max()) for lut in luts) > 255  # some 16-bit tables hold bytes
    return [replace(lut, entries=lut.entries >> 8) for lut in luts] if wide else luts


def expand_segments(words: list[int], count: int) -> list[int]:
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


def through_palette(stored: Array, palette: list[Lut]) -> Array:
    """(H,W) stored indices → (H,W,3) RGB uint8."""
    return np.stack([lut(stored) for lut in palette], -1).astype("u1")


def rgb8(array: Array, space: str, bits: int) -> Array:
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
