"""Arrays → valid minimal DX, CR, CT or US instances, byte for byte the same every time.

Owns: the attributes that such an object must have (PS3.3 A.2, A.3, A.6, A.26) and encoding in
the lossless transfer syntaxes. For the demo's archive and for tests; not for clinical results.
"""

import struct
import zlib
from collections.abc import Mapping
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from medray.dicom.codecs import DEFLATED, codec_of
from medray.errors import UsageError

Array = npt.NDArray[Any]

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED_LE = DEFLATED
RLE_LOSSLESS = "1.2.840.10008.1.2.5"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
WRITABLE = (
    IMPLICIT_LE,
    EXPLICIT_LE,
    DEFLATED_LE,
    RLE_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_2000_LOSSLESS,
)

SOP_CLASSES = {  # PS3.4 B.5
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
}

# UID of medray's own writer, under the UUID root 2.25 (PS3.5 B.2)
IMPLEMENTATION_UID = "2.25.180146341932236117263487031420164817511"

Text = str | int | float
_Elements = dict[int, tuple[str, Text]]


def write_instance(
    pixels: Array,
    *,
    sop_instance_uid: str,
    study_instance_uid: str,
    series_instance_uid: str,
    patient_id: str,
    modality: str = "DX",
    transfer_syntax_uid: str = EXPLICIT_LE,
    bits_stored: int | None = None,
    photometric_interpretation: str = "MONOCHROME2",
    rescale: tuple[float, float] | None = None,
    window: tuple[float, float] | None = None,
    pixel_spacing_mm: tuple[float, float] | None = None,
    patient: Mapping[str, str] | None = None,
    study_date: str = "20200101",
) -> bytes:
    """Write one image (H,W) as a DICOM file.

    pixels            uint8, int8, uint16 or int16 stored values, within `bits_stored`
    bits_stored       absent: all bits of the dtype
    rescale           (slope, intercept); window: (center, width), both in modality units
    patient           further attributes by keyword, from `PATIENT_ATTRIBUTES`
    study_date        YYYYMMDD

    Raises UsageError for what cannot be written.
    """
    bits = bits_stored or pixels.dtype.itemsize * 8
    _check(pixels, bits, modality, transfer_syntax_uid, photometric_interpretation)
    sop_class = SOP_CLASSES[modality]
    elements = _image_elements(pixels, bits, photometric_interpretation)
    elements |= {
        0x00080008: ("CS", "ORIGINAL\\PRIMARY" + ("\\AXIAL" if modality == "CT" else "")),
        0x00080016: ("UI", sop_class),
        0x00080018: ("UI", sop_instance_uid),
        0x00080020: ("DA", study_date),
        0x00080060: ("CS", modality),
        0x00100020: ("LO", patient_id),
        0x0020000D: ("UI", study_instance_uid),
        0x0020000E: ("UI", series_instance_uid),
    }
    for keyword, value in (patient or {}).items():
        if keyword not in PATIENT_ATTRIBUTES:
            raise UsageError(f"patient: {keyword!r} is not one of {sorted(PATIENT_ATTRIBUTES)}")
        tag, vr = PATIENT_ATTRIBUTES[keyword]
        elements[tag] = (vr, value)
    elements |= _modality_elements(modality, photometric_interpretation)
    elements |= _numbers(0x00281052, 0x00281053, rescale, flip=True)
    elements |= _numbers(0x00281050, 0x00281051, window)
    if rescale is not None:
        elements[0x00281054] = ("LO", "HU" if modality == "CT" else "US")
    if pixel_spacing_mm is not None:
        tag = 0x00181164 if modality in ("DX", "CR") else 0x00280030
        elements[tag] = ("DS", "\\".join(_decimal(value) for value in pixel_spacing_mm))
    body = _encode_dataset(elements, pixels, bits, transfer_syntax_uid)
    return bytes(128) + b"DICM" + _meta(sop_class, sop_instance_uid, transfer_syntax_uid) + body


# Keyword → tag, VR (PS3.6)
PATIENT_ATTRIBUTES: dict[str, tuple[int, str]] = {
    "AccessionNumber": (0x00080050, "SH"),
    "StudyDescription": (0x00081030, "LO"),
    "Manufacturer": (0x00080070, "LO"),
    "ManufacturerModelName": (0x00081090, "LO"),
    "InstitutionName": (0x00080080, "LO"),
    "PatientName": (0x00100010, "PN"),
    "IssuerOfPatientID": (0x00100021, "LO"),
    "PatientBirthDate": (0x00100030, "DA"),
    "PatientSex": (0x00100040, "CS"),
    "PatientAge": (0x00101010, "AS"),
    "BodyPartExamined": (0x00180015, "CS"),
    "ViewPosition": (0x00185101, "CS"),
    "StudyID": (0x00200010, "SH"),
    "SeriesNumber": (0x00200011, "IS"),
    "InstanceNumber": (0x00200013, "IS"),
    "BurnedInAnnotation": (0x00280301, "CS"),
}


