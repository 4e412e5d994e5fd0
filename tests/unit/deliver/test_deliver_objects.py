"""Objects for the PACS: valid, of the right patient, and the same whenever they are made again."""

import hashlib
import warnings
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_objects import REAL, errors, radiograph, real
from pydicom import Dataset

from medray.deliver.capture import secondary_capture
from medray.deliver.source import Algorithm, read_source
from medray.deliver.sr import Answer, Item, structured_reports
from medray.errors import DataError, UsageError

BY = Algorithm("breast", "2.1", hashlib.sha256(b"package").hexdigest())
KEY = b"k" * 32
AT = datetime(2026, 3, 4, 22, 30, 15, tzinfo=UTC)
OVERLAY = np.random.default_rng(0).integers(0, 256, (41, 33, 3), np.uint8)
MALIGNANT = Answer("malignant", None, 0.8312345678901234, True, 0.41)
GRADE = Answer("grade", "low", 0.125)


def _capture(data: bytes, frame: int = 0, target: str = "malignant", **given: Any) -> bytes:
    given = {"by": BY, "key": KEY, "created": AT, **given}
    return secondary_capture(read_source(data), OVERLAY, frame=frame, target=target, **given)


def _report(data: bytes, frame: int = 0, **given: Any) -> bytes:
    item = Item(read_source(data), frame, (MALIGNANT, GRADE))
    (made,) = structured_reports([item], **{"by": BY, "key": KEY, "created": AT, **given})
    return made


def _read(data: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(data))


