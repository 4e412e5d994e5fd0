"""Thirty made-up patients, as a FHIR bulk export and as tables of OMOP, with faults in both.

What every patient's timeline must become is written down beside it, independently of medray.
"""

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

Event = tuple[str | None, str, float | None, str | None]
"""Time (ISO, None: a fact), code, number, text."""

PATIENTS = 30
CLASS = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def _day(patient: int, visit: int) -> datetime:
    return datetime(2020, 1, 1, 8) + timedelta(days=90 * visit + patient)


def _glucose(patient: int, visit: int) -> float:
    return 80.0 + patient + 0.5 * visit


def _ill(patient: int) -> bool:
    return patient % 3 == 0


# ---------------------------------------------------------------- FHIR


def fhir_timelines() -> list[list[Event]]:
    """What is to come of `write_fhir`, a sorted list per patient."""
    found: list[list[Event]] = []
    for one in range(PATIENTS):
        events: list[Event] = [
            (f"{1940 + one}-05-06T00:00:00", "MEDS_BIRTH", None, None),
            (None, "GENDER", None, "female" if one % 2 else "male"),
            (_day(one, 4).isoformat(), "RxNorm//860975", None, None),
        ]
        for visit in range(4):
            at = _day(one, visit)
            end = (at + timedelta(hours=2)).isoformat()
            events += [
                (at.isoformat(), "ADMISSION//AMB", None, None),
                (end, "DISCHARGE//AMB", None, None),
                (at.isoformat(), "LOINC//2345-7", _glucose(one, visit), None),
                (at.isoformat(), "LOINC//8480-6", 110.0 + one, None),
                (at.isoformat(), "LOINC//8462-4", 70.0 + visit, None),
            ]
        if _ill(one):
            events.append((_day(one, 2).isoformat(), "SNOMED//44054006", None, None))
        found.append(events)
    return [sorted(events, key=str) for events in found]


# A broken line, four of a type that is not used, a wrong unit, one cancelled, one before the
# birth, one told twice.
FHIR_REFUSED = {
    "duplicate_event": 1,
    "not_a_fact": 1,
    "time_before_birth": 1,
    "unreadable_row": 1,
    "wrong_unit": 1,
}
FHIR_NOT_USED = {"Claim": 4}


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _observation(one: int, at: str, code: str, **rest: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "subject": {"reference": f"Patient/p{one}"},
        "code": _concept("http://loinc.org", code),
        "effectiveDateTime": at,
    } | rest


def _quantity(value: float, unit: str, code: str) -> dict[str, Any]:
    system = "http://unitsofmeasure.org"
    return {"valueQuantity": {"value": value, "unit": unit, "code": code, "system": system}}


def _fhir_visit(one: int, visit: int) -> list[dict[str, Any]]:
    at = _day(one, visit)
    start, end = (time.isoformat() + "Z" for time in (at, at + timedelta(hours=2)))
    pressure = {
        "component": [
            {"code": _concept("http://loinc.org", "8480-6")}
            | _quantity(110 + one, "mmHg", "mm[Hg]"),
            {"code": _concept("http://loinc.org", "8462-4")}
            | _quantity(70 + visit, "mmHg", "mm[Hg]"),
        ]
    }
    return [
        {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"system": CLASS, "code": "AMB"},
            "subject": {"reference": f"Patient/p{one}"},
            "period": {"start": start, "end": end},
        },
        _observation(one, start, "2345-7") | _quantity(_glucose(one, visit), "mg/dL", "mg/dL"),
        _observation(one, start, "85354-9", **pressure),
    ]


def _fhir_faults() -> list[Any]:
    start = _day(1, 0).isoformat() + "Z"
    return [
        *({"resourceType": "Claim", "id": str(number)} for number in range(4)),
        _observation(1, start, "2345-7") | _quantity(5.5, "mmol/L", "mmol/L"),
        _observation(1, start, "2345-7")
        | _quantity(91, "mg/dL", "mg/dL")
        | {"status": "cancelled"},
        _observation(2, "1901-01-01", "2345-7") | _quantity(91, "mg/dL", "mg/dL"),
        _fhir_visit(3, 1)[1],
    ]


def write_fhir(folder: Path) -> None:
    """Files by type of resource; those of the first two visits lie apart, compressed."""
    folder.mkdir(parents=True)
    patients, early, late, others = ([] for _ in range(4))
    for one in range(PATIENTS):
        gender = "female" if one % 2 else "male"
        birth = {"birthDate": f"{1940 + one}-05-06", "gender": gender}
        patients.append({"resourceType": "Patient", "id": f"p{one}"} | birth)
        for visit in range(4):
            (early if visit < 2 else late).extend(_fhir_visit(one, visit))
        subject = {"subject": {"reference": f"https://clinic.example/fhir/Patient/p{one}"}}
        drug = _concept("http://www.nlm.nih.gov/research/umls/rxnorm", "860975")
        others.append(
            {"resourceType": "MedicationRequest", "status": "active", "intent": "order"}
            | subject
            | {"medicationCodeableConcept": drug, "authoredOn": _day(one, 4).isoformat() + "Z"}
        )
        if _ill(one):
            onset = {"onsetDateTime": (_day(one, 2) + timedelta(hours=2)).isoformat() + "+02:00"}
            code = {"code": _concept("http://snomed.info/sct", "44054006")}
            others.append({"resourceType": "Condition"} | subject | code | onset)
    _write_lines(folder / "Patient.ndjson", patients)
    _write_lines(folder / "early.ndjson.gz", early)
    _write_lines(folder / "late.ndjson", [*late, *_fhir_faults()])
    _write_lines(folder / "others.jsonl", others, end=b'{"resourceType": "Observation", "sta')


