"""FHIR R4 resources, one a line as in a bulk export, → events, or a reason per line.

Used are Patient, Observation, Condition, Encounter and MedicationRequest; a line of another type
is counted as not used. Page names in comments are those of https://hl7.org/fhir/R4.

Codes are `SYSTEM//CODE` with the short names of SYSTEMS (else the system's URI), `TEXT//words` for
a concept that has no code. A time of less than a day's precision stands at the beginning of its
day, month or year; times with a zone become UTC, those without stay as they are.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa

from medray.errors import Code
from medray.records.events import BIRTH, Batch, Frame, Objects, filled, judge, timestamps
from medray.spec.records import CodeSpec

DEATH: Final = "MEDS_DEATH"  # MEDS 0.4, death_code
# terminologies-systems.html
SYSTEMS: Final[Mapping[str, str]] = {
    "http://loinc.org": "LOINC",
    "urn:oid:2.16.840.1.113883.6.1": "LOINC",
    "http://snomed.info/sct": "SNOMED",
    "urn:oid:2.16.840.1.113883.6.96": "SNOMED",
    "http://hl7.org/fhir/sid/icd-10-cm": "ICD10CM",
    "urn:oid:2.16.840.1.113883.6.90": "ICD10CM",
    "http://hl7.org/fhir/sid/icd-10": "ICD10",
    "http://hl7.org/fhir/sid/icd-9-cm": "ICD9CM",
    "http://www.nlm.nih.gov/research/umls/rxnorm": "RxNorm",
    "urn:oid:2.16.840.1.113883.6.88": "RxNorm",
    "http://hl7.org/fhir/sid/ndc": "NDC",
    "http://www.whocc.no/atc": "ATC",
}
_BIRTH_TIME = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"
# datatypes.html#dateTime
_DATE_TIME = re.compile(
    r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)
_NO_DATE = "?"  # something stands there that is none
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}", re.ASCII)
_PATIENT = re.compile(r"(?:.*/)?Patient/([^/?#|]+)(?:/_history/[^/]+)?")

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Value:
    """What was found: a number with its unit by one or two names, a text, or why neither."""

    number: float = np.nan
    text: str | None = None
    unit: str | None = None
    unit_also: str | None = None
    refused: Code | None = None


@dataclass(frozen=True, slots=True)
class _Offer:
    """One event that a resource tells of. Without `time` it is a fact, or refused."""

    subject: str | None
    code: str | None
    time: str | None = None
    value: _Value = _Value()
    refused: Code | None = None


def normalise(
    lines: Sequence[bytes], codes: Mapping[str, CodeSpec], drop: Sequence[str], first_row: int = 0
) -> Batch:
    """Lines of one file, numbered from `first_row`, → events and refusals; blank lines are none."""
    offers: list[_Offer] = []
    rows: list[int] = []
    not_used: Counter[str] = Counter()
    for row, line in enumerate(lines, first_row):
        if not line.strip():
            continue
        kind, found = _read(line)
        offers += found
        rows += [row] * len(found)
        if not found:
            not_used[kind] += 1
    return judge(_frame(offers, rows), codes, drop, not_used)


def _read(line: bytes) -> tuple[str, list[_Offer]]:
    """A resource's type, and what it tells."""
    try:
        resource = _object(json.loads(line))
        if b"\\u" in line:  # half of a surrogate pair cannot be written as UTF-8
            json.dumps(resource, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        resource = {}
    kind = resource.get("resourceType")
    if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
        return "", [_Offer(None, None, refused=Code.UNREADABLE_ROW)]
    reader = _READERS.get(kind)
    return kind, [] if reader is None else list(reader(resource))


def _frame(offers: Sequence[_Offer], rows: Sequence[int]) -> Frame:
    values = [offer.value for offer in offers]
    reasons = [offer.refused or offer.value.refused for offer in offers]
    text_N = _column([offer.time for offer in offers])
    time_N = timestamps(pa.chunked_array([pa.array(text_N, pa.string())]))
    return Frame(
        subject=_column([offer.subject for offer in offers]),
        time=time_N,
        time_wrong=np.isnat(time_N) & filled(text_N),
        code=_column([offer.code for offer in offers]),
        value=np.array([value.number for value in values], np.float64),
        text=_column([value.text for value in values]),
        unit=_column([value.unit for value in values]),
        row=np.array(rows, np.int64),
        unit_also=_column([value.unit_also for value in values]),
        refused=_column([None if reason is None else str(reason) for reason in reasons]),
    )


def _column(values: Sequence[str | None]) -> Objects:
    column = np.empty(len(values), object)
    column[:] = values
    return column


# ---------------------------------------------------------------- parts of resources


def _object(value: Any) -> Resource:
    return cast(Resource, value) if isinstance(value, dict) else {}


def _objects(value: Any) -> list[Resource]:
    items = cast(list[Any], value) if isinstance(value, list) else []
    return [_object(each) for each in items if isinstance(each, dict)]


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _time(*candidates: Any) -> str | None:
    """The first that stands there; _NO_DATE when that is no time."""
    value = next((each for each in candidates if each not in (None, "")), None)
    if value is None:
        return None
    if not isinstance(value, str) or not _DATE_TIME.fullmatch(value):
        return _NO_DATE
    return re.sub(r"(\.\d{6})\d+", r"\1", value)  # MEDS keeps microseconds


def _start(period: Any) -> Any:
    return _object(period).get("start")


def _patient_of(resource: Resource) -> str | None:
    """Name of the patient that `subject` points to, relative, absolute or urn:uuid."""
    reference = _text(_object(resource.get("subject")).get("reference")) or ""
    if reference.startswith("urn:uuid:"):
        return reference.removeprefix("urn:uuid:") or None
    found = _PATIENT.fullmatch(reference)
    return found.group(1) if found else None


def patient_of(resource: Resource) -> str | None:
    """Name of the patient that a resource is of, or is about; None where it names none."""
    if resource.get("resourceType") == "Patient":
        return _text(resource.get("id"))
    return _patient_of(resource)


def _code(concept: Any) -> str | None:
    """`SYSTEM//CODE` of the first coding of a system in SYSTEMS, else of the first."""
    holder = _object(concept)
    codings = [each for each in _objects(holder.get("coding")) if _text(each.get("code"))]
    if not codings:
        text = _text(holder.get("text"))
        return text and f"TEXT//{text}"
    known = (each for each in codings if _text(each.get("system")) in SYSTEMS)
    return _name(next(known, codings[0]))


def _name(coding: Resource) -> str:
    system = _text(coding.get("system"))
    code = _text(coding.get("code")) or ""
    return code if system is None else f"{SYSTEMS.get(system, system)}//{code}"


def _is_one_of(concept: Any, codes: frozenset[str]) -> bool:
    return any(
        _text(each.get("code")) in codes for each in _objects(_object(concept).get("coding"))
    )


# ---------------------------------------------------------------- resources


def _patient(patient: Resource) -> Iterator[_Offer]:
    """Birth, death and gender. A death whose time is not told cannot stand in a timeline."""
    subject = _text(patient.get("id"))
    extensions = _objects(_object(patient.get("_birthDate")).get("extension"))
    exact = [e.get("valueDateTime") for e in extensions if e.get("url") == _BIRTH_TIME]
    birth = _time(*exact, patient.get("birthDate"))
    if birth is not None:
        yield _Offer(subject, BIRTH, birth)
    death = _time(patient.get("deceasedDateTime"))
    if death is not None:
        yield _Offer(subject, DEATH, death)
    elif patient.get("deceasedBoolean") is True:
        yield _Offer(subject, DEATH, refused=Code.NO_TIME)
    gender = _text(patient.get("gender"))
    if gender is not None:
        unknown = Code.MISSING_VALUE if gender == "unknown" else None
        yield _Offer(subject, "GENDER", value=_Value(text=gender), refused=unknown)


def _observation(observation: Resource) -> Iterator[_Offer]:
    """The value, and every component's; without any, that it was observed."""
    cancelled = observation.get("status") in ("entered-in-error", "cancelled")
    subject = _patient_of(observation)
    time = _time(
        observation.get("effectiveDateTime"),
        _start(observation.get("effectivePeriod")),
        observation.get("effectiveInstant"),
    )
    components = _objects(observation.get("component"))
    holders = [observation] if _tells(observation) or not components else []
    for holder in [*holders, *components]:
        refused = Code.NOT_A_FACT if cancelled else _lacking(time)
        yield _Offer(subject, _code(holder.get("code")), time, _value(holder), refused)


def _lacking(time: str | None) -> Code | None:
    return Code.NO_TIME if time is None else None


def _tells(holder: Resource) -> bool:
    return "dataAbsentReason" in holder or any(name.startswith("value") for name in holder)


def _value(holder: Resource) -> _Value:
    """`<5` is 5: the limit stands for the value."""
    if "valueQuantity" in holder:
        quantity = _object(holder["valueQuantity"])
        return _number(quantity.get("value"), _text(quantity.get("code")), quantity.get("unit"))
    if "valueInteger" in holder:
        return _number(holder["valueInteger"])
    if "valueBoolean" in holder:
        return _Value(text="true" if holder["valueBoolean"] is True else "false")
    if "valueCodeableConcept" in holder:
        return _said(_code(holder["valueCodeableConcept"]))
    if "valueString" in holder:
        return _said(_text(holder["valueString"]))
    if "dataAbsentReason" in holder:
        return _Value(refused=Code.MISSING_VALUE)
    return _Value(refused=Code.UNSUPPORTED_VALUE) if _tells(holder) else _Value()


def _number(value: Any, code: str | None = None, word: Any = None) -> _Value:
    if value is None:
        return _Value(refused=Code.MISSING_VALUE)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _Value(refused=Code.INVALID_VALUE)
    try:
        number = float(value)
    except OverflowError:
        number = np.inf
    if np.isnan(number):
        return _Value(refused=Code.INVALID_VALUE)
    return _Value(number, unit=code, unit_also=_text(word))


def _said(text: str | None) -> _Value:
    return _Value(refused=Code.MISSING_VALUE) if text is None else _Value(text=text)


def _condition(condition: Resource) -> Iterator[_Offer]:
    """The onset, or when it was recorded where that is not told."""
    refuted = frozenset({"refuted", "entered-in-error"})
    time = _time(
        condition.get("onsetDateTime"),
        _start(condition.get("onsetPeriod")),
        condition.get("recordedDate"),
    )
    wrong = _is_one_of(condition.get("verificationStatus"), refuted)
    refused = Code.NOT_A_FACT if wrong else _lacking(time)
    yield _Offer(_patient_of(condition), _code(condition.get("code")), time, refused=refused)


def _encounter(encounter: Resource) -> Iterator[_Offer]:
    """Begin and end, with the class (v3-ActCode: IMP, AMB, EMER, …) in the code."""
    kind = _text(_object(encounter.get("class")).get("code"))
    suffix = f"//{kind}" if kind else ""
    planned = encounter.get("status") in ("planned", "cancelled", "entered-in-error")
    subject = _patient_of(encounter)
    start, end = (_time(_object(encounter.get("period")).get(name)) for name in ("start", "end"))
    refused = Code.NOT_A_FACT if planned else None
    yield _Offer(subject, f"ADMISSION{suffix}", start, refused=refused or _lacking(start))
    if end is not None:
        yield _Offer(subject, f"DISCHARGE{suffix}", end, refused=refused)


def _medication_request(request: Resource) -> Iterator[_Offer]:
    """When it was written, and what for; a medication of its own only where it is contained."""
    concept = request.get("medicationCodeableConcept")
    reference = _text(_object(request.get("medicationReference")).get("reference")) or ""
    for contained in _objects(request.get("contained")):
        if concept is None and reference == f"#{contained.get('id')}":
            concept = contained.get("code")
    never = request.get("doNotPerform") is True
    cancelled = never or request.get("status") in ("cancelled", "entered-in-error", "draft")
    time = _time(request.get("authoredOn"))
    refused = Code.NOT_A_FACT if cancelled else _lacking(time)
    yield _Offer(_patient_of(request), _code(concept), time, refused=refused)


_READERS: Final[Mapping[str, Callable[[Resource], Iterator[_Offer]]]] = {
    "Patient": _patient,
    "Observation": _observation,
    "Condition": _condition,
    "Encounter": _encounter,
    "MedicationRequest": _medication_request,
}
