"""The attributes of an instance that tables and the pixel pipeline need.

Owns: reading header values without ever trusting them, and deciding whether an instance can
become a picture. Descriptive attributes with odd values are None; pixel attributes with odd
values are a `RejectError` when the picture is asked for, never before.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

from medray.dicom.codecs import FrameFormat
from medray.dicom.files import quiet
from medray.dicom.metered import converted
from medray.errors import Code, RejectError

Scalar = str | int | float | None
Spacing = tuple[float, float]  # between rows, between columns; mm

# Storage SOP classes whose objects are pictures (PS3.6 table A-1; PS3.4 B.5). The others that
# carry pixels are listed below; every further class has none.
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_IMAGE_TAILS = """
    1 1.1 1.1.1 1.2 1.2.1 1.3 1.3.1 2 2.1 2.2 3 3.1 4 4.1 4.3 4.4 5 6 6.1 6.2 6.3 7 7.1 7.2 7.3
    7.4 12.1 12.1.1 12.2 12.2.1 12.3 13.1.1 13.1.2 13.1.3 13.1.4 13.1.5 14.1 14.2 20 77.1 77.1.1
    77.1.1.1 77.1.2 77.1.2.1 77.1.4 77.1.4.1 77.1.5.1 77.1.5.2 77.1.5.4 77.1.5.5 77.1.5.6 77.1.6
    77.1.7 77.1.8 128 128.1 130 481.1
"""
IMAGE_CLASSES = frozenset(_STORAGE + tail for tail in _IMAGE_TAILS.split())
DERIVED_CLASSES = {
    _STORAGE + "30": "parametric map",
    _STORAGE + "66.4": "segmentation",
    _STORAGE + "66.7": "label map segmentation",
    _STORAGE + "66.8": "height map segmentation",
    _STORAGE + "481.2": "RT dose",
}
_DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
_DERIVED_MODALITIES = {"SEG": "segmentation", "RTDOSE": "RT dose"}


class _Invalid:
    """A value that is present but cannot be what its attribute says."""


INVALID = _Invalid()
Number = int | None | _Invalid


@dataclass(frozen=True, slots=True)
class Instance:
    """One SOP instance's header; None where absent or, for descriptive text, unreadable.

    The integers of the image pixel module are `INVALID` where present but impossible.
    `has_pixel_data` is None when only the header was parsed.
    """

    sop_instance_uid: str | None
    sop_class_uid: str | None
    study_instance_uid: str | None
    series_instance_uid: str | None
    transfer_syntax_uid: str | None
    modality: str | None
    patient_id: str | None
    issuer_of_patient_id: str | None
    accession_number: str | None
    patient_sex: str | None
    patient_age_years: float | None
    study_date: str | None  # YYYYMMDD
    manufacturer: str | None
    manufacturer_model_name: str | None
    burned_in_annotation: str | None
    photometric_interpretation: str | None
    rows: Number
    columns: Number
    samples_per_pixel: Number
    bits_allocated: Number
    bits_stored: Number
    high_bit: Number
    pixel_representation: Number
    number_of_frames: Number
    planar_configuration: Number
    is_directory: bool
    has_pixel_data: bool | None
    has_float_pixel_data: bool


def value_of(ds: pydicom.Dataset, keyword: str) -> Any:
    """Read an attribute: None if absent or empty, INVALID if it cannot be converted.

    Raises RejectError(TOO_LARGE or HEADER_INVALID) for a sequence past what its file may hold.
    """
    with quiet():
        return _value_of(ds, keyword)


def _value_of(ds: pydicom.Dataset, keyword: str) -> Any:
    """Read an attribute as `value_of` does, inside `quiet`, which costs as much as the reading."""
    try:
        value = converted(ds, keyword)
    except (KeyboardInterrupt, SystemExit, MemoryError, RejectError):
        raise
    except BaseException:  # a value conversion may raise anything; recorded as INVALID
        return INVALID
    if value is None or (isinstance(value, str | MultiValue | bytes) and len(value) == 0):
        return None
    return value


def instance_of(ds: pydicom.Dataset, *, header_only: bool = False) -> Instance:
    """Read an instance's attributes; never raises for odd values.

    `header_only`: `ds` was parsed without its pixel data, so its absence means nothing.
    """
    with quiet():
        read: dict[str, Any] = {name: _text(ds, keyword) for name, keyword in _TEXTS.items()}
        read |= {name: _integer(_value_of(ds, keyword)) for name, keyword in _INTEGERS.items()}
        return Instance(
            **read,
            transfer_syntax_uid=transfer_syntax_of(ds),
            patient_age_years=_age_years(ds),
            study_date=_date_text(_text(ds, "StudyDate")),
            is_directory="DirectoryRecordSequence" in ds,
            has_pixel_data=None if header_only else _value_of(ds, "PixelData") is not None,
            has_float_pixel_data="FloatPixelData" in ds or "DoubleFloatPixelData" in ds,
        )


_TEXTS = {
    "sop_instance_uid": "SOPInstanceUID",
    "sop_class_uid": "SOPClassUID",
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
    "modality": "Modality",
    "patient_id": "PatientID",
    "issuer_of_patient_id": "IssuerOfPatientID",
    "accession_number": "AccessionNumber",
    "patient_sex": "PatientSex",
    "manufacturer": "Manufacturer",
    "manufacturer_model_name": "ManufacturerModelName",
    "burned_in_annotation": "BurnedInAnnotation",
    "photometric_interpretation": "PhotometricInterpretation",
}
_INTEGERS = {
    "rows": "Rows",
    "columns": "Columns",
    "samples_per_pixel": "SamplesPerPixel",
    "bits_allocated": "BitsAllocated",
    "bits_stored": "BitsStored",
    "high_bit": "HighBit",
    "pixel_representation": "PixelRepresentation",
    "number_of_frames": "NumberOfFrames",
    "planar_configuration": "PlanarConfiguration",
}


def transfer_syntax_of(ds: pydicom.Dataset) -> str | None:
    """Read the transfer syntax, or the native one that the parser found, for want of it."""
    meta = getattr(ds, "file_meta", None)
    uid = value_of(meta, "TransferSyntaxUID") if meta is not None else None
    if isinstance(uid, str) and uid.strip():
        return uid.strip()
    implicit, little = ds.original_encoding
    if implicit is None or little is None:
        return None
    if implicit:
        return "1.2.840.10008.1.2"
    return "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def _text(ds: pydicom.Dataset, keyword: str) -> str | None:
    value = _value_of(ds, keyword)
    if value is None or value is INVALID:
        return None
    if isinstance(value, MultiValue):
        value = value[0]
    try:
        text = str(value).replace("\0", "").strip()
    except ValueError:
        return None
    return text or None


def _integer(value: Any) -> Number:
    if value is None or value is INVALID:
        return value
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return INVALID
    return number if number >= 0 else INVALID


def _date_text(text: str | None) -> str | None:
    """YYYYMMDD of a DA value, which old writers give dots (PS3.5 6.2); None if not a date."""
    digits = (text or "").replace(".", "")
    return digits if _as_date(digits) else None


def _as_date(text: str | None) -> date | None:
    if not text or not re.fullmatch(r"\d{8}", text, re.ASCII):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


_DAYS = {"Y": 365.25, "M": 365.25 / 12, "W": 7.0, "D": 1.0}  # Age String, PS3.5 6.2


def _age_years(ds: pydicom.Dataset) -> float | None:
    """Patient's Age, else from the birth and study dates; years."""
    found = re.fullmatch(r"(\d{1,3})([YMWD])", _text(ds, "PatientAge") or "", re.ASCII)
    if found:
        return int(found[1]) * _DAYS[found[2]] / 365.25
    birth = _as_date(_date_text(_text(ds, "PatientBirthDate")))
    study = _as_date(_date_text(_text(ds, "StudyDate")))
    if birth is None or study is None or study < birth:
        return None
    return (study - birth).days / 365.25


