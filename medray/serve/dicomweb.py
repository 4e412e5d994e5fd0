"""STOW-RS without HTTP: instances that were sent, and what is answered of each (PS3.18 10.5, I).

Nothing is stored: that an instance was stored means here that it was scored. Its scores stand in
the Content Sequence beside its reference, as in a report (TID 1501), or in reports themselves.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from pydicom import Dataset

from medray.deliver.source import Algorithm, Source, read_source
from medray.deliver.sr import Answer, Item, measurement_groups
from medray.dicom.files import quiet
from medray.errors import Code, RejectError
from medray.serve.asked import Part, Request

JSON = "application/dicom+json"

# PS3.18 table I.2-2; the last is PS3.7's status for an instance that is there already
OUT_OF_RESOURCES: Final = 0xA700
NOT_OF_ITS_CLASS: Final = 0xA900
NOT_UNDERSTOOD: Final = 0xC000
SYNTAX_NOT_SUPPORTED: Final = 0xC122
PROCESSING_FAILURE: Final = 0x0110
CLASS_NOT_SUPPORTED: Final = 0x0122
DUPLICATE: Final = 0x0111
# PS3.18 table I.2-1: of an instance some of whose frames were scored
ELEMENTS_DISCARDED: Final = 0xB006

_REASONS: Final[Mapping[Code, int]] = {
    Code.NOT_DICOM: NOT_UNDERSTOOD,
    Code.EMPTY_FILE: NOT_UNDERSTOOD,
    Code.TRUNCATED: NOT_UNDERSTOOD,
    Code.HEADER_INVALID: NOT_UNDERSTOOD,
    Code.DECODE_FAILED: NOT_UNDERSTOOD,
    Code.MISSING_ATTRIBUTE: NOT_OF_ITS_CLASS,
    Code.INVALID_ATTRIBUTE: NOT_OF_ITS_CLASS,
    Code.NO_PIXEL_DATA: NOT_OF_ITS_CLASS,
    Code.SIZE_MISMATCH: NOT_OF_ITS_CLASS,
    Code.FRAME_MISMATCH: NOT_OF_ITS_CLASS,
    Code.NOT_AN_IMAGE: CLASS_NOT_SUPPORTED,
    Code.DERIVED_OBJECT: CLASS_NOT_SUPPORTED,
    Code.UNSUPPORTED_TRANSFER_SYNTAX: SYNTAX_NOT_SUPPORTED,
    Code.TOO_LARGE: OUT_OF_RESOURCES,
    Code.DECODE_TIMEOUT: OUT_OF_RESOURCES,
    Code.DUPLICATE_INSTANCE: DUPLICATE,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What was not scored. source: None where it cannot even be referenced."""

    source: Source | None
    reason: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A request without what cannot be scored: its sources, one for each part; and the others."""

    request: Request
    sources: tuple[Source, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of every instance.

    items    the frames that were scored.
    partial  UIDs of instances some of whose frames were not.
    """

    items: tuple[Item, ...]
    partial: frozenset[str]
    failures: tuple[Failure, ...]

    @property
    def status(self) -> HTTPStatus:
        """PS3.18 table 10.5.3-1."""
        if not self.items:
            return HTTPStatus.CONFLICT
        return HTTPStatus.ACCEPTED if self.failures or self.partial else HTTPStatus.OK


def offer(request: Request, study: str | None) -> Offer:
    """Read headers; a study that the address names must be that of every instance."""
    parts: list[Part] = []
    sources: dict[str, Source] = {}
    failures: list[Failure] = []
    for part in request.parts:
        try:
            source = read_source(part.data)
        except RejectError as fault:
            failures.append(Failure(None, reason_of(fault.code)))
            continue
        if study is not None and source.study_instance_uid != study:
            failures.append(Failure(source, PROCESSING_FAILURE))
        elif source.sop_instance_uid in sources:
            failures.append(Failure(source, DUPLICATE))
        else:
            sources[source.sop_instance_uid] = source
            parts.append(part)
    return Offer(Request(tuple(parts)), tuple(sources.values()), tuple(failures))


def outcome(offered: Offer, predictions: Sequence[Mapping[str, Any]]) -> Outcome:
    """What the predictions for an offer's request say of its instances."""
    items: list[Item] = []
    partial: set[str] = set()
    failures = list(offered.failures)
    for at, source in enumerate(offered.sources):
        mine = [one for one in predictions if one["part"] == at]
        scored = [one for one in mine if one["status"] == "ok"]
        refused = [one for one in mine if one["status"] != "ok"]
        items += [Item(source, one["frame"], _answers(one["scores"])) for one in scored]
        if not scored:
            reason = reason_of(Code(refused[0]["reason"])) if refused else PROCESSING_FAILURE
            failures.append(Failure(source, reason))
        elif refused:
            partial.add(source.sop_instance_uid)
    return Outcome(tuple(items), frozenset(partial), tuple(failures))


def reason_of(code: Code) -> int:
    """Failure Reason (0008,1197) of a refusal."""
    return _REASONS.get(code, PROCESSING_FAILURE)


def response(found: Outcome, by: Algorithm, key: bytes) -> bytes:
    """Store Instances Response Module (PS3.18 I.1) in the DICOM JSON Model."""
    made = Dataset()
    made.RetrieveURL = ""  # type 2: nothing is kept that could be retrieved
    if found.items:
        made.ReferencedSOPSequence = _scored(found, by, key)
    referenced = [one for one in found.failures if one.source is not None]
    others = [one for one in found.failures if one.source is None]
    if referenced:
        made.FailedSOPSequence = [_failed(one) for one in referenced]
    if others:
        made.OtherFailuresSequence = [_failed(one) for one in others]
    with quiet():
        return json.dumps(made.to_json_dict(), ensure_ascii=False).encode()


def related(objects: Sequence[bytes]) -> tuple[bytes, str]:
    """DICOM files as one multipart/related body (PS3.18 8.6.1.2.1); its Content-Type."""
    boundary = f"medray-{secrets.token_hex(16)}"
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(head + one + b"\r\n" for one in objects) + f"--{boundary}--\r\n".encode()
    return body, f'multipart/related; type="application/dicom"; boundary={boundary}'


def _answers(scores: Sequence[Mapping[str, Any]]) -> tuple[Answer, ...]:
    names = ("target", "text_value", "score", "decision", "threshold")
    return tuple(Answer(**{name: one[name] for name in names}) for one in scores)


def _scored(found: Outcome, by: Algorithm, key: bytes) -> list[Dataset]:
    made: dict[str, Dataset] = {}
    for item in found.items:
        name = item.source.sop_instance_uid
        if name not in made:
            made[name] = _reference(item.source)
            made[name].RetrieveURL = ""
            made[name].ContentSequence = []
            if name in found.partial:
                made[name].WarningReason = ELEMENTS_DISCARDED
        made[name].ContentSequence.extend(group[0] for group in measurement_groups(item, by, key))
    return list(made.values())


def _failed(failure: Failure) -> Dataset:
    made = Dataset() if failure.source is None else _reference(failure.source)
    made.FailureReason = failure.reason
    return made


def _reference(source: Source) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID = source.sop_class_uid
    made.ReferencedSOPInstanceUID = source.sop_instance_uid
    return made