def _write_lines(path: Path, resources: Sequence[Any], end: bytes = b"") -> None:
    data = b"".join(json.dumps(each).encode() + b"\n" for each in resources) + end
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


# ---------------------------------------------------------------- OMOP


def omop_timelines() -> list[list[Event]]:
    """What is to come of `write_omop`, a sorted list per patient."""
    found: list[list[Event]] = []
    for one in range(PATIENTS):
        events: list[Event] = [
            (f"{1940 + one}-05-06T00:00:00", "MEDS_BIRTH", None, None),
            (None, "OMOP//gender", None, "8532" if one % 2 else "8507"),
            (f"{_day(one, 4).date()}T00:00:00", "OMOP//drug//1503297", None, None),
        ]
        for visit in range(4):
            at = _day(one, visit)
            day = f"{at.date()}T00:00:00"
            events += [
                (at.isoformat(), "OMOP//visit_start//9202", None, None),
                (day, "OMOP//visit_end//9202", None, None),
                (at.isoformat(), "OMOP//measurement//3004501", _glucose(one, visit), None),
                (at.isoformat(), "OMOP//measurement//0//URINE", None, "45884084"),
            ]
        if _ill(one):
            events.append(
                (f"{_day(one, 2).date()}T00:00:00", "OMOP//condition//201826", None, None)
            )
        if one == 7:
            events.append((f"{_day(one, 5).date()}T00:00:00", "MEDS_DEATH", None, None))
        found.append(events)
    return [sorted(events, key=str) for events in found]


OMOP_REFUSED = {
    "duplicate_event": 1,
    "no_time": 1,
    "time_before_birth": 1,
    "wrong_unit": 1,
}


def write_omop(folder: Path) -> None:
    """Tables as CSV, names in upper and lower case; measurement in two files."""
    folder.mkdir(parents=True)
    people, visits, conditions, drugs = ([] for _ in range(4))
    measured: list[list[dict[str, Any]]] = [[], []]
    for one in range(PATIENTS):
        birth = {"year_of_birth": 1940 + one, "month_of_birth": 5, "day_of_birth": 6}
        gender = {"gender_concept_id": 8532 if one % 2 else 8507, "race_concept_id": 0}
        people.append({"person_id": one + 1} | gender | birth)
        for visit in range(4):
            visits.append(_omop_visit(one, visit))
            measured[visit % 2] += [_omop_glucose(one, visit), _omop_urine(one, visit)]
        if _ill(one):
            start = {"condition_start_date": _day(one, 2).date()}
            conditions.append({"person_id": one + 1, "condition_concept_id": 201826} | start)
        drug = {"drug_concept_id": 1503297, "drug_exposure_start_date": _day(one, 4).date()}
        drugs.append({"person_id": one + 1} | drug)
    measured[1] += [
        _omop_glucose(1, 0) | {"unit_concept_id": 8753, "unit_source_value": "mmol/L"},
        _omop_glucose(2, 0) | {"measurement_datetime": "", "measurement_date": "1901-01-01"},
        _omop_glucose(2, 0) | {"measurement_datetime": "", "measurement_date": ""},
        _omop_glucose(3, 1),
    ]
    _write_table(folder / "PERSON.csv", people, upper=True)
    _write_table(folder / "visit_occurrence.csv", visits)
    _write_table(folder / "condition_occurrence.csv", conditions)
    _write_table(folder / "DRUG_EXPOSURE.CSV", drugs, upper=True)
    _write_table(folder / "death.csv", [{"person_id": 8, "death_date": _day(7, 5).date()}])
    (folder / "measurement").mkdir()
    for number, rows in enumerate(measured):
        _write_table(folder / "measurement" / f"part-{number}.csv", rows)
    _write_table(folder / "concept.csv", [{"concept_id": 9202, "concept_name": "Outpatient"}])


def _omop_visit(one: int, visit: int) -> dict[str, Any]:
    at = _day(one, visit)
    return {
        "person_id": one + 1,
        "visit_concept_id": 9202,
        "visit_start_date": at.date(),
        "visit_start_datetime": at,
        "visit_end_date": at.date(),
    }


def _omop_glucose(one: int, visit: int) -> dict[str, Any]:
    return {
        "person_id": one + 1,
        "measurement_concept_id": 3004501,
        "measurement_date": _day(one, visit).date(),
        "measurement_datetime": _day(one, visit),
        "value_as_number": _glucose(one, visit),
        "value_as_concept_id": "",
        "unit_concept_id": 8840,
        "unit_source_value": "mg/dL",
        "measurement_source_value": "GLU",
    }


def _omop_urine(one: int, visit: int) -> dict[str, Any]:
    return _omop_glucose(one, visit) | {
        "measurement_concept_id": 0,
        "measurement_source_value": "URINE",
        "value_as_number": "",
        "value_as_concept_id": 45884084,
        "unit_concept_id": "",
        "unit_source_value": "",
    }


def _write_table(path: Path, rows: Sequence[Mapping[str, Any]], *, upper: bool = False) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow([name.upper() if upper else name for name in rows[0]])
        out.writerows([row.values() for row in rows])