def attribute(ds: pydicom.Dataset, keyword: str) -> Scalar:
    r"""Read an attribute as a column: text, integer or float; several values joined by `\`.

    None if absent, unreadable, a sequence or bulk data. Raises ValueError if `keyword` is not in
    the data dictionary (PS3.6).
    """
    if tag_for_keyword(keyword) is None:
        raise ValueError(f"{keyword!r} is not a DICOM keyword")
    value = value_of(ds, keyword)
    if value is INVALID or isinstance(value, pydicom.Sequence | bytes | bytearray):
        return None
    if isinstance(value, MultiValue):
        return "\\".join("" if _scalar(part) is None else str(_scalar(part)) for part in value)
    return _scalar(value)


def _scalar(value: Any) -> Scalar:
    if value is None:
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) or type(value).__name__ == "DSdecimal":
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, str | PersonName) or hasattr(value, "isoformat"):
        return str(value).replace("\0", "").strip() or None
    return str(value)


# ---------------------------------------------------------------- can it become a picture?


def require_picture(source: pydicom.Dataset | Instance) -> Instance:
    """Refuse what cannot become a picture; returns the instance that can.

    Raises RejectError: NOT_AN_IMAGE, DERIVED_OBJECT, NO_PIXEL_DATA, MISSING_ATTRIBUTE,
    INVALID_ATTRIBUTE, UNSUPPORTED_DEPTH.
    """
    instance = source if isinstance(source, Instance) else instance_of(source)
    _require_image(instance)
    frame_format_of(instance)
    return instance


