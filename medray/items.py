"""One place where a file's bytes become rows: header rows of `files`, items of `images`.

Used alike by ingest, score and predict, so that the same bytes give the same pixels everywhere.
Every fault is a `RejectError`. Knows nothing of where bytes lie and makes no pseudonyms.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pydicom
from pydicom.datadict import tag_for_keyword

from medray.dicom import files, pixels
from medray.dicom.codecs import DecodeFrame, decode_frame
from medray.dicom.instance import (
    attribute,
    frame_count_of,
    instance_of,
    require_picture,
)
from medray.dicom.raster import decode_raster
from medray.errors import Code, RejectError, UsageError
from medray.spec.pixels import PixelSpec

MAX_FILE_BYTES = 2 << 30  # nothing larger decodes to less than the limit of a decoded instance

# Not faulty, only not asked for: `ignored` instead of `rejected`, and outside the reject limit.
IGNORED = frozenset({Code.NOT_DICOM, Code.NOT_AN_IMAGE, Code.DERIVED_OBJECT, Code.NOT_SELECTED})

# Attributes that name a person or link to one (PS3.15 E.1-1); `columns` may not hold them.
_IDENTIFYING = frozenset(
    {
        "AccessionNumber",
        "AdmissionID",
        "IssuerOfPatientID",
        "MedicalRecordLocator",
        "MilitaryRank",
        "NameOfPhysiciansReadingStudy",
        "OperatorsName",
        "OtherPatientIDs",
        "OtherPatientIDsSequence",
        "OtherPatientNames",
        "PatientAddress",
        "PatientBirthDate",
        "PatientBirthName",
        "PatientBirthTime",
        "PatientID",
        "PatientMotherBirthName",
        "PatientName",
        "PatientTelephoneNumbers",
        "PerformingPhysicianName",
        "ReferringPhysicianName",
        "RequestingPhysician",
        "ResponsiblePerson",
        "StudyID",
    }
)
_CLASS_UIDS = frozenset({"SOPClassUID"})  # the same for every patient, unlike other UIDs

_DICOM_COLUMNS = (
    "sop_instance_uid",
    "series_instance_uid",
    "study_instance_uid",
    "accession_number",
    "patient_id",
    "issuer_of_patient_id",
    "sop_class_uid",
    "transfer_syntax_uid",
    "modality",
    "photometric_interpretation",
)
_FROM_HEADER = (*_DICOM_COLUMNS, "rows", "columns", "frames")


@dataclass(frozen=True, slots=True)
class ItemPixels:
    """One item: a frame or a whole instance.

    pixels         (H,W[,3]), or (F,H,W[,3]) for `item: instance`, as `PixelSpec` asks
    pixels_sha256  of the rendered picture before resizing and before a change of channels
    spacing_mm     between rows, between columns of `pixels`; None if unknown
    columns        the DICOM attributes asked for, as text; None where absent
    """

    frame: int
    pixels: pixels.Array
    pixels_sha256: str
    spacing_mm: tuple[float, float] | None
    columns: dict[str, str | None]


def check_columns(keywords: Sequence[str]) -> None:
    """Refuse columns that are no DICOM keyword or would carry an identifier. UsageError."""
    for keyword in keywords:
        if tag_for_keyword(keyword) is None:
            raise UsageError(
                f"ingest.columns: {keyword!r} is not a DICOM keyword",
                remedy="keywords are written as in PS3.6, for example PatientSex",
            )
        names_uid = keyword.endswith("UID") and keyword not in _CLASS_UIDS
        if keyword in _IDENTIFYING or names_uid:
            raise UsageError(
                f"ingest.columns: {keyword} identifies a patient and may not enter a dataset",
                remedy="remove it; items already carry subject_id and study_id as pseudonyms",
            )


def sha256(data: bytes) -> str:
    """SHA-256 of a file's bytes, hex."""
    return hashlib.sha256(data).hexdigest()


def status_of(code: Code) -> str:
    """`ignored` or `rejected`."""
    return "ignored" if code in IGNORED else "rejected"


