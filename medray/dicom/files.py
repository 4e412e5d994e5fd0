"""Bytes of a file → a parsed dataset, with every fault a `RejectError`.

Owns: telling DICOM from other files, bounded inflation, truncation checks, silence, walking the
items of encapsulated pixel data. Cuts no frames (see frames). Must not know about paths.
"""

import struct
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from io import SEEK_CUR
from typing import Literal, TypeVar

import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset

from medray.dicom.codecs import DEFLATED, GE_PRIVATE
from medray.dicom.metered import InflatingBytes, Meter, MeteredBytes
from medray.errors import Code, RejectError

D = TypeVar("D", bound=pydicom.Dataset)
Kind = Literal["dicom", "dicom_no_preamble", "png", "jpeg", "zip", "other"]

MAX_INFLATED_BYTES = 1 << 30  # of a deflated dataset, PS3.5 A.5
MAX_INFLATED_HEADER_BYTES = 1 << 26  # of it, up to the pixel data
MAX_INFLATION = 128  # times its size; pictures come nowhere near, but for blank ones

_PREFIX = bytes(128) + b"DICM"  # PS3.10 7.1
_UNDEFINED = 0xFFFFFFFF
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())  # PS3.5 table 7.1-1
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})

_quiet_lock = threading.RLock()
_quiet_depth: list[int] = []  # not empty while the lock's holder is inside; guarded by it


@contextmanager
def quiet() -> Generator[None]:
    """Hold back pydicom's warnings, which may quote values of the header.

    The list of warning filters is one per process, so one thread at a time may change it;
    parsing holds the interpreter lock anyway. Decoding must stay outside.
    """
    with _quiet_lock:
        if _quiet_depth:  # swapping the filters again would only cost time
            yield
            return
        _quiet_depth.append(1)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            _quiet_depth.clear()


def sniff(head: bytes) -> Kind:
    """Tell the kind of a file from its first bytes (132 or more; fewer is `other` or worse)."""
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return "dicom_no_preamble" if _first_element_plausible(head) else "other"


def _first_element_plausible(head: bytes) -> bool:
    """Whether a file without preamble opens with an element of group 0002 or 0008."""
    if len(head) < 12:
        return False
    for order in "<>":
        group, element, length = struct.unpack_from(f"{order}HHL", head)
        if group not in (0x0002, 0x0008) or element > 0x1000:
            continue
        vr = head[4:6]
        if vr in _SHORT_VRS:
            return struct.unpack_from(f"{order}H", head, 6)[0] <= 1024
        if vr in _LONG_VRS:
            return head[6:8] == b"\0\0"
        # Implicit VR is little endian only, and its first element is short.
        if order == "<" and group == 0x0008 and length <= 256 and length % 2 == 0:
            return True
    return False


def parse(data: bytes, *, stop_before_pixels: bool = False) -> pydicom.Dataset:
    """Parse a whole file into a dataset; pixel data stays as bytes, encapsulated or native.

    `stop_before_pixels` leaves the pixel data out (and does not check that it is whole).

    Raises RejectError: EMPTY_FILE, NOT_DICOM, TRUNCATED, HEADER_INVALID, TOO_LARGE.
    """
    if not data:
        raise RejectError(Code.EMPTY_FILE, "0 bytes")
    kind = sniff(data[:512])
    if kind not in ("dicom", "dicom_no_preamble"):
        raise RejectError(Code.NOT_DICOM, "no DICM at byte 128 and no DICOM element at byte 0")
    try:
        with quiet():
            return _parse(data, kind, stop_before_pixels)
    except (RejectError, KeyboardInterrupt, SystemExit):
        raise
    except MemoryError:
        raise RejectError(Code.TOO_LARGE, "the header asks for more memory than there is") from None
    except (EOFError, OSError, struct.error) as fault:
        if isinstance(fault.__context__, RecursionError):  # the parser takes it for an end
            raise RejectError(Code.HEADER_INVALID, "sequences nested too deep") from None
        raise RejectError(Code.TRUNCATED, "the file ends inside a data element") from None
    except RecursionError:
        raise RejectError(Code.HEADER_INVALID, "sequences nested too deep") from None
    except BaseException as fault:  # extension modules raise BaseException too
        detail = f"the parser raised {type(fault).__name__}"
        raise RejectError(Code.HEADER_INVALID, detail) from None


