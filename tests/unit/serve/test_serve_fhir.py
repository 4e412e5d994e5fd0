"""FHIR Bundles online: the events that an ingest makes of them, and the same scores."""

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import clinics
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import InProcess, ask, route

from medray import api
from medray.ingest import sources, tables
from medray.privacy.pseudonyms import load_key
from medray.records import fhir as of_lines
from medray.score.predictor import Predictor
from medray.score.timelines import Timelines
from medray.serve.fhir import resources
from medray.serve.problems import ProblemError
from medray.spec.models import RunSpec

PATH = "/v1/models/clinic/predict"
FHIR = "application/fhir+json"
PATIENTS = 60


def bundle(*held: Any) -> dict[str, Any]:
    entries = [{"resource": one} for one in held]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def patient(number: int) -> dict[str, Any]:
    gender = "female" if number % 2 else "male"
    return {"resourceType": "Patient", "id": f"p{number}", "gender": gender}


def lactate(subject: str, hour: int, value: float) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "subject": {"reference": subject},
        "code": {"coding": [{"system": "http://loinc.org", "code": "2524-7"}]},
        "effectiveDateTime": f"2024-05-{1 + hour // 24:02}T{hour % 24:02}:00:00Z",
        "valueQuantity": {"value": value, "unit": "mmol/L", "code": "mmol/L"},
    }


def record(number: int) -> list[dict[str, Any]]:
    """Of one patient; whoever dies has the higher lactate."""
    rng = np.random.default_rng(number)
    level = 1.5 + 2 * (number % 3 == 0)
    hours = range(0, int(rng.integers(8, 40)), 4)
    values = np.round(level + rng.normal(0, 0.5, len(hours)), 3)
    told = [lactate(f"Patient/p{number}", h, float(v)) for h, v in zip(hours, values, strict=True)]
    return [patient(number), *told]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory, pseudonym_key: None) -> tuple[Path, RunSpec]:
    """A small model that learned from a bulk export."""
    folder = tmp_path_factory.mktemp("clinic")
    (folder / "export").mkdir()
    everything = [one for number in range(PATIENTS) for one in record(number)]
    lines = "".join(json.dumps(one) + "\n" for one in everything)
    (folder / "export" / "all.ndjson").write_text(lines)
    with (folder / "outcomes.csv").open("w", newline="") as file:
        rows = [(f"p{number}", int(number % 3 == 0)) for number in range(PATIENTS)]
        csv.writer(file).writerows([("patient", "died"), *rows])
    spec = RunSpec.model_validate(
        {
            "name": "clinic",
            "output": str(folder / "run"),
            "records": {
                "sources": [{"format": "fhir", "path": str(folder / "export")}],
                "tables": [{"path": str(folder / "outcomes.csv"), "key": "patient"}],
                "shards": 2,
            },
            "workload": "timeline",
            "params": {
                "outcome": {"column": "died"}, "predict_at": "end", "hidden": 8, "embedding": 4,
                "dropout": 0.0, "min_patients": 2,
            },
            "train": {"epochs": 1, "batch_size": 32},
            "evaluate": {"subgroups": [], "replicates": 100},
        }
    )  # fmt: skip
    api.ingest(spec)
    api.train(spec)
    return folder, spec


@pytest.fixture(scope="module")
def door(clinic: tuple[Path, RunSpec]) -> InProcess:
    return InProcess(route(str(clinic[0] / "run" / "package")))


def _post(door: InProcess, body: Any, path: str = PATH) -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = asyncio.run(ask(door, path, data, FHIR))
    return answer.status_code, answer.json()


def test_a_bundle_scores_as_the_export_it_was_ingested_from(
    door: InProcess, clinic: tuple[Path, RunSpec]
):
    folder, spec = clinic
    assert spec.records is not None
    found = tables.read(sources.units_of(spec.records), spec.records, load_key())
    rows = Timelines(Predictor(str(folder / "run" / "package"))).predict(found.events)
    offline = {row.item_id: row.score for row in rows}
    everything = [one for number in range(PATIENTS) for one in record(number)]
    status, said = _post(door, bundle(*everything))
    assert status == 200
    online = {one["item_id"]: one["scores"][0]["score"] for one in said["predictions"]}
    assert online == offline  # to the bit
    assert len(online) == PATIENTS
    assert (said["events"], said["refused"]) == (found.events.num_rows, dict(found.refused))
    assert [one["subject"] for one in said["predictions"]] == list(range(PATIENTS))


def test_patients_are_numbered_as_the_bundle_names_them(door: InProcess):
    held = [*record(7)[1:], patient(3), *record(5), *record(3)[1:], patient(7)]
    _, said = _post(door, bundle(*held))
    each = {one["subject"]: one["item_id"] for one in said["predictions"]}
    alone = [_post(door, bundle(*record(n)))[1]["predictions"][0]["item_id"] for n in (7, 3, 5)]
    assert each == dict(enumerate(alone))


def test_what_is_not_understood_is_counted(door: InProcess):
    held = bundle(
        *record(1),
        {"resourceType": "Practitioner", "id": "x"},
        {"resourceType": "Practitioner", "id": "y"},
        lactate("Group/1", 0, 1.0),
        {"no": "type"},
    )
    held["entry"] += [{"request": {"method": "DELETE", "url": "Patient/1"}}, 7, {"resource": []}]
    status, said = _post(door, held)
    assert status == 200
    assert said["not_used"] == {"Practitioner": 2}
    assert said["refused"] == {"no_subject": 1, "unreadable_row": 4}
    assert [one["status"] for one in said["predictions"]] == ["ok"]