def header_row(data: bytes, *, whole: bool = True) -> dict[str, Any]:
    """Read a file's first bytes into the columns of FILES that they decide.

    kind, the DICOM keys, rows, columns, frames, status ("ok": may become items), reason, detail.
    Never raises for bad data. With `whole=False`, `data` is only the file's beginning, and a
    RejectError is raised where the whole file must be read to tell.
    """
    row: dict[str, Any] = dict.fromkeys(_FROM_HEADER)
    row |= {"kind": "other", "status": "ok", "reason": None, "detail": None}
    try:
        if not data:
            raise RejectError(Code.EMPTY_FILE, "0 bytes")
        kind = files.sniff(data[:512])
        if kind in ("png", "jpeg"):
            row |= {"kind": kind, "frames": 1}
            row["rows"], row["columns"] = _raster_size(data)
        elif kind == "zip":
            raise RejectError(Code.ARCHIVE_UNSAFE, "a ZIP without the ending .zip, or in a ZIP")
        elif kind == "other":
            raise RejectError(Code.NOT_DICOM, "no DICM at byte 128 and no picture")
        else:
            row["kind"] = "dicom"
            _add_dicom(row, data, whole)
    except RejectError as fault:
        if not whole and row["kind"] == "dicom":
            raise
        if fault.code == Code.NOT_DICOM:
            row["kind"] = "other"
        row |= {"status": status_of(fault.code), "reason": str(fault.code), "detail": fault.detail}
    return row


def _add_dicom(row: dict[str, Any], data: bytes, whole: bool) -> None:
    instance = instance_of(files.parse(data, stop_before_pixels=True), header_only=True)
    row |= {name: getattr(instance, name) for name in _DICOM_COLUMNS}
    for name in ("rows", "columns"):
        row[name] = _small(getattr(instance, name))
    if not whole and instance.pixel_representation is None:
        # The last attribute that is needed (PS3.6 orders by tag) lies behind these bytes.
        raise RejectError(Code.TRUNCATED, "the header goes on")
    row["frames"] = _small(instance.number_of_frames) or 1
    require_picture(instance)
    row["frames"] = frame_count_of(instance)


def _small(value: Any) -> int | None:
    """A count as int32; None if absent or impossible."""
    return value if isinstance(value, int) and value < 1 << 31 else None


def _raster_size(data: bytes) -> tuple[int | None, int | None]:
    """Rows and columns of a PNG (ISO 15948 11.2.2); a JPEG's are known once it is decoded."""
    if data[12:16] != b"IHDR" or len(data) < 24:
        return None, None
    columns, rows = struct.unpack_from(">LL", data, 16)
    return _small(rows), _small(columns)


def decode_items(
    data: bytes,
    kind: str,
    spec: PixelSpec,
    columns: Sequence[str] = (),
    decode_codec: DecodeFrame = decode_frame,
    *,
    sop_instance_uid: str | None = None,
) -> list[ItemPixels]:
    """Decode a whole file into its items. `kind`: dicom, png or jpeg.

    `sop_instance_uid`: what the header scan saw; another one means that the file changed since.
    Raises RejectError with the code of whatever is wrong, also when the codec crashed.
    """
    # Rendered first as stored, so that the hash does not depend on the size asked for.
    as_stored = PixelSpec(window=spec.window, channels=None)
    values: dict[str, str | None] = dict.fromkeys(columns)
    if kind == "dicom":
        dataset = files.parse(data)
        uid = attribute(dataset, "SOPInstanceUID")
        if sop_instance_uid is not None and uid != sop_instance_uid:
            raise RejectError(Code.UNREADABLE, "the file changed while it was being ingested")
        pictures = pixels.decode(dataset, as_stored, decode_codec=decode_codec)
        values = {name: _column(dataset, name) for name in columns}
    else:
        pictures = decode_raster(data, as_stored)
    return _fit(pictures, spec, values)


def _fit(
    pictures: list[pixels.Picture], spec: PixelSpec, values: dict[str, str | None]
) -> list[ItemPixels]:
    hashes = [hashlib.sha256(picture.pixels.tobytes()) for picture in pictures]
    if spec.item == "instance" and len(pictures) > 1:
        hashes = [hashlib.sha256(b"".join(each.digest() for each in hashes))]
    fitted = pixels.as_pictures(
        [picture.pixels for picture in pictures],
        [picture.spacing_mm for picture in pictures],
        spec,
        photometric=pictures[0].photometric_interpretation,
        inverted=pictures[0].inverted,
    )
    return [
        ItemPixels(picture.frame, picture.pixels, digest.hexdigest(), picture.spacing_mm, values)
        for picture, digest in zip(fitted, hashes, strict=True)
    ]


def _column(dataset: pydicom.Dataset, keyword: str) -> str | None:
    """An attribute as text; a missing PatientAge is reckoned from the birth and study dates."""
    value = attribute(dataset, keyword)
    if value is None and keyword == "PatientAge":
        years = instance_of(dataset).patient_age_years
        return None if years is None else f"{int(years):03d}Y"  # AS, PS3.5 6.2
    return None if value is None else str(value)