def _parse(data: bytes, kind: Kind, stop_before_pixels: bool) -> pydicom.Dataset:
    start, meter = (132 if kind == "dicom" else 0), Meter(len(data))
    transfer_syntax_uid, meta_end = _file_meta(data, start, meter)
    stream = _stream_of(data, transfer_syntax_uid, meta_end, meter)
    dataset = _read(stream, lambda: pydicom.dcmread(stream, stop_before_pixels=True, force=True))
    if transfer_syntax_uid in (DEFLATED, GE_PRIVATE):
        meta = MeteredBytes(data[start:meta_end], meter)
        dataset.file_meta = FileMetaDataset(_read(meta, lambda: read_dataset(meta, False, True)))
    dataset.meter = meter  # sequences that are read later draw on it too
    _check_elements(dataset, kind)
    position = stream.tell()
    at_pixels = _tag_at(stream, dataset) in _PIXEL_TAGS
    if at_pixels and stop_before_pixels:
        return dataset
    if isinstance(stream, InflatingBytes):
        if at_pixels:
            most = max(MAX_INFLATED_HEADER_BYTES, MAX_INFLATION * len(data))
            stream.limit = min(MAX_INFLATED_BYTES, most)
        stream.finish()
    plain = stream.getvalue()
    if at_pixels:
        _add_pixel_data(dataset, plain, position, meter)
    else:
        _check_tail(dataset, plain)
    return dataset


def _read(stream: MeteredBytes, work: Callable[[], D]) -> D:
    """Let the parser work on a stream; what the stream refused counts, whatever became of it."""
    try:
        return work()
    finally:
        stream.check()


def _stream_of(data: bytes, syntax: str, meta_end: int, meter: Meter) -> MeteredBytes:
    """Bytes as the parser understands them: inflated as it goes, without a private syntax."""
    if syntax == DEFLATED:
        head = _as_syntax(b"1.2.840.10008.1.2.1\0")
        return InflatingBytes(head, data[meta_end:], meter, MAX_INFLATED_HEADER_BYTES)
    if syntax == GE_PRIVATE:  # implicit little endian but for the pixels
        return MeteredBytes(_as_syntax(b"1.2.840.10008.1.2\0") + data[meta_end:], meter)
    return MeteredBytes(data, meter)


def _file_meta(data: bytes, start: int, meter: Meter) -> tuple[str, int]:
    """Transfer Syntax UID ("" if absent) and the offset just past group 0002 (PS3.10 7.1)."""
    uid, at = "", start
    while at + 8 <= len(data) and data[at : at + 2] == b"\x02\x00":
        meter.spend()
        vr = data[at + 4 : at + 6]
        if vr in _LONG_VRS and at + 12 <= len(data):
            head, length = 12, struct.unpack_from("<L", data, at + 8)[0]
        elif vr in _SHORT_VRS:
            head, length = 8, struct.unpack_from("<H", data, at + 6)[0]
        else:
            break
        if data[at + 2 : at + 4] == b"\x10\x00":
            uid = data[at + head : at + head + length].decode("ascii", "replace").strip("\0 ")
        at += head + length
    return uid, min(at, len(data))


def _as_syntax(uid: bytes) -> bytes:
    """Make the head of a file of another transfer syntax, for the parser's eyes only."""
    return _PREFIX + struct.pack("<HH2sH", 2, 0x10, b"UI", len(uid)) + uid


