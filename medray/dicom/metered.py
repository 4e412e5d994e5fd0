"""Streams that bound the work of a parser, whatever the bytes make it do.

A parser cannot get on without reading, so its reads are what is counted: nothing here needs to
know how it understands the bytes. Owns: how many reads a file is worth, and inflation that goes
no further than the parser does. Must not know what a data element means but for one, the
Specific Character Set, which the parser converts while it reads.
"""

import zlib
from io import BytesIO
from typing import Any, NoReturn

import pydicom
from pydicom.charset import default_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.filereader import read_sequence

from medray.errors import Code, RejectError

# A data element takes two or three reads, an item three. The header of a real file of one frame
# takes 100 to 4,000 of them, a functional group (PS3.3 C.7.6.16) some 200 for each frame; a read
# costs pydicom 3 to 10 µs.
MIN_READS = 1 << 17
MAX_READS = 1 << 21
BYTES_PER_READ = 32  # a frame of 64 × 64 pixels of 16 bits brings 256 reads along

MAX_CHARACTER_SET_BYTES = 1 << 10  # a dozen defined terms of 16 characters, PS3.3 C.12.1.1.2
MAX_TEXT_BYTES = 1 << 14  # of a value that splits at backslashes
MAX_NUMBERS_BYTES = 1 << 18  # twice a look-up table of 65,536 words, PS3.3 C.11.1.1.1

_CHARACTER_SET = (b"\x08\x00\x05\x00", b"\x00\x08\x00\x05")  # (0008,0005), either byte order
# PS3.5 6.2: texts that split at backslashes (6.4), and arrays of numbers.
_SPLIT = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC", "UI"}
_NUMBERS = {"AT", "FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"}
_CHUNK = 1 << 16
_read = BytesIO.read  # a third faster than by way of super(), and it is called for each read


class Meter:
    """How many reads a parser has left for one file; all streams over its bytes share it."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        self.left = min(MIN_READS + size // BYTES_PER_READ, MAX_READS)

    def spend(self) -> None:
        """Count one read. Raises RejectError(TOO_LARGE) where none is left."""
        self.left -= 1
        if self.left < 0:
            raise RejectError(Code.TOO_LARGE, "the header has too many data elements")


class MeteredBytes(BytesIO):
    """Bytes that count their reads; past the meter a read raises RejectError.

    A parser may swallow that error: `check` raises it again.
    """

    def __init__(self, data: bytes, meter: Meter) -> None:
        super().__init__(data)
        self.meter = meter
        self._fault: RejectError | None = None
        self._character_set = False  # the last read was the head of (0008,0005)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read like any stream. Raises RejectError: TOO_LARGE, HEADER_INVALID."""
        meter = self.meter
        meter.left -= 1
        if meter.left < 0:
            self._refuse(Code.TOO_LARGE, "the header has too many data elements")
        data = _read(self, size)
        if size == 8:
            self._character_set = data.startswith(_CHARACTER_SET)
        elif self._character_set and size != 4:  # four bytes are the rest of a head
            self._character_set = False
            if len(data) > MAX_CHARACTER_SET_BYTES:
                self._refuse(Code.HEADER_INVALID, f"a Specific Character Set of {len(data)} bytes")
        return data

    def check(self) -> None:
        """Raise the RejectError of a read that was refused, if any was."""
        if self._fault is not None:
            raise self._fault

    def _refuse(self, code: Code, detail: str) -> NoReturn:
        self._fault = RejectError(code, detail)
        raise self._fault