def _require_image(instance: Instance) -> None:
    sop_class = instance.sop_class_uid or ""
    if instance.is_directory or sop_class == _DIRECTORY_CLASS:
        raise RejectError(Code.NOT_AN_IMAGE, "a DICOMDIR")
    derived = DERIVED_CLASSES.get(sop_class)
    if derived is None and sop_class not in IMAGE_CLASSES:
        derived = _DERIVED_MODALITIES.get(instance.modality or "")
    if derived is not None:
        raise RejectError(Code.DERIVED_OBJECT, derived)
    described = [instance.rows, instance.columns, instance.bits_allocated]
    has_module = any(value is not None for value in described)
    is_image = sop_class in IMAGE_CLASSES
    if instance.has_float_pixel_data:
        raise RejectError(Code.DERIVED_OBJECT, "floating point pixels")
    if not is_image and not (has_module or instance.has_pixel_data):
        raise RejectError(Code.NOT_AN_IMAGE, "no image pixel module")
    if not is_image and not has_module:
        raise RejectError(Code.NOT_AN_IMAGE, "pixel data without an image pixel module")
    if instance.has_pixel_data is False:
        raise RejectError(Code.NO_PIXEL_DATA, "an image object without pixel data")


def frame_format_of(instance: Instance) -> FrameFormat:
    """Check the image pixel module (PS3.3 C.7.6.3).

    A missing Samples per Pixel is 1 where the photometric interpretation says one sample; an
    impossible High Bit gives way to Bits Stored - 1, as every viewer does.
    """
    photometric = (instance.photometric_interpretation or "").upper()
    if not photometric:
        raise RejectError(Code.MISSING_ATTRIBUTE, "PhotometricInterpretation")
    need = _required(instance)
    allocated = need("bits_allocated", lambda n: n > 0)
    stored = need("bits_stored", lambda n: 0 < n <= allocated)
    samples = need("samples_per_pixel", lambda n: n in (1, 2, 3, 4))
    high = instance.high_bit
    planar = instance.planar_configuration
    if not isinstance(high, int) or not stored - 1 <= high < allocated:
        high = stored - 1
    if allocated not in (1, 8, 16, 32, 64):
        raise RejectError(Code.UNSUPPORTED_DEPTH, f"{allocated} bits allocated")
    return FrameFormat(
        transfer_syntax_uid=instance.transfer_syntax_uid or "",
        photometric_interpretation=photometric,
        rows=need("rows", lambda n: n > 0),
        columns=need("columns", lambda n: n > 0),
        samples_per_pixel=samples,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high,
        pixel_representation=need("pixel_representation", lambda n: n in (0, 1)),
        planar_configuration=planar if isinstance(planar, int) else 0,
    )


def _required(instance: Instance) -> Callable[[str, Callable[[int], bool]], int]:
    def need(name: str, valid: Callable[[int], bool]) -> int:
        value: Number = getattr(instance, name)
        if value is None:
            raise RejectError(Code.MISSING_ATTRIBUTE, _INTEGERS[name])
        if isinstance(value, _Invalid) or not valid(value):
            raise RejectError(Code.INVALID_ATTRIBUTE, _INTEGERS[name])
        return value

    return need


def frame_count_of(instance: Instance) -> int:
    """Read Number of Frames; absent, empty or 0 mean one. Raises RejectError(INVALID_ATTRIBUTE)."""
    count = instance.number_of_frames
    if isinstance(count, _Invalid):
        raise RejectError(Code.INVALID_ATTRIBUTE, "NumberOfFrames")
    return count or 1


# ---------------------------------------------------------------- header values of pixels


def macro_of(ds: pydicom.Dataset, frame: int, keyword: str) -> pydicom.Dataset | None:
    """Find a functional group macro's item for a frame: per frame, else shared (PS3.3 C.7.6.16)."""
    for groups, index in (
        (value_of(ds, "PerFrameFunctionalGroupsSequence"), frame),
        (value_of(ds, "SharedFunctionalGroupsSequence"), 0),
    ):
        if isinstance(groups, pydicom.Sequence) and index < len(groups):
            macro = value_of(groups[index], keyword)
            if isinstance(macro, pydicom.Sequence) and len(macro):
                return macro[0]
    return None


def numbers_of(ds: pydicom.Dataset, keyword: str, default: float | None = None) -> list[float]:
    """Read an attribute that pixels depend on. Raises RejectError(INVALID_ATTRIBUTE)."""
    value = value_of(ds, keyword)
    if value is None:
        return [] if default is None else [default]
    try:
        return [float(part) for part in (value if isinstance(value, MultiValue) else [value])]
    except (TypeError, ValueError):
        raise RejectError(Code.INVALID_ATTRIBUTE, keyword) from None


def spacing_of(ds: pydicom.Dataset, frame: int) -> Spacing | None:
    """Read row and column spacing, mm: of the patient, else of the detector (PS3.3 10.7.1.3)."""
    for source in (macro_of(ds, frame, "PixelMeasuresSequence"), ds):
        for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
            value = None if source is None else value_of(source, keyword)
            if isinstance(value, MultiValue) and len(value) == 2:
                try:
                    rows, columns = float(value[0]), float(value[1])
                except (TypeError, ValueError):
                    continue
                if 0 < rows < math.inf and 0 < columns < math.inf:
                    return rows, columns
    return None
