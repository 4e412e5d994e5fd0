"""Builders of small valid and broken files, from the standard rather than from the code."""

import struct

IDS = {
    "sop_instance_uid": "1.2.3.4",
    "study_instance_uid": "1.2.3.5",
    "series_instance_uid": "1.2.3.6",
    "patient_id": "P1",
}


def element(tag: int, vr: str, value: bytes, *, length: int | None = None) -> bytes:
    """An explicit little endian data element (PS3.5 7.1.2)."""
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode())
    size = len(value) if length is None else length
    if vr in ("OB", "OW", "SQ", "UN"):
        return head + struct.pack("<HL", 0, size) + value
    return head + struct.pack("<H", size) + value


def file_of(*elements: bytes, syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    """A DICOM file of data elements, already encoded and in order."""
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    return bytes(128) + b"DICM" + element(0x00020010, "UI", uid) + b"".join(elements)


def us(tag: int, *values: int) -> bytes:
    return element(tag, "US", struct.pack(f"<{len(values)}H", *values))


def image_file(
    pixel_data: bytes,
    *,
    rows: int,
    columns: int,
    extra: tuple[bytes, ...] = (),
    samples: int = 1,
    allocated: int = 8,
    stored: int | None = None,
    high: int | None = None,
    signed: int = 0,
    photometric: str = "MONOCHROME2",
    frames: str | None = None,
    syntax: str = "1.2.840.10008.1.2.1",
    vr: str = "OW",
    encapsulated: bool = False,
) -> bytes:
    """A secondary capture with the given image pixel module; `extra` elements are sorted in."""
    stored = stored or allocated
    text = photometric + " " * (len(photometric) % 2)
    parts = [
        element(0x00080016, "UI", b"1.2.840.10008.5.1.4.1.1.7\0"),
        us(0x00280002, samples),
        element(0x00280004, "CS", text.encode()),
        us(0x00280010, rows),
        us(0x00280011, columns),
        us(0x00280100, allocated),
        us(0x00280101, stored),
        us(0x00280102, stored - 1 if high is None else high),
        us(0x00280103, signed),
        *extra,
    ]
    if frames is not None:
        parts.append(element(0x00280008, "IS", frames.encode() + b" " * (len(frames) % 2)))
    parts.sort(key=lambda part: struct.unpack_from("<HH", part))
    length = 0xFFFFFFFF if encapsulated else None
    parts.append(element(0x7FE00010, vr, pixel_data, length=length))
    return file_of(*parts, syntax=syntax)


def items(*fragments: bytes, table: tuple[int, ...] = ()) -> bytes:
    """Encapsulated pixel data (PS3.5 A.4): offset table, fragments, delimiter."""
    out = struct.pack("<HHL", 0xFFFE, 0xE000, 4 * len(table))
    out += struct.pack(f"<{len(table)}L", *table)
    for fragment in fragments:
        out += struct.pack("<HHL", 0xFFFE, 0xE000, len(fragment)) + fragment
    return out + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