def test_a_patient_of_whom_there_is_no_event_is_refused_by_itself(door: InProcess):
    cancelled = lactate("Patient/silent", 0, 1.0) | {"status": "cancelled"}
    _, said = _post(door, bundle(cancelled, *record(2)))
    told = [(one["subject"], one["status"], one["reason"]) for one in said["predictions"]]
    assert told == [(0, "rejected", "no_history"), (1, "ok", None)]


def test_an_empty_bundle_has_no_answers(door: InProcess):
    status, said = _post(door, {"resourceType": "Bundle", "type": "searchset"})
    assert (status, said["predictions"], said["events"]) == (200, [], 0)


def test_an_explanation_of_a_bundle(door: InProcess):
    status, said = _post(door, bundle(*record(1)), "/v1/models/clinic/explain")
    assert status == 200
    (one,) = said["explanations"]
    assert {event["code"] for event in one["events"]} <= {"LOINC//2524-7", "GENDER"}
    assert '"p1"' not in json.dumps(said)


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        (b"{", 400, "not-json"),
        (b"\xff\xfe\xff", 400, "not-json"),
        (b"[" * 100_000, 400, "not-json"),
        ([], 422, "not-a-bundle"),
        (patient(1), 422, "not-a-bundle"),
        ({"resourceType": "Bundle", "entry": {}}, 422, "not-a-bundle"),
        ({"entry": []}, 422, "not-a-bundle"),
    ],
)
def test_what_is_no_bundle_is_a_problem(door: InProcess, body: Any, status: int, problem: str):
    got, said = _post(door, body)
    assert (got, said["type"]) == (status, f"urn:medray:problem:{problem}")


def test_a_model_that_counts_from_the_patients_start_reads_no_dates(
    tiny_records: tuple[Path, RunSpec],
):
    hours = InProcess(route(str(tiny_records[0] / "run" / "package")))
    got, said = _post(hours, bundle(*record(1)), "/v1/models/tiny_records/predict")
    assert (got, said["type"]) == (422, "urn:medray:problem:invalid-time")


# ---------------------------------------------------------------- resources


def _events(lines: list[bytes]) -> list[tuple[Any, ...]]:
    batch = of_lines.normalise(lines, {}, ())
    names = ("subject", "time", "code", "numeric_value", "text_value")
    return [tuple(row[name] for name in names) for row in batch.events.to_pylist()]


def test_a_clinics_export_gives_the_same_events_as_a_bundle(tmp_path: Path):
    clinics.write_fhir(tmp_path / "fhir")
    lines = [
        line
        for file in sorted((tmp_path / "fhir").iterdir())
        for block in sources.lines_of(str(file))
        for line in block
    ]
    held: list[Any] = []
    broken = 0
    for line in lines:
        try:
            held.append(json.loads(line))
        except ValueError:
            broken += 1
    assert broken == 1
    found = resources(json.dumps(bundle(*held)).encode())
    assert _events(found.lines) == _events(lines)
    named = {event[0] for event in _events(lines)}
    assert named == set(found.patients)


UUID = "urn:uuid:0b5c7a1e-6f6c-4c53-9a3e-111111111111"


@pytest.mark.parametrize("url", [UUID, "https://clinic.example/fhir/Patient/p9"])
@pytest.mark.parametrize("ids", [{}, {"id": "p9"}])
def test_references_by_full_url_lead_to_the_patient(url: str, ids: dict[str, str]):
    whole = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": lactate(url, 0, 1.25)},
            {"fullUrl": url, "resource": {"resourceType": "Patient", "gender": "male", **ids}},
        ],
    }
    found = resources(json.dumps(whole).encode())
    subjects = {event[0] for event in _events(found.lines)}
    assert len(_events(found.lines)) == 2
    assert subjects == set(found.patients)
    assert len(subjects) == 1
    assert "id" not in ids or subjects == {"p9"}


def test_half_of_a_surrogate_pair_is_no_name():
    broken = {"resourceType": "Patient", "id": "\ud800", "gender": "male"}
    found = resources(json.dumps(bundle(broken, patient(1))).encode())
    assert found.patients == ["p1"]
    batch = of_lines.normalise(found.lines, {}, ())
    assert batch.refused["reason"].to_pylist() == ["unreadable_row"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["resourceType", "resource", "fullUrl", "subject", "reference", "id"]),
            inner | st.sampled_from(["Patient", "Observation", UUID, "Patient/1"]),
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(ANYTHING, max_size=6))
def test_no_bundle_whatever_it_holds_ends_in_a_crash(entries: list[Any]):
    whole = json.dumps({"resourceType": "Bundle", "entry": entries}).encode()
    found = resources(whole)
    assert len(found.lines) == len(entries)
    batch = of_lines.normalise(found.lines, {}, ())
    named = {*batch.events["subject"].to_pylist(), *batch.silent}
    assert named <= set(found.patients)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_other_body_is_a_problem(body: bytes):
    with pytest.raises(ProblemError) as refused:
        resources(body)
    assert refused.value.status in (400, 422)
