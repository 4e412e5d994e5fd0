"""The image that an object is made from: who it is of, and how it is referenced.

Owns what every delivered object has in common. Text is written as UTF-8, whatever it was; a value
that cannot be what its attribute says is left empty, never carried on.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from io import BytesIO

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import RE_VALID_UID, UID, ExplicitVRLittleEndian

from medray import __version__
from medray.dicom.files import parse, quiet
from medray.dicom.instance import INVALID, value_of
from medray.dicom.write import IMPLEMENTATION_UID
from medray.errors import Code, RejectError

RESEARCH_USE = "Research use only"
MAKER = "medray"

# PS3.3 C.7.1.1, C.7.2.1, C.7.2.2: type 2 is written even where it is empty
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
_TYPE_3 = (
    "IssuerOfPatientID",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "LongitudinalTemporalInformationModified",
    "StudyDescription",
    "PatientAge",
    "TimezoneOffsetFromUTC",
)
_SEQUENCES = {
    "DeidentificationMethodCodeSequence": ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"),
    "IssuerOfAccessionNumberSequence": (
        "LocalNamespaceEntityID",
        "UniversalEntityID",
        "UniversalEntityIDType",
    ),
}
_FORMS = {  # PS3.5 6.2
    "PatientBirthDate": r"\d{8}",
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
    "PatientSex": "[MFO]",
    "PatientAge": r"\d{3}[DWMY]",
    "PatientIdentityRemoved": "YES|NO",
    "LongitudinalTemporalInformationModified": "UNMODIFIED|MODIFIED|REMOVED",
    "TimezoneOffsetFromUTC": r"[+-](0\d|1[0-4])[0-5]\d",
}
_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# Image classes without a Multi-frame Module (PS3.3 table A.1-1): a reference names no frame of them
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_ONE_FRAME_TAILS = """
    1 1.1 1.1.1 1.2 1.2.1 1.3 1.3.1 2 4 6.1 7 128 77.1.1 77.1.2 77.1.3 77.1.4 77.1.5.1 77.1.5.2
"""
_ONE_FRAME = frozenset(_STORAGE + tail for tail in _ONE_FRAME_TAILS.split())


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The package that spoke: its name, its version, its whole digest."""

    name: str
    version: str
    digest: str

    @property
    def ref(self) -> str:
        """As in `predictions`."""
        return f"{self.name}@{self.version}#{self.digest[:12]}"


@dataclass(frozen=True, slots=True)
class Source:
    """One instance without its pixels. frames: how many it has."""

    header: Dataset
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    frames: int

    @property
    def many(self) -> bool:
        """Whether a reference tells one of several frames."""
        return self.frames > 1 and self.sop_class_uid not in _ONE_FRAME

    def text(self, keyword: str) -> str:
        """An attribute as text; "" where it is absent or cannot be what it should."""
        text = _text(self.header, keyword)
        if keyword.endswith("Date"):
            text = text.replace(".", "")  # old writers: PS3.5 6.2
        form = _FORMS.get(keyword)
        return "" if form and not re.fullmatch(form, text, re.ASCII) else text


def read_source(data: bytes) -> Source:
    """Read the header of a file.

    Raises RejectError for what is no DICOM, and for an instance without the UIDs that a reference
    needs (PS3.3 table 10-3).
    """
    header = parse(data, stop_before_pixels=True)
    uids: list[str] = []
    for keyword in _UIDS:
        value = value_of(header, keyword)
        if value is None:
            raise RejectError(Code.MISSING_ATTRIBUTE, keyword)
        uids.append(str(value).strip("\0 "))
        if len(uids[-1]) > 64 or not re.fullmatch(RE_VALID_UID, uids[-1]):  # PS3.5 9.1
            raise RejectError(Code.INVALID_ATTRIBUTE, keyword)
    frames = value_of(header, "NumberOfFrames")
    return Source(header, *uids, frames=int(frames) if isinstance(frames, int) else 1)


def add_patient_and_study(made: Dataset, source: Source) -> None:
    """Say of an object whose it is and which study it belongs to, as its source says."""
    with quiet():  # pydicom's warnings quote values
        made.SpecificCharacterSet = "ISO_IR 192"
        made.StudyInstanceUID = source.study_instance_uid
        for keyword in _TYPE_2:
            setattr(made, keyword, source.text(keyword))
        for keyword in _TYPE_3:
            if text := source.text(keyword):
                setattr(made, keyword, text)
        for keyword, members in _SEQUENCES.items():
            if items := _copied(source.header, keyword, members):
                setattr(made, keyword, items)


def _text(ds: Dataset, keyword: str) -> str:
    value = value_of(ds, keyword)
    if isinstance(value, MultiValue):
        value = value[0]
    odd = value is None or value is INVALID or isinstance(value, Sequence | bytes)
    return "" if odd else str(value).replace("\0", "").strip()


def _copied(ds: Dataset, keyword: str, members: tuple[str, ...]) -> list[Dataset]:
    """Items of a sequence, with those of the members that they have."""
    held = value_of(ds, keyword)
    made: list[Dataset] = []
    for item in held if isinstance(held, Sequence) else ():
        copied = Dataset()
        for member in members:
            if text := _text(item, member):
                setattr(copied, member, text)
        if len(copied):
            made.append(copied)
    return made


def add_equipment(made: Dataset, by: Algorithm) -> None:
    """Say what made an object (PS3.3 C.7.5.1), and that it is for research."""
    made.Manufacturer = MAKER
    made.ManufacturerModelName = f"{by.name}@{by.version}"[:64]
    made.SoftwareVersions = [f"{MAKER} {__version__}", by.ref[:62]]
    made.SeriesDescription = f"{RESEARCH_USE}: {by.name}@{by.version}"[:64]


def moment(source: Source, created: datetime | None) -> tuple[str, str]:
    """DA and TM of a moment (absent: now) in the time zone of the source, else of this machine."""
    zone = source.text("TimezoneOffsetFromUTC")
    there = None
    if zone:
        minutes = int(zone[1:3]) * 60 + int(zone[3:])
        there = timezone(timedelta(minutes=-minutes if zone[0] == "-" else minutes))
    local = (created or datetime.now().astimezone()).astimezone(there)
    return local.strftime("%Y%m%d"), local.strftime("%H%M%S")


def reference(source: Source, frame: int) -> Dataset:
    """Reference one frame of a source, counted from 0 (PS3.3 table 10-3)."""
    made = Dataset()
    made.ReferencedSOPClassUID = source.sop_class_uid
    made.ReferencedSOPInstanceUID = source.sop_instance_uid
    if source.many:
        made.ReferencedFrameNumber = frame + 1
    return made


def encoded(made: Dataset) -> bytes:
    """Write an object as a file (PS3.10), Explicit VR Little Endian."""
    made.preamble = bytes(128)
    meta = made.file_meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = made.SOPClassUID
    meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = MAKER.upper()
    buffer = BytesIO()
    with quiet():
        made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