def _check(
    pixels: Array, bits: int, modality: str, transfer_syntax_uid: str, photometric: str
) -> None:
    """Refuse what no file could say. Raises UsageError."""
    if pixels.ndim != 2 or pixels.dtype.name not in ("uint8", "int8", "uint16", "int16"):
        raise UsageError(f"pixels: (H,W) of 8 or 16 bits expected, got {pixels.dtype}")
    if not 0 < min(pixels.shape) <= max(pixels.shape) <= 0xFFFF:
        raise UsageError(f"pixels: 1 to 65535 rows and columns expected, got {pixels.shape}")
    if modality not in SOP_CLASSES:
        raise UsageError(f"modality: one of {sorted(SOP_CLASSES)} expected, got {modality!r}")
    if transfer_syntax_uid not in WRITABLE:
        raise UsageError(f"transfer_syntax_uid: cannot write {transfer_syntax_uid}")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise UsageError(f"photometric_interpretation: cannot write {photometric!r}")
    if not 2 <= bits <= pixels.dtype.itemsize * 8:
        raise UsageError(f"bits_stored: 2 to {pixels.dtype.itemsize * 8} expected, got {bits}")
    signed = pixels.dtype.kind == "i"
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if int(pixels.min()) < low or int(pixels.max()) > high:
        raise UsageError(f"pixels: values outside {low}..{high}, which {bits} bits hold")


def _image_elements(pixels: Array, bits: int, photometric: str) -> _Elements:
    """Collect the image pixel module (PS3.3 C.7.6.3) and what every file has, empty or fixed."""
    return {
        0x00080005: ("CS", "ISO_IR 192"),
        0x00080030: ("TM", "000000"),
        0x00080050: ("SH", ""),
        0x00080070: ("LO", "medray"),
        0x00080090: ("PN", ""),
        0x00100010: ("PN", ""),
        0x00100030: ("DA", ""),
        0x00100040: ("CS", ""),
        0x00200010: ("SH", "1"),
        0x00200011: ("IS", "1"),
        0x00200013: ("IS", "1"),
        0x00280002: ("US", 1),
        0x00280004: ("CS", photometric),
        0x00280010: ("US", pixels.shape[0]),
        0x00280011: ("US", pixels.shape[1]),
        0x00280100: ("US", pixels.dtype.itemsize * 8),
        0x00280101: ("US", bits),
        0x00280102: ("US", bits - 1),
        0x00280103: ("US", int(pixels.dtype.kind == "i")),
        0x00280301: ("CS", "NO"),
    }


def _modality_elements(modality: str, photometric: str) -> _Elements:
    """Type 1 and 2 attributes of the modality's own modules, as far as constants can say."""
    if modality == "CT":
        return {
            0x00180060: ("DS", ""),
            0x00180050: ("DS", ""),
            0x00200012: ("IS", ""),
            0x00200032: ("DS", "0\\0\\0"),
            0x00200037: ("DS", "1\\0\\0\\0\\1\\0"),
            0x00281052: ("DS", "0"),
            0x00281053: ("DS", "1"),
        }
    if modality == "DX":
        shape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
        return {0x00080068: ("CS", "FOR PRESENTATION"), 0x20500020: ("CS", shape)}
    return {}


def _numbers(
    first: int, second: int, pair: tuple[float, float] | None, *, flip: bool = False
) -> _Elements:
    if pair is None:
        return {}
    a, b = (pair[1], pair[0]) if flip else pair
    return {first: ("DS", _decimal(a)), second: ("DS", _decimal(b))}


def _decimal(value: float) -> str:
    """Write a Decimal String of at most 16 characters (PS3.5 6.2)."""
    text = f"{value:.10g}"
    return text if len(text) <= 16 else f"{value:.8g}"


# ---------------------------------------------------------------- encoding


