"""Pixel data → the bytes of each frame.

Owns: fragments and offset tables (PS3.5 A.4), native runs of samples (PS3.5 8.1.1), and what
writers get wrong in either. Decodes nothing (see codecs); knows no grey or colour meaning.
"""

import struct
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pydicom
from pydicom.dataelem import DataElement

from medray.dicom.codecs import FrameFormat, codec_of
from medray.dicom.files import items
from medray.dicom.instance import value_of
from medray.errors import Code, RejectError


def frames_of(ds: pydicom.Dataset, fmt: FrameFormat, count: int) -> tuple[list[bytes], FrameFormat]:
    """Cut pixel data into `count` frames; returns them and the format as the bytes really are.

    Raises RejectError: FRAME_MISMATCH, TRUNCATED, HEADER_INVALID, NO_PIXEL_DATA, SIZE_MISMATCH,
    INVALID_ATTRIBUTE, UNSUPPORTED_TRANSFER_SYNTAX.
    """
    element = ds["PixelData"]
    if codec_of(fmt.transfer_syntax_uid).encapsulated:
        offsets, lengths = _extended_offsets(ds)
        return split_encapsulated(element.value, count, offsets, lengths), fmt
    if element.is_undefined_length:
        detail = "encapsulated pixel data under a native transfer syntax"
        raise RejectError(Code.INVALID_ATTRIBUTE, detail)
    data = _native_bytes(element, fmt)
    full = fmt.rows * fmt.columns * 3 * count * fmt.bits_allocated // 8
    if fmt.photometric_interpretation == "YBR_FULL_422" and len(data) >= full:
        fmt = replace(fmt, photometric_interpretation="YBR_FULL")  # written without sharing
    return split_native(data, count, fmt), fmt


def _extended_offsets(ds: pydicom.Dataset) -> tuple[list[int], list[int]]:
    """Read the extended offset table and its lengths (PS3.3 C.7.6.3.1.8); [] if unusable."""
    tables = [value_of(ds, f"ExtendedOffsetTable{tail}") for tail in ("", "Lengths")]
    offsets, lengths = (
        np.frombuffer(table, "<u8").tolist() if isinstance(table, bytes) else []
        for table in (table if table and len(table) % 8 == 0 else None for table in tables)
    )
    return offsets, lengths


def _native_bytes(element: DataElement, fmt: FrameFormat) -> bytes:
    """Native pixel data in the order of its pixels."""
    data: bytes = element.value
    swapped = fmt.transfer_syntax_uid == "1.2.840.10008.1.2.2" and element.VR == "OW"
    if swapped and fmt.bits_allocated <= 8:  # bytes travel in swapped pairs, PS3.5 8.1.1
        return np.frombuffer(data[: len(data) // 2 * 2], np.uint16).byteswap().tobytes()
    return data


def split_encapsulated(
    data: bytes, frames: int, offsets: Sequence[int] = (), lengths: Sequence[int] = ()
) -> list[bytes]:
    """Fragments → frames (PS3.5 A.4), by the extended or basic offset table or by markers.

    `offsets` and `lengths` are the extended offset table (PS3.3 C.7.6.3.1.8), if any.
    Raises RejectError: FRAME_MISMATCH, TRUNCATED, HEADER_INVALID, NO_PIXEL_DATA.
    """
    parts = list(items(data))
    if len(parts) < 2:
        raise RejectError(Code.NO_PIXEL_DATA, "encapsulated pixel data without a fragment")
    (_, table_at, table_length), *parts = parts
    base = parts[0][0]
    starts = [at - base for at, _, _ in parts]
    fragments = [data[at : at + length] for _, at, length in parts]
    if len(offsets) == frames and set(offsets) <= set(starts):
        joined = _group(fragments, starts, offsets)
        if len(lengths) == frames:
            joined = [part[:length] for part, length in zip(joined, lengths, strict=True)]
        return joined
    table = list(struct.unpack_from(f"<{table_length // 4}L", data, table_at))
    usable = table[:1] == [0] and table == sorted(set(table)) and set(table) <= set(starts)
    if usable and len(table) == frames:
        return _group(fragments, starts, table)
    opens = [at for at, part in zip(starts, fragments, strict=True) if _opens_codestream(part)]
    if frames == 1 and len(opens) <= 1 and (len(table) <= 1 or not usable):
        return [b"".join(fragments)]
    if len(fragments) == frames:
        return fragments
    if len(opens) == frames and opens[0] == 0:
        return _group(fragments, starts, opens)
    found = len(table) if usable else len(opens) or len(fragments)
    raise RejectError(Code.FRAME_MISMATCH, f"{frames} frames announced, {found} found")


def _opens_codestream(fragment: bytes) -> bool:
    return fragment.startswith((b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\xff\x0a"))


def _group(fragments: list[bytes], starts: list[int], offsets: Sequence[int]) -> list[bytes]:
    """Join the fragments from each offset up to the next one; `starts` ascend."""
    edges = [bisect_left(starts, offset) for offset in offsets] + [len(starts)]
    return [b"".join(fragments[low:high]) for low, high in pairwise(edges)]


def split_native(data: bytes, frames: int, fmt: FrameFormat) -> list[bytes]:
    """Native pixel data → frames (PS3.5 8.1.1); frames of single bits are not byte aligned.

    Raises RejectError: TRUNCATED, FRAME_MISMATCH, SIZE_MISMATCH.
    """
    need = (fmt.frame_bits * frames + 7) // 8
    each = (fmt.frame_bits + 7) // 8
    if len(data) < need:
        whole = fmt.frame_bits % 8 == 0 and len(data) // each
        if whole and len(data) - whole * each <= 1:
            detail = f"{frames} frames announced, {whole} found"
            raise RejectError(Code.FRAME_MISMATCH, detail)
        raise RejectError(Code.TRUNCATED, f"pixel data: {len(data)} bytes of {need}")
    excess = data[need:]
    if len(excess) > 1 and (len(excess) >= each or excess.strip(excess[:1])):
        if len(excess) // each * each in (len(excess), len(excess) - 1):
            detail = f"{frames} frames announced, {len(data) // each} found"
            raise RejectError(Code.FRAME_MISMATCH, detail)
        detail = f"pixel data: {len(data)} bytes, {need} expected"
        raise RejectError(Code.SIZE_MISMATCH, detail)
    if fmt.frame_bits % 8 == 0:
        return [data[i * each : (i + 1) * each] for i in range(frames)]
    bits = np.unpackbits(np.frombuffer(data, np.uint8, need), bitorder="little")
    return [
        np.packbits(
            bits[i * fmt.frame_bits : (i + 1) * fmt.frame_bits], bitorder="little"
        ).tobytes()
        for i in range(frames)
    ]
