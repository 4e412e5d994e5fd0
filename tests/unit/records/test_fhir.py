"""FHIR R4 resources against what the standard's pages say they mean."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medray.records.fhir import normalise
from medray.spec.records import CodeSpec

HER = {"reference": "Patient/p1"}
GLUCOSE = {"coding": [{"system": "http://loinc.org", "code": "2345-7"}], "text": "Glucose"}
DIABETES = {"coding": [{"system": "http://snomed.info/sct", "code": "44054006"}]}


def lines(*resources: Any) -> list[bytes]:
    return [json.dumps(resource).encode() for resource in resources]


def observation(**rest: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "subject": HER,
        "code": GLUCOSE,
        "effectiveDateTime": "2020-03-01T10:00:00Z",
        "valueQuantity": {"value": 95, "unit": "mg/dL", "code": "mg/dL"},
    } | rest


def told(*resources: Any, codes: dict[str, CodeSpec] | None = None) -> list[tuple[Any, ...]]:
    """(subject, time, code, number, text) of every event, and (code, reason) of every refusal."""
    batch = normalise(lines(*resources), codes or {}, ())
    names = ("subject", "time", "code", "numeric_value", "text_value")
    events = [tuple(row[name] for name in names) for row in batch.events.to_pylist()]
    refused = [(row["code"], row["reason"]) for row in batch.refused.to_pylist()]
    assert batch.read == len(events) + len(refused) + batch.dropped
    return events + refused


def test_patient() -> None:
    patient = {
        "resourceType": "Patient",
        "id": "p1",
        "birthDate": "1950-06-02",
        "gender": "female",
        "deceasedDateTime": "2021-05-06T07:08:09+02:00",
    }
    assert told(patient) == [
        ("p1", datetime(1950, 6, 2), "MEDS_BIRTH", None, None),
        ("p1", datetime(2021, 5, 6, 5, 8, 9), "MEDS_DEATH", None, None),
        ("p1", None, "GENDER", None, "female"),
    ]


def test_the_time_of_birth_goes_before_its_date() -> None:
    extension = {
        "url": "http://hl7.org/fhir/StructureDefinition/patient-birthTime",
        "valueDateTime": "1950-06-02T23:30:00Z",
    }
    patient = {
        "resourceType": "Patient",
        "id": "p1",
        "birthDate": "1950-06-02",
        "_birthDate": {"extension": [extension]},
    }
    assert told(patient) == [("p1", datetime(1950, 6, 2, 23, 30), "MEDS_BIRTH", None, None)]


@pytest.mark.parametrize(
    ("patient", "expected"),
    [
        # a death without a time would be known from the start
        ({"deceasedBoolean": True}, [("MEDS_DEATH", "no_time")]),
        ({"deceasedBoolean": False, "gender": "unknown"}, [("GENDER", "missing_value")]),
        ({"birthDate": "1950-13-02"}, [("MEDS_BIRTH", "invalid_time")]),
        ({"birthDate": 1950}, [("MEDS_BIRTH", "invalid_time")]),
        ({"id": None, "birthDate": "1950"}, [("MEDS_BIRTH", "no_subject")]),
    ],
)
def test_patients_that_are_refused(patient: dict[str, Any], expected: Any) -> None:
    assert told({"resourceType": "Patient", "id": "p1"} | patient) == expected


@pytest.mark.parametrize(
    ("value", "number", "text"),
    [
        ({"valueQuantity": {"value": 95.5, "unit": "mg/dL"}}, 95.5, None),
        ({"valueQuantity": {"value": 5, "comparator": "<"}}, 5, None),
        ({"valueInteger": 3}, 3, None),
        ({"valueBoolean": True}, None, "true"),
        ({"valueString": " trace "}, None, "trace"),
        ({"valueCodeableConcept": DIABETES}, None, "SNOMED//44054006"),
        ({"valueCodeableConcept": {"text": "positive"}}, None, "TEXT//positive"),
        ({}, None, None),  # that it was observed is all that is told
    ],
)
def test_values(value: dict[str, Any], number: float | None, text: str | None) -> None:
    plain = observation()
    del plain["valueQuantity"]
    assert told(plain | value) == [
        ("p1", datetime(2020, 3, 1, 10), "LOINC//2345-7", number, text),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"status": "entered-in-error"}, "not_a_fact"),
        ({"status": "cancelled"}, "not_a_fact"),
        ({"effectiveDateTime": None}, "no_time"),
        ({"effectiveDateTime": "yesterday"}, "invalid_time"),
        ({"effectiveDateTime": "2020-02-30"}, "invalid_time"),
        ({"subject": {"reference": "Group/g1"}}, "no_subject"),
        ({"subject": {"identifier": {"value": "4711"}}}, "no_subject"),
        ({"code": {}}, "no_code"),
        ({"valueQuantity": {"unit": "mg/dL"}}, "missing_value"),
        ({"valueQuantity": {"value": "95"}}, "invalid_value"),
        ({"valueQuantity": {"value": 10**400}}, "invalid_value"),
        ({"valueQuantity": {"value": 95, "unit": "mmol/L"}}, "wrong_unit"),
        ({"valueQuantity": {"value": 2000, "unit": "mg/dL"}}, "implausible_value"),
    ],
)
def test_observations_that_are_refused(change: dict[str, Any], reason: str) -> None:
    codes = {"LOINC//2345-7": CodeSpec(unit="mg/dL", high=1500)}
    ((_, said),) = told(observation(**change), codes=codes)
    assert said == reason


@pytest.mark.parametrize("kind", ["Ratio", "SampledData", "Range", "Period", "DateTime"])
def test_values_that_are_neither_number_nor_text(kind: str) -> None:
    plain = observation(**{f"value{kind}": {"origin": 1}})
    del plain["valueQuantity"]
    assert told(plain) == [("LOINC//2345-7", "unsupported_value")]


def test_a_value_that_is_said_to_be_absent_is_missing() -> None:
    plain = observation(dataAbsentReason={"coding": [{"code": "unknown"}]})
    del plain["valueQuantity"]
    assert told(plain) == [("LOINC//2345-7", "missing_value")]


def test_every_component_is_an_event() -> None:
    def part(code: str, value: float) -> dict[str, Any]:
        coding = {"coding": [{"system": "http://loinc.org", "code": code}]}
        return {"code": coding, "valueQuantity": {"value": value, "unit": "mmHg"}}

    pressure = observation(component=[part("8480-6", 120), part("8462-4", 80)])
    del pressure["valueQuantity"]
    assert [(code, number) for _, _, code, number, _ in told(pressure)] == [
        ("LOINC//8480-6", 120),
        ("LOINC//8462-4", 80),
    ]


@pytest.mark.parametrize("known", ["mm[Hg]", "mmHg"])
def test_a_unit_is_known_by_its_code_or_its_word(known: str) -> None:
    both = observation(valueQuantity={"value": 120, "code": "mm[Hg]", "unit": "mmHg"})
    ((_, _, _, number, _),) = told(both, codes={"LOINC//2345-7": CodeSpec(unit=known)})
    assert number == 120
    convert = CodeSpec(unit="kPa", convert={known: 0.1333})
    ((_, _, _, number, _),) = told(both, codes={"LOINC//2345-7": convert})
    assert number == pytest.approx(15.996)


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ({"effectiveDateTime": "2020"}, datetime(2020, 1, 1)),
        ({"effectiveDateTime": "2020-03"}, datetime(2020, 3, 1)),
        ({"effectiveDateTime": "2020-03-04"}, datetime(2020, 3, 4)),
        ({"effectiveDateTime": "2020-03-04T01:00:00-05:00"}, datetime(2020, 3, 4, 6)),
        (
            {"effectiveDateTime": "2020-03-04T01:02:03.123456789Z"},
            datetime(2020, 3, 4, 1, 2, 3, 123456),
        ),
        ({"effectivePeriod": {"start": "2020-03-04", "end": "2020-03-05"}}, datetime(2020, 3, 4)),
        ({"effectiveInstant": "2020-03-04T01:00:00.5Z"}, datetime(2020, 3, 4, 1, 0, 0, 500000)),
    ],
)
def test_times(time: dict[str, Any], expected: datetime) -> None:
    plain = observation()
    del plain["effectiveDateTime"]
    assert told(plain | time)[0][1] == expected


@pytest.mark.parametrize(
    ("reference", "subject"),
    [
        ("Patient/p1", "p1"),
        ("Patient/p1/_history/3", "p1"),
        ("https://clinic.example/fhir/r4/Patient/p1", "p1"),
        ("urn:uuid:0b1c", "0b1c"),
    ],
)
def test_references(reference: str, subject: str) -> None:
    assert told(observation(subject={"reference": reference}))[0][0] == subject


@pytest.mark.parametrize(
    ("codings", "code"),
    [
        # https://hl7.org/fhir/R4/terminologies-systems.html
        ([("http://loinc.org", "1")], "LOINC//1"),
        ([("http://snomed.info/sct", "1")], "SNOMED//1"),
        ([("http://hl7.org/fhir/sid/icd-10-cm", "E11.9")], "ICD10CM//E11.9"),
        ([("http://www.nlm.nih.gov/research/umls/rxnorm", "860975")], "RxNorm//860975"),
        ([("https://clinic.example/lab", "GLU")], "https://clinic.example/lab//GLU"),
        ([("https://clinic.example/lab", "GLU"), ("http://loinc.org", "1")], "LOINC//1"),
        ([(None, "GLU")], "GLU"),
    ],
)
def test_codes(codings: list[tuple[str | None, str]], code: str) -> None:
    concept = {"coding": [{"system": system, "code": one} for system, one in codings]}
    assert told(observation(code=concept))[0][2] == code


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"onsetDateTime": "2015-02-03", "recordedDate": "2016-01-01"}, datetime(2015, 2, 3)),
        ({"onsetPeriod": {"start": "2015-02-03"}}, datetime(2015, 2, 3)),
        ({"onsetString": "childhood", "recordedDate": "2016-01-01"}, datetime(2016, 1, 1)),
        ({"onsetString": "childhood"}, "no_time"),
        (
            {
                "recordedDate": "2016-01-01",
                "verificationStatus": {"coding": [{"code": "refuted"}]},
            },
            "not_a_fact",
        ),
    ],
)
def test_conditions(change: dict[str, Any], expected: Any) -> None:
    condition = {"resourceType": "Condition", "subject": HER, "code": DIABETES}
    ((*rest, last),) = told(condition | change)
    if isinstance(expected, str):
        assert (rest, last) == (["SNOMED//44054006"], expected)
    else:
        assert rest == ["p1", expected, "SNOMED//44054006", None]


def test_encounters_begin_and_end() -> None:
    stay = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": HER,
        "period": {"start": "2020-01-01T08:00:00Z", "end": "2020-01-04T12:00:00Z"},
    }
    assert told(stay) == [
        ("p1", datetime(2020, 1, 1, 8), "ADMISSION//IMP", None, None),
        ("p1", datetime(2020, 1, 4, 12), "DISCHARGE//IMP", None, None),
    ]
    assert told(stay | {"period": {"start": "2020-01-01"}}) == [
        ("p1", datetime(2020, 1, 1), "ADMISSION//IMP", None, None)
    ]
    assert told(stay | {"status": "planned"}) == [
        ("ADMISSION//IMP", "not_a_fact"),
        ("DISCHARGE//IMP", "not_a_fact"),
    ]
    assert told(stay | {"period": None}) == [("ADMISSION//IMP", "no_time")]


def test_medication_requests() -> None:
    metformin = {
        "coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "860975"}]
    }
    request = {
        "resourceType": "MedicationRequest",
        "status": "active",
        "subject": HER,
        "authoredOn": "2020-01-01",
    }
    event = ("p1", datetime(2020, 1, 1), "RxNorm//860975", None, None)
    assert told(request | {"medicationCodeableConcept": metformin}) == [event]
    contained = {
        "medicationReference": {"reference": "#m1"},
        "contained": [{"resourceType": "Medication", "id": "m1", "code": metformin}],
    }
    assert told(request | contained) == [event]
    elsewhere = {"medicationReference": {"reference": "Medication/m1"}}
    assert told(request | elsewhere) == [(None, "no_code")]
    never = {"medicationCodeableConcept": metformin, "doNotPerform": True}
    assert told(request | never) == [("RxNorm//860975", "not_a_fact")]


def test_lines_that_are_no_resource_are_refused_and_others_go_on() -> None:
    batch = normalise(
        [
            b'{"resourceType": "Patient", "id": ',
            b"",
            b"\xff\xfe",
            b"[1, 2]",
            b'{"resourceType": "p1 Smith"}',
            b'{"resourceType": "Patient", "id": "\\ud800", "gender": "male"}',
            b"[" * 100_000,
            *lines({"resourceType": "Claim", "id": "c1"}, observation()),
        ],
        {},
        (),
        first_row=100,
    )
    assert batch.refused["row"].to_pylist() == [100, 102, 103, 104, 105, 106]
    assert set(batch.refused["reason"].to_pylist()) == {"unreadable_row"}
    assert batch.not_used == {"Claim": 1}
    assert (batch.read, batch.dropped) == (8, 1)
    assert batch.events["row"].to_pylist() == [108]


def test_codes_that_the_spec_drops_are_dropped() -> None:
    batch = normalise(lines(observation()), {}, ["LOINC//2345-7"])
    assert (batch.events.num_rows, batch.dropped, batch.read) == (0, 1, 1)


_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_json = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)
_fields = ("subject", "code", "effectiveDateTime", "valueQuantity", "component", "period", "class")
_resources = st.fixed_dictionaries(
    {
        "resourceType": st.sampled_from(
            ["Patient", "Observation", "Condition", "Encounter", "MedicationRequest", "Claim"]
        )
    },
    optional={
        **dict.fromkeys(_fields, _json),
        **dict.fromkeys(("id", "status", "birthDate", "gender", "authoredOn", "contained"), _json),
        "verificationStatus": st.builds(lambda code: {"coding": [{"code": code}]}, _json),
        "medicationCodeableConcept": st.builds(lambda one: {"coding": [{"system": one}]}, _json),
    },
)


@settings(max_examples=60)
@given(st.lists(_resources | _json, max_size=6))
def test_whatever_stands_in_a_line_is_accounted_for(values: list[Any]) -> None:
    batch = normalise(lines(*values), {}, ())
    assert batch.read == batch.events.num_rows + batch.refused.num_rows + batch.dropped
    rows = {*batch.events["row"].to_pylist(), *batch.refused["row"].to_pylist()}
    assert len(rows) + sum(batch.not_used.values()) == len(values)
