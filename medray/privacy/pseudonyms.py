"""Keyed pseudonyms: the same person has the same name in every table.

Only the holder of the key can make the link again. The key lies outside every dataset.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medray.errors import UsageError

_KEY_BYTES = 32


def load_key() -> bytes:
    """Read the key of this site, made at first use and readable by its owner only.

    Lies in MEDRAY_KEY_FILE, else in $XDG_CONFIG_HOME/medray/pseudonym.key. Raises UsageError
    when the file cannot be read or is shorter than 32 bytes.
    """
    path = _key_path()
    try:
        if not path.exists():
            _create(path)
        key = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the pseudonym key cannot be read or made: {error.strerror}",
            remedy="let MEDRAY_KEY_FILE name a file in a folder that you can write to",
        ) from error
    if len(key) < _KEY_BYTES:
        raise UsageError(
            f"the pseudonym key is {len(key)} bytes long, not {_KEY_BYTES}",
            remedy="restore the key from its backup, or move it away to begin with a new one "
            "(subjects of older datasets will then not be recognised)",
        )
    return key


def pseudonym(key: bytes, kind: str, value: str) -> str:
    """32 hex characters for a value; other kinds ("subject", "study", …) give other names.

    HMAC-SHA256 over kind, NUL, value: without the key neither guessable nor reversible.
    """
    message = f"{kind}\0{value}".encode()
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Identity:
    """Pseudonyms of one file. An item is `{item}#{frame}`."""

    item: str
    subject_id: str
    study_id: str


def identify(key: bytes, header: Mapping[str, Any], subject: str = "patient_id") -> Identity:
    """Name a file's subject, study and instance from its row of FILES.

    `subject`: what makes two items the same patient: patient_id (with its issuer),
    study_instance_uid or file. Where that is absent, the study stands for the patient, and the
    file for the study.
    """
    path = header["path"]
    patient, study = header["patient_id"], header["study_instance_uid"]
    instance = header["sop_instance_uid"]
    if subject == "patient_id" and patient:
        issuer = header["issuer_of_patient_id"] or ""
        subject_id = pseudonym(key, "patient", f"{issuer}\0{patient}")
    elif subject != "file" and study:
        subject_id = pseudonym(key, "patient-of-study", study)
    else:
        subject_id = pseudonym(key, "patient-of-file", path)
    return Identity(
        item=pseudonym(key, "instance", instance) if instance else pseudonym(key, "file", path),
        subject_id=subject_id,
        study_id=pseudonym(key, "study", study) if study else pseudonym(key, "study-of-file", path),
    )


def _key_path() -> Path:
    named = os.environ.get("MEDRAY_KEY_FILE")
    if named:
        return Path(named).expanduser()
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "medray" / "pseudonym.key"


def _create(path: Path) -> None:
    """Write a new key; when two processes race, the one that links first wins for both."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # fails where the name is taken, unlike a rename
        except FileExistsError:
            return
    finally:
        temporary.unlink(missing_ok=True)