def _check_elements(dataset: pydicom.Dataset, kind: Kind) -> None:
    """Refuse a dataset with nothing in it or with a value shorter than its length says."""
    if not len(dataset):
        if kind == "dicom_no_preamble":
            raise RejectError(Code.NOT_DICOM, "no data element could be read")
        raise RejectError(Code.TRUNCATED, "nothing after the file meta information")
    known = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "Modality", "Rows")
    if kind == "dicom_no_preamble" and not any(keyword in dataset for keyword in known):
        raise RejectError(Code.NOT_DICOM, "no preamble and no identifying attribute")
    before = 0
    for element in dataset.values():
        if (
            isinstance(element, RawDataElement)
            and element.length != _UNDEFINED
            and element.value is not None
            and len(element.value) < element.length
        ):
            if element.tag < before:  # a length further up was wrong
                raise RejectError(Code.HEADER_INVALID, "data elements out of order")
            raise RejectError(Code.TRUNCATED, f"the file ends inside {element.tag}")
        before = element.tag


def _check_tail(dataset: pydicom.Dataset, data: bytes) -> None:
    """Refuse a file whose last bytes are a part of a data element's header."""
    last = list(dataset.values())[-1]
    if not isinstance(last, RawDataElement) or last.length == _UNDEFINED:
        return
    rest = data[last.value_tell + last.length :]
    if 0 < len(rest) < 8 and rest.strip(b"\0"):
        raise RejectError(Code.TRUNCATED, "the file ends inside a data element's header")


def _tag_at(stream: MeteredBytes, dataset: pydicom.Dataset) -> int | None:
    """Look at the tag that comes next, without reading on."""
    head = stream.read(8)
    stream.seek(-len(head), SEEK_CUR)
    if len(head) < 8:
        return None
    order = ">" if dataset.original_encoding[1] is False else "<"
    group, element = struct.unpack_from(f"{order}HH", head)
    return group << 16 | element


def _add_pixel_data(dataset: pydicom.Dataset, data: bytes, at: int, meter: Meter) -> None:
    """Add the pixel data element, walking its items by length (PS3.5 A.4).

    A parser that searches for the delimiter stops early where a codestream contains its bytes.
    """
    implicit, little = dataset.original_encoding
    order = ">" if little is False else "<"
    group, element = struct.unpack_from(f"{order}HH", data, at)
    vr = "OW" if implicit else data[at + 4 : at + 6].decode("ascii", "replace")
    if implicit or vr.encode() not in _LONG_VRS | _SHORT_VRS:
        vr, start = "OW", at + 8
        length = struct.unpack_from(f"{order}L", data, at + 4)[0]
    elif vr.encode() in _LONG_VRS:
        start = at + 12
        length = struct.unpack_from(f"{order}L", data, at + 8)[0]
    else:
        start = at + 8
        length = struct.unpack_from(f"{order}H", data, at + 6)[0]
    undefined = length == _UNDEFINED
    end = start + length
    if undefined:
        end = start
        for _, value_start, item_length in items(data, start):
            meter.spend()
            end = value_start + item_length
    if end > len(data):
        detail = f"pixel data: {len(data) - start} bytes of {end - start}"
        raise RejectError(Code.TRUNCATED, detail)
    vr = vr if vr in ("OB", "OW", "OF", "OD") else "OW"
    dataset[group << 16 | element] = DataElement(
        group << 16 | element, vr, data[start:end], is_undefined_length=undefined
    )


def items(data: bytes, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """Walk encapsulated items up to the sequence delimiter (PS3.5 A.4).

    Yields (offset of the item's tag, offset of its value, length of its value). A missing
    delimiter after a whole item is forgiven. Raises RejectError(TRUNCATED or HEADER_INVALID).
    """
    at = start
    while at + 8 <= len(data):
        tag, length = data[at : at + 4], struct.unpack_from("<L", data, at + 4)[0]
        if tag == b"\xfe\xff\xdd\xe0":
            return
        if tag != b"\xfe\xff\x00\xe0":
            if at > start and not data[at:].strip(b"\0"):
                return  # zeros after the last item
            raise RejectError(Code.HEADER_INVALID, "pixel data is not made of items")
        if length == 0xFFFFFFFF or at + 8 + length > len(data):
            raise RejectError(Code.TRUNCATED, "the file ends inside a fragment of pixel data")
        yield at, at + 8, length
        at += 8 + length
    if data[at:].strip(b"\0"):
        raise RejectError(Code.TRUNCATED, "the file ends inside the header of a fragment")
