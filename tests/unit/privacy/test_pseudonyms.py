"""Keyed pseudonyms and the key's file."""

import hashlib
import hmac
import stat
from pathlib import Path

import pytest

from medray.errors import UsageError
from medray.privacy.pseudonyms import identify, load_key, pseudonym

KEY = bytes(range(32))
HEADER = {
    "path": "a/b.dcm",
    "patient_id": "P1",
    "issuer_of_patient_id": None,
    "study_instance_uid": "1.2",
    "sop_instance_uid": "1.2.3",
}


def test_a_pseudonym_is_the_keyed_hash_of_kind_and_value() -> None:
    expected = hmac.new(KEY, b"patient\0P1", hashlib.sha256).hexdigest()[:32]
    assert pseudonym(KEY, "patient", "P1") == expected
    assert pseudonym(KEY, "study", "P1") != expected
    assert pseudonym(bytes(32), "patient", "P1") != expected


def test_the_key_is_made_once_and_readable_by_its_owner_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "pseudonym.key"
    monkeypatch.setenv("MEDRAY_KEY_FILE", str(path))
    key = load_key()
    assert len(key) == 32
    assert load_key() == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == ["pseudonym.key"]


def test_without_a_named_file_the_key_lies_in_the_config_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDRAY_KEY_FILE")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    load_key()
    assert (tmp_path / "medray" / "pseudonym.key").exists()


def test_a_short_key_and_an_unwritable_place_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "short").write_bytes(b"secret")
    monkeypatch.setenv("MEDRAY_KEY_FILE", str(tmp_path / "short"))
    with pytest.raises(UsageError, match="6 bytes"):
        load_key()
    monkeypatch.setenv("MEDRAY_KEY_FILE", str(tmp_path / "short" / "below-a-file"))
    with pytest.raises(UsageError, match="cannot be read or made"):
        load_key()


def test_issuer_makes_two_patients_of_one_id() -> None:
    one = identify(KEY, HEADER)
    assert identify(KEY, HEADER | {"path": "other"}) == one
    assert identify(KEY, HEADER | {"issuer_of_patient_id": "A"}).subject_id != one.subject_id


@pytest.mark.parametrize(
    ("subject", "changes", "same"),
    [
        ("patient_id", {"study_instance_uid": "9"}, True),
        ("patient_id", {"patient_id": "P2"}, False),
        ("study_instance_uid", {"patient_id": "P2"}, True),
        ("study_instance_uid", {"study_instance_uid": "9"}, False),
        ("file", {"patient_id": "P2", "study_instance_uid": "9"}, True),
        ("file", {"path": "x"}, False),
    ],
)
def test_what_makes_a_subject(subject: str, changes: dict[str, str], same: bool) -> None:
    one, other = identify(KEY, HEADER, subject), identify(KEY, HEADER | changes, subject)
    assert (one.subject_id == other.subject_id) is same


def test_without_a_patient_id_the_study_stands_for_the_patient_and_then_the_file() -> None:
    nobody = HEADER | {"patient_id": None}
    assert identify(KEY, nobody) == identify(KEY, nobody | {"path": "x"})
    nowhere = nobody | {"study_instance_uid": None, "sop_instance_uid": None}
    one, other = identify(KEY, nowhere), identify(KEY, nowhere | {"path": "x"})
    assert one.subject_id != other.subject_id
    assert one.item != other.item