def _reread(data: bytes) -> Dataset:
    """A source as pydicom reads it, whatever its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(BytesIO(data), force=True)


# ---------------------------------------------------------------- validity


@pytest.mark.parametrize("name", [*REAL, "CR", "DX"])
@pytest.mark.parametrize("make", [_capture, _report])
def test_dciodvfy_finds_no_error_that_the_source_has_not(name: str, make: Any):
    source = real(name)
    assert errors(make(source)) <= errors(source)


def test_dciodvfy_does_find_errors():
    broken = _read(_capture(radiograph()))
    del broken.ConversionType
    buffer = BytesIO()
    broken.save_as(buffer)
    assert any("ConversionType" in one for one in errors(buffer.getvalue()))


# ---------------------------------------------------------------- captures


@pytest.mark.parametrize("name", REAL)
def test_a_capture_is_of_the_same_patient_and_study(name: str):
    source, made = _reread(real(name)), _read(_capture(real(name)))
    for keyword in ("PatientID", "PatientName", "StudyID", "AccessionNumber", "StudyInstanceUID"):
        assert str(made[keyword].value or "") == str(source.get(keyword) or "").strip(), keyword
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert made.SeriesInstanceUID != source.SeriesInstanceUID
    (origin,) = made.SourceImageSequence
    assert origin.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert origin.ReferencedSOPClassUID == source.SOPClassUID
    assert "Research use only" in made.SeriesDescription
    assert BY.ref in made.DerivationDescription


def test_a_capture_shows_the_overlay_enlarged_above_a_caption():
    made = _read(_capture(radiograph()))
    pixels = made.pixel_array
    assert np.array_equal(pixels[: 41 * 8 : 8, ::8], OVERLAY)  # 33 wide: the least side to 256
    assert np.array_equal(pixels[7 : 41 * 8 : 8, 7::8], OVERLAY)
    caption = pixels[41 * 8 :]
    assert len(caption) > 0
    assert caption.min() == 0
    assert caption.max() > 200


def test_a_large_overlay_keeps_its_size():
    source = read_source(radiograph())
    large = np.zeros((300, 700, 3), np.uint8)
    made = _read(secondary_capture(source, large, frame=0, target="x", by=BY, key=KEY))
    assert made.Columns == 700
    assert 300 < made.Rows < 400


@pytest.mark.parametrize(
    ("part", "laterality", "image_laterality", "told", "side"),
    [
        ("KNEE", "L", None, "KNEE", "L"),
        ("Knee", None, "R", "KNEE", "R"),
        ("BREAST", "", "B", None, ""),
        ("KNEE", None, None, None, ""),
        (None, "LEFT", None, None, ""),
        ("HEAD", "L", None, None, "L"),
        ("Brain*", None, None, None, ""),
        *((part, None, None, part, None) for part in ("HEAD", "CHEST", "ABDOMEN", "UTERUS")),
        *((part, None, "U", part, None) for part in ("CSPINE", "LIVER", "BLADDER", "PROSTATE")),
    ],
)
def test_a_side_is_told_where_the_standard_wants_one(
    part: str | None, laterality: str | None, image_laterality: str | None, told: str, side: str
):
    source = read_source(radiograph())
    given = {
        "BodyPartExamined": part,
        "Laterality": laterality,
        "ImageLaterality": image_laterality,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in given.items():
            if value is not None:
                setattr(source.header, keyword, value)
    data = secondary_capture(source, OVERLAY, frame=0, target="x", by=BY, key=KEY)
    made = _read(data)
    assert made.get("BodyPartExamined") == told
    assert ("Laterality" in made) == (side is not None)
    assert (made.get("Laterality") or "") == (side or "")
    assert not errors(data)


def test_a_frame_is_referenced_by_its_number_where_there_are_several():
    assert (
        _read(_capture(real("examples_ybr_color.dcm"), 4))
        .SourceImageSequence[0]
        .ReferencedFrameNumber
        == 5
    )
    assert "ReferencedFrameNumber" not in _read(_capture(radiograph())).SourceImageSequence[0]


def test_lossy_stays_lossy_and_burned_in_stays_told():
    source = read_source(radiograph())
    source.header.LossyImageCompression, source.header.BurnedInAnnotation = "01", "YES"
    made = _read(secondary_capture(source, OVERLAY, frame=0, target="x", by=BY, key=KEY))
    assert (made.LossyImageCompression, made.BurnedInAnnotation) == ("01", "YES")
    plain = _read(_capture(real("CT_small.dcm")))
    assert "LossyImageCompression" not in plain
    assert "BurnedInAnnotation" not in plain


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4)])
def test_an_overlay_of_another_form_is_refused(shape: tuple[int, ...]):
    with pytest.raises(DataError, match="overlay"):
        secondary_capture(
            read_source(radiograph()), np.zeros(shape, np.uint8),
            frame=0, target="x", by=BY, key=KEY,
        )  # fmt: skip


# ---------------------------------------------------------------- reports


def _items(content: Dataset, code: str) -> list[Dataset]:
    """All content items of a concept, at any depth."""
    found: list[Dataset] = []
    for one in content.get("ContentSequence", []):
        names = one.get("ConceptNameCodeSequence", [])
        if names and names[0].CodeValue == code:
            found.append(one)
        found += _items(one, code)
    return found


def test_a_report_says_scores_thresholds_decisions_and_who_said_so():
    made = _read(_report(radiograph()))
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.22"
    assert made.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    (group, other) = _items(made, "125007")  # DCM, Measurement Group
    (score,) = _items(group, "122157")  # DCM, Probability
    (measured,) = score.MeasuredValueSequence
    assert float(measured.NumericValue) == pytest.approx(MALIGNANT.score, abs=1e-13)
    unit = measured.MeasurementUnitsCodeSequence[0]
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("1", "UCUM")
    (threshold,) = _items(group, "122411")  # DCM, Threshold Value
    assert float(threshold.MeasuredValueSequence[0].NumericValue) == 0.41
    decisions = [
        one.ConceptCodeSequence[0].CodeValue
        for one in group.ContentSequence
        if one.ValueType == "CODE"
    ]
    assert "10828004" in decisions  # SCT, Positive
    assert not _items(other, "122411")
    assert _items(other, "112039")[0].TextValue == "grade = low"  # DCM, Tracking Identifier
    assert [one.TextValue for one in _items(group, "111001")] == ["breast"]  # Algorithm Name
    assert [one.TextValue for one in _items(group, "111003")] == ["2.1"]  # Algorithm Version
    assert BY.digest in _items(group, "111002")[0].TextValue  # Algorithm Parameters
    assert _items(made, "121013")[0].TextValue == "medray"  # Device Observer Name
    assert "Research use only" in _items(made, "121106")[0].TextValue  # Comment


def test_a_negative_decision_is_said():
    item = Item(read_source(radiograph()), 0, (Answer("x", None, 0.1, False, 0.5),))
    (data,) = structured_reports([item], BY, KEY)
    (group,) = _items(_read(data), "125007")
    codes = [one.ConceptCodeSequence[0].CodeValue for one in group.ContentSequence
             if one.ValueType == "CODE"]  # fmt: skip
    assert "260385009" in codes  # SCT, Negative


def test_highdicom_reads_a_report():
    from highdicom.sr import EnhancedSR, MeasurementReport

    made = EnhancedSR.from_dataset(_read(_report(radiograph())))
    content = made.content
    assert isinstance(content, MeasurementReport)
    groups = content.get_image_measurement_groups()
    assert [one.tracking_identifier for one in groups] == ["malignant", "grade = low"]
    values = [one.value for one in groups[0].get_measurements()]
    assert values == pytest.approx([MALIGNANT.score, 0.41])
    (source,) = groups[0].source_images
    assert source.referenced_sop_instance_uid == "2.25.771"


def test_a_report_for_each_study_with_evidence_of_every_instance():
    sources = [read_source(radiograph(n, study)) for n, study in ((1, 1), (2, 2), (3, 1))]
    items = [Item(source, 0, (MALIGNANT,)) for source in sources]
    refused = Item(read_source(radiograph(4, 1)), 0, ())
    first, second = map(_read, structured_reports([*items, refused], BY, KEY))
    assert (first.StudyInstanceUID, second.StudyInstanceUID) == ("2.25.881", "2.25.882")
    evidence = [
        one.ReferencedSOPInstanceUID
        for series in first.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for one in series.ReferencedSOPSequence
    ]
    assert sorted(evidence) == ["2.25.771", "2.25.773"]
    assert len(_items(first, "125007")) == 2


def test_private_codes_are_of_a_scheme_that_is_identified():
    made = _read(_report(radiograph()))
    (scheme,) = made.CodingSchemeIdentificationSequence
    designators: set[str] = set()
    made.walk(
        lambda ds, element: (
            designators.add(element.value) if element.keyword == "CodingSchemeDesignator" else None
        )
    )
    assert designators - {"DCM", "SCT", "UCUM", "RFC5646"} == {scheme.CodingSchemeDesignator}


def test_nothing_to_report_is_an_error():
    with pytest.raises(UsageError, match="no score"):
        structured_reports([Item(read_source(radiograph()), 0, ())], BY, KEY)


# ---------------------------------------------------------------- repeats


@pytest.mark.parametrize("make", [_capture, _report])
def test_a_repeat_is_the_same_to_the_byte_but_for_its_dates(make: Any):
    data = real("CT_small.dcm")
    assert make(data) == make(data)
    later = make(data, created=datetime(2027, 1, 1, tzinfo=UTC))
    assert later != make(data)
    first, second = _read(make(data)), _read(later)
    keywords = {one.keyword for one in first if first[one.tag] != second.get(one.tag)}
    assert keywords == {
        *("ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime"),
        *(("DateOfSecondaryCapture", "TimeOfSecondaryCapture") if make is _capture else ()),
    }


@pytest.mark.parametrize("make", [_capture, _report])
@pytest.mark.parametrize(
    "change",
    [
        {"key": b"j" * 32},
        {"by": Algorithm(BY.name, BY.version, hashlib.sha256(b"another").hexdigest())},
    ],
)
def test_another_site_or_package_makes_other_objects(make: Any, change: Any):
    first, second = _read(make(radiograph())), _read(make(radiograph(), **change))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID != second.SeriesInstanceUID


def test_captures_of_a_study_are_one_series_of_different_objects():
    data = real("examples_ybr_color.dcm")
    made = [_read(_capture(data, frame, target)) for frame in (0, 1) for target in ("a", "b")]
    assert len({one.SOPInstanceUID for one in made}) == 4
    assert len({one.SeriesInstanceUID for one in made}) == 1


def test_the_order_of_instances_makes_no_other_report():
    items = [Item(read_source(radiograph(n)), 0, (MALIGNANT,)) for n in (1, 2)]
    (one,), (other,) = (structured_reports(i, BY, KEY, AT) for i in (items, items[::-1]))
    assert _read(one).SOPInstanceUID == _read(other).SOPInstanceUID