def _meta(sop_class: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """File meta information (PS3.10 7.1), always explicit little endian."""
    uids = {2: sop_class, 3: sop_instance_uid, 0x10: transfer_syntax_uid, 0x12: IMPLEMENTATION_UID}
    rest = _element(0x00020001, "OB", b"\0\1", implicit=False)
    for element, uid in uids.items():
        rest += _element(0x00020000 | element, "UI", _value("UI", uid), implicit=False)
    rest += _element(0x00020013, "SH", _value("SH", "MEDRAY"), implicit=False)
    return _element(0x00020000, "UL", struct.pack("<L", len(rest)), implicit=False) + rest


def _encode_dataset(
    elements: _Elements, pixels: Array, bits: int, transfer_syntax_uid: str
) -> bytes:
    implicit = transfer_syntax_uid == IMPLICIT_LE
    body = b"".join(
        _element(tag, vr, _value(vr, value), implicit=implicit)
        for tag, (vr, value) in sorted(elements.items())
    )
    body += _pixel_data(pixels, bits, transfer_syntax_uid, implicit)
    if transfer_syntax_uid != DEFLATED_LE:
        return body
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = deflater.compress(body) + deflater.flush()
    return deflated + b"\0" * (len(deflated) % 2)


def _value(vr: str, value: Text) -> bytes:
    """Encode a value to an even number of bytes (PS3.5 6.2)."""
    if vr == "US":
        return struct.pack("<H", int(value))
    data = str(value).encode()
    return data + (b"\0" if vr == "UI" else b" ") * (len(data) % 2)


def _element(tag: int, vr: str, value: bytes, *, implicit: bool, undefined: bool = False) -> bytes:
    """Encode a data element (PS3.5 7.1)."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    length = 0xFFFFFFFF if undefined else len(value)
    if implicit:
        return head + struct.pack("<L", length) + value
    if vr in ("OB", "OW"):
        return head + struct.pack("<2s2xL", vr.encode(), length) + value
    return head + struct.pack("<2sH", vr.encode(), length) + value


def _pixel_data(pixels: Array, bits: int, transfer_syntax_uid: str, implicit: bool) -> bytes:
    if not codec_of(transfer_syntax_uid).encapsulated:
        data = _masked(pixels, bits).tobytes()
        vr = "OW" if implicit or pixels.dtype.itemsize > 1 else "OB"
        return _element(0x7FE00010, vr, data + b"\0" * (len(data) % 2), implicit=implicit)
    frame = _encode_frame(pixels, bits, transfer_syntax_uid)
    frame += b"\0" * (len(frame) % 2)
    value = struct.pack("<HHLL", 0xFFFE, 0xE000, 4, 0)  # basic offset table
    value += struct.pack("<HHL", 0xFFFE, 0xE000, len(frame)) + frame
    value += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    return _element(0x7FE00010, "OB", value, implicit=False, undefined=True)


def _masked(pixels: Array, bits: int) -> Array:
    """Stored values as unsigned little endian words with nothing above Bits Stored."""
    words = np.ascontiguousarray(pixels).view(f"u{pixels.dtype.itemsize}")
    return (words & words.dtype.type((1 << bits) - 1)).astype(f"<u{pixels.dtype.itemsize}")


def _encode_frame(pixels: Array, bits: int, transfer_syntax_uid: str) -> bytes:
    words = _masked(pixels, bits)
    if transfer_syntax_uid == RLE_LOSSLESS:
        return _rle(words)
    if transfer_syntax_uid == JPEG_LS_LOSSLESS:
        return bytes(imagecodecs.jpegls_encode(words))
    if transfer_syntax_uid == JPEG_LOSSLESS_SV1:
        return bytes(
            imagecodecs.jpeg8_encode(words, lossless=True, predictor=1, bitspersample=bits)
        )
    signed = pixels.dtype.kind == "i"
    return bytes(
        imagecodecs.jpeg2k_encode(
            np.ascontiguousarray(pixels) if signed else words,
            level=0,
            codecformat="j2k",
            reversible=True,
            bitspersample=bits,
            resolutions=max(1, min(6, int(min(pixels.shape)).bit_length())),
        )
    )


def _rle(words: Array) -> bytes:
    """Encode byte planes, most significant first, row by row (PS3.5 annex G)."""
    size = words.dtype.itemsize
    planes = words.view(np.uint8).reshape(*words.shape, size)
    segments: list[bytes] = []
    for plane in range(size - 1, -1, -1):
        rows = (np.ascontiguousarray(row).tobytes() for row in planes[..., plane])
        segment = b"".join(bytes(imagecodecs.packbits_encode(row)) for row in rows)
        segments.append(segment + b"\0" * (len(segment) % 2))
    offsets = [64 + sum(map(len, segments[:i])) for i in range(len(segments))]
    header = struct.pack("<16L", len(segments), *offsets, *[0] * (15 - len(offsets)))
    return header + b"".join(segments)
