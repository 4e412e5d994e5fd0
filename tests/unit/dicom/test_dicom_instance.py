import dataclasses

import numpy as np
import pydicom
import pytest
from dicom_builders import element, file_of, image_file

from medray.dicom.files import parse
from medray.dicom.instance import IMAGE_CLASSES, attribute, instance_of, require_picture
from medray.errors import Code, RejectError


def with_(write, **patient):
    return parse(write(np.zeros((4, 4), np.uint8), patient=patient))


@pytest.mark.parametrize(
    ("patient", "years"),
    [
        ({"PatientAge": "034Y"}, 34),
        ({"PatientAge": "006M"}, 0.5),
        ({"PatientAge": "9"}, None),
        ({"PatientBirthDate": "19600101"}, 60),
        ({"PatientBirthDate": "1960.01.01"}, 60),
        ({"PatientBirthDate": "20600101"}, None),
        ({"PatientBirthDate": "19601399"}, None),
        ({}, None),
    ],
)
def test_age(write, patient, years):
    assert instance_of(with_(write, **patient)).patient_age_years == (
        None if years is None else pytest.approx(years, abs=0.01)
    )


def test_descriptive_attributes_are_text_or_none(write):
    instance = instance_of(with_(write, PatientSex="F", Manufacturer=" Maker "))
    assert instance.patient_sex == "F"
    assert instance.manufacturer == "Maker"
    assert instance.accession_number is None
    assert instance.study_date == "20200101"
    assert instance.transfer_syntax_uid == "1.2.840.10008.1.2.1"
    assert instance.rows == instance.columns == 4
    assert instance.has_pixel_data


def test_odd_values_never_raise():
    data = image_file(
        bytes(4), rows=2, columns=2, frames="many",
        extra=(element(0x00101010, "AS", b"\xff\xfe\xfd\xfc"),
               element(0x00080020, "DA", b"yesterda"),
               element(0x00280030, "DS", b"a\\b ")),
    )  # fmt: skip
    instance = instance_of(parse(data))
    assert instance.patient_age_years is None
    assert instance.study_date is None
    for field in dataclasses.fields(instance):
        getattr(instance, field.name)


def test_attribute_is_a_scalar(write):
    ds = with_(write, BodyPartExamined="BREAST", SeriesNumber="7")
    assert attribute(ds, "BodyPartExamined") == "BREAST"
    assert attribute(ds, "SeriesNumber") == 7
    assert attribute(ds, "Rows") == 4
    assert attribute(ds, "ImageType") == "ORIGINAL\\PRIMARY"
    assert attribute(ds, "PixelData") is None
    assert attribute(ds, "WindowCenter") is None
    with pytest.raises(ValueError, match="keyword"):
        attribute(ds, "NoSuchKeyword")


@pytest.mark.parametrize(
    ("sop_class", "code"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.11", Code.NOT_AN_IMAGE),  # Basic Text SR
        ("1.2.840.10008.5.1.4.1.1.11.1", Code.NOT_AN_IMAGE),  # presentation state
        ("1.2.840.10008.5.1.4.1.1.481.5", Code.NOT_AN_IMAGE),  # RT plan
        ("1.2.840.10008.5.1.4.1.1.66.4", Code.DERIVED_OBJECT),
        ("1.2.840.10008.5.1.4.1.1.30", Code.DERIVED_OBJECT),
        ("1.2.840.10008.5.1.4.1.1.481.2", Code.DERIVED_OBJECT),
        ("1.2.840.10008.5.1.4.1.1.2", Code.NO_PIXEL_DATA),  # a CT image
    ],
)
def test_classes_without_a_picture(sop_class, code):
    uid = sop_class.encode() + b"\0" * (len(sop_class) % 2)
    ds = parse(file_of(element(0x00080016, "UI", uid)))
    for source in (ds, instance_of(ds)):
        with pytest.raises(RejectError) as caught:
            require_picture(source)
        assert caught.value.code is code


@pytest.mark.parametrize(
    "keyword", ["Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation",
                "PhotometricInterpretation", "SamplesPerPixel"],
)  # fmt: skip
def test_missing_attributes_of_the_pixel_module(write, keyword):
    ds = with_(write)
    del ds[keyword]
    with pytest.raises(RejectError) as caught:
        require_picture(ds)
    assert caught.value.code is Code.MISSING_ATTRIBUTE
    assert caught.value.detail == keyword


def test_a_header_alone_can_be_judged(write):
    data = write(np.zeros((4, 4), np.uint8))
    ds = parse(data, stop_before_pixels=True)
    assert require_picture(instance_of(ds, header_only=True)).has_pixel_data is None


def test_image_classes_are_storage_classes_of_the_dictionary():
    for uid in IMAGE_CLASSES:
        assert "Storage" in pydicom.uid.UID(uid).name
