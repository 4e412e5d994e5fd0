"""Files that are broken on purpose: headers that lie, bombs, cut off, nested without end.

Each is made of a good uncompressed file by what the standard says of files (PS3.5, PS3.10).
"""

import struct
import zlib

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
JPEG_SV1, JPEG_LS = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
_LONG = (b"OB", b"OW", b"SQ", b"UN", b"UT")  # VRs with a length of 32 bits (PS3.5 7.1.2)
_UNDEFINED = 0xFFFFFFFF


def constructed(good: bytes) -> dict[str, bytes]:
    """Name → file, of a good single-frame file in Explicit VR Little Endian."""
    elements = _elements(good)
    bomb = zlib.compressobj(9, wbits=-15)
    zeros = bytes(1 << 20)
    inflated = b"".join(bomb.compress(zeros) for _ in range(512)) + bomb.flush()
    deep = b"".join(_element(0x00081140, b"SQ", b"", _UNDEFINED) + _item() for _ in range(3000))
    return {
        "zero bytes": b"",
        "a text": b"not a picture " * 50,
        "preamble alone": bytes(128) + b"DICM",
        "cut in the meta header": good[:150],
        "cut in the header": good[:600],
        "cut in the pixels": good[: len(good) // 2],
        "no preamble": good[132:],
        "rows too few": _file(elements | {0x00280010: (b"US", _us(5))}),
        "rows and columns 65535": _file(
            elements | {0x00280010: (b"US", _us(65535)), 0x00280011: (b"US", _us(65535))}
        ),
        "rows zero": _file(elements | {0x00280010: (b"US", _us(0))}),
        "ten frames that are one": _file(elements | {0x00280008: (b"IS", b"10")}),
        "frames not a number": _file(elements | {0x00280008: (b"IS", b"many")}),
        "billions of frames": _file(elements | {0x00280008: (b"IS", b"2147483647 ")}),
        "bits 77": _file(elements | {0x00280100: (b"US", _us(77))}),
        "samples 200": _file(elements | {0x00280002: (b"US", _us(200))}),
        "photometric unheard of": _file(elements | {0x00280004: (b"CS", b"PLAID ")}),
        "no pixel data": _file({tag: one for tag, one in elements.items() if tag != 0x7FE00010}),
        "no image attributes": _file({tag: one for tag, one in elements.items() if tag >> 16 == 8}),
        "element of 4 GiB": _file(elements, tail=_element(0x7FE10010, b"OB", b"", 0xFFFFFFF0)),
        "value representation ??": _file(elements | {0x00181030: (b"??", b"XXXX")}),
        "3000 sequences deep": _file({}, head=deep),
        "sequence without end": _file(
            elements, tail=_element(0x7FE10010, b"SQ", b"", _UNDEFINED) + _item()
        ),
        "deflated bomb": _meta(DEFLATED) + inflated,
        "deflated noise": _meta(DEFLATED) + bytes(range(256)) * 40,
        "unknown transfer syntax": _meta("1.2.3.4.5.6") + good[400:],
        "encapsulated without items": _encapsulated(elements, RLE, []),
        "run lengths beyond the end": _encapsulated(elements, RLE, [_rle()]),
        "JPEG of 65000 by 65000": _encapsulated(elements, JPEG_SV1, [_sof(0xC3)]),
        "JPEG-LS of 65000 by 65000": _encapsulated(elements, JPEG_LS, [_sof(0xF7)]),
        "JPEG 2000 of 60000 by 60000": _encapsulated(elements, JPEG_2000, [_siz()]),
        "JPEG 2000 of noise": _encapsulated(elements, JPEG_2000, [bytes(range(256)) * 8]),
        "PNG of 60000 by 60000": _png(60_000, 60_000),
        "PNG cut off": _png(64, 64)[:-20],
        "JPEG of nothing": b"\xff\xd8\xff\xe0" + bytes(40),
        "a ZIP that is cut": b"PK\x03\x04" + bytes(60),
    }


Elements = dict[int, tuple[bytes, bytes]]
"""Tag → value representation and value."""


def _elements(good: bytes) -> Elements:
    """The dataset of a file (PS3.5 7.1.2), without what lies in group 2."""
    found: Elements = {}
    at = 132
    while at < len(good):
        group, element, vr = struct.unpack_from("<HH2s", good, at)
        long = vr in _LONG
        (size,) = struct.unpack_from("<L" if long else "<H", good, at + (8 if long else 6))
        start = at + (12 if long else 8)
        if group != 2:
            found[group << 16 | element] = (vr, good[start : start + size])
        at = start + size
    return found


def _element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    size = len(value) if length is None else length
    long = vr in _LONG
    return head + (struct.pack("<HL", 0, size) if long else struct.pack("<H", size)) + value


def _item() -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, _UNDEFINED)


def _meta(syntax: str) -> bytes:
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    return bytes(128) + b"DICM" + _element(0x00020010, b"UI", uid)


def _file(elements: Elements, head: bytes = b"", tail: bytes = b"") -> bytes:
    body = b"".join(_element(tag, *elements[tag]) for tag in sorted(elements))
    return _meta(EXPLICIT) + head + body + tail


def _encapsulated(elements: Elements, syntax: str, fragments: list[bytes]) -> bytes:
    """PS3.5 A.4: an empty offset table, fragments, a delimiter."""
    rest = {tag: one for tag, one in elements.items() if tag != 0x7FE00010}
    parts = [b"", *fragments] if fragments else []
    data = b"".join(
        struct.pack("<HHL", 0xFFFE, 0xE000, len(one) + len(one) % 2) + one + b"\0" * (len(one) % 2)
        for one in parts
    )
    data += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    body = b"".join(_element(tag, *rest[tag]) for tag in sorted(rest))
    return _meta(syntax) + body + _element(0x7FE00010, b"OB", data, _UNDEFINED)


def _us(value: int) -> bytes:
    return struct.pack("<H", value)


def _rle() -> bytes:
    """PS3.5 G.5: two segments, the second far behind the end."""
    return struct.pack("<16L", 2, 64, 1 << 30, *[0] * 13) + bytes([129, 7] * 20)


def _sof(marker: int) -> bytes:
    """A JPEG whose frame says 65000 by 65000 (ISO/IEC 10918-1 B.2.2), and no scan."""
    frame = struct.pack(">BHHB3B", 12, 65000, 65000, 1, 1, 0x11, 0)
    head = b"\xff\xd8" + bytes([0xFF, marker]) + struct.pack(">H", 2 + len(frame)) + frame
    scan = struct.pack(">B2B3B", 1, 1, 0, 1, 0, 0)
    return head + b"\xff\xda" + struct.pack(">H", 2 + len(scan)) + scan + bytes(200) + b"\xff\xd9"


def _siz() -> bytes:
    """A codestream whose SIZ says 60000 by 60000 (ISO/IEC 15444-1 A.5.1), and nothing behind it."""
    size = struct.pack(">H8LH3B", 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0, 1, 11, 1, 1)
    return b"\xff\x4f\xff\x51" + struct.pack(">H", 2 + len(size)) + size + bytes(100)


def _png(width: int, height: int) -> bytes:
    """A grey PNG whose pixels are far fewer than it says, where it is large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">L", len(data)) + whole + struct.pack(">L", zlib.crc32(whole))

    rows = zlib.compress((b"\0" + bytes(64)) * 64)
    head = struct.pack(">2L5B", width, height, 8, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
