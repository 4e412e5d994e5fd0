"""What an object takes over of its source, whatever that holds; and what it is called."""

import hashlib
import hmac
import re
import warnings
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_objects import errors, radiograph, real
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import RE_VALID_UID

from medray.deliver.capture import secondary_capture
from medray.deliver.source import Algorithm, Source, read_source
from medray.deliver.sr import Answer, Item, structured_reports
from medray.deliver.uids import uid
from medray.dicom.files import parse
from medray.errors import Code, RejectError

BY = Algorithm("breast", "2.1", hashlib.sha256(b"package").hexdigest())
KEY = b"k" * 32
OVERLAY = np.zeros((33, 41, 3), np.uint8)


def _capture(source: Source, target: str = "x", created: datetime | None = None) -> bytes:
    return secondary_capture(
        source, OVERLAY, frame=0, target=target, by=BY, key=KEY, created=created
    )


def _report(source: Source) -> bytes:
    (made,) = structured_reports([Item(source, 0, (Answer("x", None, 0.5, True, 0.4),))], BY, KEY)
    return made


def _read(data: bytes) -> Dataset:
    return pydicom.dcmread(BytesIO(data))


@given(st.lists(st.text(st.sampled_from("0123456789."), min_size=1), min_size=1, max_size=4))
def test_a_uid_is_an_hmac_as_a_uuid(of: list[str]):
    made = uid(KEY, "report", BY.digest, of)
    assert made == uid(KEY, "report", BY.digest, of[::-1])
    assert re.fullmatch(RE_VALID_UID, made)
    number = int(made.removeprefix("2.25."))
    assert (number >> 76) & 0xF == 8  # RFC 9562, 5.8: version
    assert (number >> 62) & 0b11 == 2  # and variant
    message = "\0".join(["uid-report", BY.digest, *sorted(of)]).encode()
    drawn = int(hmac.new(KEY, message, hashlib.sha256).hexdigest()[:32], 16)
    free = ~((0xF << 76) | (0b11 << 62)) & ((1 << 128) - 1)
    assert number & free == drawn & free
    assert made != uid(KEY, "reports", BY.digest, of)


@settings(max_examples=30)
@given(
    st.text(st.characters(exclude_categories=["C"], exclude_characters="\\=^"), max_size=60),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_odd_values_of_a_header_never_end_in_an_invalid_object(name: str, day: str, sex: str):
    source = read_source(radiograph())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source.header.PatientName = name
        source.header.add_new(0x00100030, "LO", day)  # a date that is none
        source.header.add_new(0x00100040, "LO", sex)
    made = _read(_capture(source, "ä"))
    assert str(made.PatientName) == name.strip()
    assert re.fullmatch(r"(\d{8})?", made.PatientBirthDate or "")
    assert (made.PatientSex or "") in ("", "M", "F", "O")
    assert "ä" in made.DerivationDescription


SEEDS = [real(name) for name in ("CR", "CT_small.dcm", "MR_small.dcm", "693_J2KI.dcm")]


@settings(max_examples=60)
@given(
    st.sampled_from(SEEDS),
    st.dictionaries(st.integers(132, 1800), st.integers(0, 255), min_size=1, max_size=8),
)
def test_a_damaged_header_is_refused_or_gives_valid_objects(seed: bytes, damage: dict[int, int]):
    data = bytearray(seed)
    for at, byte in damage.items():
        data[at % len(seed)] = byte
    try:
        source = read_source(bytes(data))
    except RejectError:
        return
    for make in (_capture, _report):
        assert _read(make(source)).StudyInstanceUID == source.study_instance_uid


def test_how_a_patient_was_made_unknown_is_still_told():
    source = read_source(radiograph())
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "113100", "DCM", "Basic"
    code.PatientName = "Doe^Jane"  # has no business there
    source.header.PatientIdentityRemoved = "YES"
    source.header.DeidentificationMethodCodeSequence = [code]
    data = _capture(source)
    (told,) = _read(data).DeidentificationMethodCodeSequence
    assert (told.CodeValue, told.CodingSchemeDesignator) == ("113100", "DCM")
    assert "PatientName" not in told
    assert not errors(data)


def test_text_in_another_alphabet_becomes_utf_8():
    source = _read(real("CT_small.dcm"))
    source.SpecificCharacterSet, source.PatientName = "ISO_IR 100", "Äneas^Rüdiger"
    buffer = BytesIO()
    source.save_as(buffer)
    for made in (make(read_source(buffer.getvalue())) for make in (_capture, _report)):
        assert _read(made).PatientName == "Äneas^Rüdiger"
        assert _read(made).SpecificCharacterSet == "ISO_IR 192"
        assert "Äneas".encode() in made


def test_times_are_told_in_the_zone_of_the_study():
    source = read_source(radiograph())
    source.header.TimezoneOffsetFromUTC = "+0530"
    made = _read(_capture(source, created=datetime(2026, 3, 4, 22, 30, 15, tzinfo=UTC)))
    assert (made.ContentDate, made.ContentTime) == ("20260305", "040015")
    assert made.TimezoneOffsetFromUTC == "+0530"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda ds: ds.pop("StudyInstanceUID"), Code.MISSING_ATTRIBUTE),
        (lambda ds: ds.add_new(0x00080018, "LO", "not a uid"), Code.INVALID_ATTRIBUTE),
        (lambda ds: ds.add_new(0x0020000D, "LO", "1.2.03"), Code.INVALID_ATTRIBUTE),  # PS3.5 9.1
    ],
)
def test_an_instance_without_uids_is_refused(change: Any, code: Code):
    source = parse(radiograph())
    change(source)
    buffer = BytesIO()
    source.save_as(buffer)
    with pytest.raises(RejectError) as refused:
        read_source(buffer.getvalue())
    assert refused.value.code == code


def test_a_picture_without_a_header_is_refused():
    with pytest.raises(RejectError) as refused:
        read_source(b"\x89PNG\r\n\x1a\n" + bytes(200))
    assert refused.value.code == Code.NOT_DICOM
