"""A heat map → a Secondary Capture in the study of its image (PS3.3 A.8.1)."""

import re
import textwrap
from datetime import datetime

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage

from medray.deliver.source import (
    RESEARCH_USE,
    Algorithm,
    Source,
    add_equipment,
    add_patient_and_study,
    encoded,
    moment,
    reference,
)
from medray.deliver.uids import uid
from medray.errors import DataError

Array = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

SERIES_NUMBER = 9902
_SMALLEST_SIDE = 256  # smaller pictures are enlarged, so that what stands below them can be read
_LINE, _LETTER = 16, 7  # pixels
# PS3.16 annex L: parts that are none of a pair, those that are examined most
_UNPAIRED_PARTS = """
    ABDOMEN BLADDER BRAIN CHEST CSPINE HEAD HEART LIVER LSPINE NECK PELVIS PROSTATE SKULL TSPINE
    UTERUS
"""
_UNPAIRED = frozenset(_UNPAIRED_PARTS.split())
_WIDEST = 10_000  # of a picture's side


def secondary_capture(
    source: Source,
    overlay_HW3: Array,
    *,
    frame: int,
    target: str,
    by: Algorithm,
    key: bytes,
    created: datetime | None = None,
) -> bytes:
    """A picture with its heat map as a DICOM file.

    overlay_HW3  uint8 RGB; what it shows is told below it, not on it.
    frame        of the source, from 0.
    key          this site's; see `uids`. created: absent: now.
    Raises DataError for a picture of another form.
    """
    if overlay_HW3.ndim != 3 or overlay_HW3.shape[2] != 3 or overlay_HW3.dtype != np.uint8:
        raise DataError(f"an overlay is uint8 (H, W, 3), got {overlay_HW3.shape}")
    made = Dataset()
    add_patient_and_study(made, source)
    add_equipment(made, by)
    _add_names(made, source, (str(frame), target), by, key)
    _add_image(made, source, frame, moment(source, created))
    made.DerivationDescription = f"Heat map of {target}: where {by.ref} looked. {RESEARCH_USE}."
    _add_pixels(made, _captioned(overlay_HW3, (RESEARCH_USE, target, by.ref)))
    return encoded(made)


def _add_names(
    made: Dataset, source: Source, which: tuple[str, ...], by: Algorithm, key: bytes
) -> None:
    made.SOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = uid(
        key, "capture", by.digest, ("\0".join((source.sop_instance_uid, *which)),)
    )
    made.SeriesInstanceUID = uid(key, "captures", by.digest, (source.study_instance_uid,))
    made.SeriesNumber = SERIES_NUMBER
    made.Modality = "OT"


def _add_image(made: Dataset, source: Source, frame: int, when: tuple[str, str]) -> None:
    """General Series and Image, SC Equipment and Image (C.7.3.1, C.7.6.1, C.8.6)."""
    _add_side(made, source)
    made.ImageType = ["DERIVED", "SECONDARY"]
    number = source.text("InstanceNumber")
    whole = source.frames == 1 and re.fullmatch("[0-9]{1,9}", number)
    made.InstanceNumber = int(number) if whole else frame + 1
    made.PatientOrientation = ""
    made.ConversionType = "WSD"
    made.ContentDate, made.ContentTime = when
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = when
    made.InstanceCreationDate, made.InstanceCreationTime = when
    burned = source.text("BurnedInAnnotation")
    if burned in ("YES", "NO"):  # of what the picture shows, a name in it too
        made.BurnedInAnnotation = burned
    if source.text("LossyImageCompression") == "01":  # once lossy, always (C.7.6.1.1.5)
        made.LossyImageCompression = "01"
    purpose = Dataset()
    code = codes.DCM.SourceImageForImageProcessingOperation
    purpose.CodeValue, purpose.CodingSchemeDesignator = code.value, code.scheme_designator
    purpose.CodeMeaning = code.meaning
    origin = reference(source, frame)
    origin.PurposeOfReferenceCodeSequence = [purpose]
    made.SourceImageSequence = [origin]


def _add_side(made: Dataset, source: Source) -> None:
    """Laterality is type 2C (C.7.3.1): it must stand where the part is one of a pair, only there.

    The part is told where that leaves no doubt; of others the side is empty: not known.
    """
    told = (source.text("Laterality"), source.text("ImageLaterality"))
    side = next((one for one in told if one in ("L", "R")), "")
    part = source.text("BodyPartExamined").upper()
    alone = part in _UNPAIRED
    if not (alone and not side):
        made.Laterality = side
    if alone != bool(side) and re.fullmatch("[A-Z0-9_ ]{1,16}", part):
        made.BodyPartExamined = part


def _add_pixels(made: Dataset, picture_HW3: Array) -> None:
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.Rows, made.Columns = picture_HW3.shape[:2]
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    data = picture_HW3.tobytes()
    made.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))


def _captioned(picture_HW3: Array, lines: tuple[str, ...]) -> Array:
    """Enlarge a small picture, and write lines on a black band below it."""
    height, width = picture_HW3.shape[:2]
    factor = max(1, -(-_SMALLEST_SIDE // max(1, min(height, width))))
    if max(height, width) * factor > _WIDEST:
        factor = 1
    large = picture_HW3.repeat(factor, axis=0).repeat(factor, axis=1)
    # a letter that no font is sure to have is shown as "?"; the description has it
    plain = [line.encode("latin-1", "replace").decode("latin-1") for line in lines]
    most = max(8, (large.shape[1] - 8) // _LETTER)
    rows = [row for line in plain for row in textwrap.wrap(line, most)]
    band = Image.new("RGB", (large.shape[1], _LINE * len(rows) + 4))
    draw, font = ImageDraw.Draw(band), ImageFont.load_default()
    for at, row in enumerate(rows):
        draw.text((4, 2 + _LINE * at), row, fill=(255, 255, 255), font=font)
    return np.concatenate([large, np.asarray(band, dtype=np.uint8)])