class InflatingBytes(MeteredBytes):
    """Plain bytes `head`, then a deflated dataset (PS3.5 A.5), inflated only as far as is read.

    `limit` bounds the inflated bytes and may be raised. Some writers add a zlib header.
    Reads raise RejectError: TOO_LARGE past the limit, TRUNCATED, HEADER_INVALID if corrupt.
    """

    def __init__(self, head: bytes, body: bytes, meter: Meter, limit: int) -> None:
        super().__init__(head, meter)
        self.limit = limit
        self._body = body
        self._next = 0  # of the body
        self._size = len(head)  # of what can be read
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._begun = False  # some bytes were inflated, or the zlib header has been tried

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, inflating what is missing."""
        if size is None or size < 0:
            self.finish()
        elif (end := self.tell() + size) > self._size:
            self._reach(end)
        return super().read(size)

    def finish(self) -> None:
        """Inflate all of it. Raises RejectError as a read does."""
        self._reach(self.limit + 1)

    def _reach(self, end: int) -> None:
        """Inflate until `end` bytes can be read, or all that there are."""
        position = self.tell()
        self.seek(self._size)
        while self._size < end and not self._inflater.eof:
            plain = self._inflate(max(_CHUNK, end - self._size))
            self._size += self.write(plain)
            if self._size > self.limit and end > self.limit:
                self._refuse(Code.TOO_LARGE, f"inflates past {self.limit} bytes")
        self.seek(position)

    def _inflate(self, most: int) -> bytes:
        """Inflate at least a byte and at most `most`, unless it is the end."""
        while not self._inflater.eof:
            part = self._inflater.unconsumed_tail
            if not part:  # fed in pieces, because what is left over is copied each time
                part = self._body[self._next : self._next + _CHUNK]
                self._next += len(part)
            try:
                plain = self._inflater.decompress(part, most)
            except zlib.error:
                if self._begun:
                    self._refuse(Code.HEADER_INVALID, "the deflated dataset is corrupt")
                self._inflater, self._next, self._begun = zlib.decompressobj(), 0, True
                continue
            if plain:
                self._begun = True
                return plain
            if not part and not self._inflater.eof:
                self._refuse(Code.TRUNCATED, "the deflated dataset ends early")
        return b""


# ---------------------------------------------------------------- values, read when asked for


def converted(ds: pydicom.Dataset, keyword: str) -> Any:
    """Convert the value of an attribute; None if absent.

    Raises RejectError (TOO_LARGE, HEADER_INVALID) for a sequence past what its file may hold,
    ValueError for a value past any use; and whatever the parser raises.
    """
    tag = tag_for_keyword(keyword)
    element = None if tag is None else ds.get_item(tag)
    if element is None or tag is None:
        return None
    if isinstance(element, RawDataElement):
        vr = _vr_of(element)
        if vr == "SQ":
            ds[tag] = DataElement(tag, vr, _read_items(ds, element))
        elif _too_long(element, vr):
            raise ValueError(f"{keyword} is too long")
        element = ds[tag]
    if isinstance(element.value, pydicom.Sequence):
        _hand_on(element.value, getattr(ds, "meter", None))
    return element.value


def _too_long(element: RawDataElement, vr: str) -> bool:
    """Whether a value is far longer than any that is asked for, and takes long to convert."""
    size = len(element.value or b"")
    if vr in _SPLIT:
        return size > MAX_TEXT_BYTES
    return vr[:2] in _NUMBERS and size > MAX_NUMBERS_BYTES  # "US or SS" of PS3.6 among them


def _vr_of(element: RawDataElement) -> str:
    """Say a value representation as written, else as in PS3.6; UN if neither says one."""
    try:
        return element.VR or dictionary_VR(element.tag)
    except KeyError:
        return "UN"


def _read_items(ds: pydicom.Dataset, element: RawDataElement) -> pydicom.Sequence:
    """Read the items of a sequence of defined length, which the parser left as bytes.

    They draw on the meter of the file that `ds` is of.
    """
    value = element.value or b""
    meter = getattr(ds, "meter", None) or Meter(len(value))
    stream = MeteredBytes(value, meter)
    encoding = ds.original_character_set or default_encoding
    implicit, little = element.is_implicit_VR, element.is_little_endian
    try:
        found = read_sequence(stream, implicit, little, len(value), encoding)
    finally:
        stream.check()
    _hand_on(found, meter)
    return found


def _hand_on(items: pydicom.Sequence, meter: Meter | None) -> None:
    """Let what is nested in items be counted with the file that they are of."""
    if meter is None or not items or getattr(items[0], "meter", None) is meter:
        return
    for item in items:
        item.meter = meter
