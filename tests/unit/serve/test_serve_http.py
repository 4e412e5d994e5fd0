"""The door without Serve: what it answers, what it refuses, and how it says so."""

import asyncio
import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import untrained
from scans import scan
from serving import InProcess, ask, route

from medray.ingest import sources, tables
from medray.ingest.shards import subject_number
from medray.privacy.pseudonyms import load_key
from medray.serve.asked import Part, Request
from medray.serve.messages import Event, table_of
from medray.serve.model import open_model
from medray.serve.problems import ProblemError
from medray.serve.records import RecordsModel
from medray.spec.models import RunSpec

PATH = "/v1/models/tiny_records/predict"
EVENTS = [
    {"subject_id": "Ms X", "time": None, "code": "sex", "text_value": "F"},
    {"subject_id": "Ms X", "time": 0, "code": "lactate", "numeric_value": 1.25},
    {"subject_id": "Ms X", "time": 4.0, "code": "lactate", "numeric_value": 3.5},
    {"subject_id": 12, "time": 0, "code": "NOVEL", "numeric_value": 1},
]


@pytest.fixture(scope="module")
def app(tiny_records: tuple[Path, RunSpec]) -> InProcess:
    return InProcess(route(str(tiny_records[0] / "run" / "package")))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, pseudonym_key: None) -> InProcess:
    old = untrained.imaging(tmp_path_factory.mktemp("old"))
    new = untrained.imaging(tmp_path_factory.mktemp("new"), version="2", seed=1)
    return InProcess(route(old, aliases=("latest",)), route(new, shadow=True))


def _post(
    app: InProcess, body: Any, path: str = PATH, kind: str = "application/json", **limits: Any
) -> tuple[int, str, dict[str, Any]]:
    """Status, content type and JSON of an answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = asyncio.run(ask(app, path, data, kind, body_mib=1, **limits))
    return answer.status_code, answer.headers["content-type"], answer.json()


def test_an_answer_is_what_predict_says(app: InProcess, tiny_records: tuple[Path, RunSpec]):
    status, kind, said = _post(app, {"events": EVENTS})
    assert (status, kind) == (200, "application/json")
    known, strange = said["predictions"]
    assert (known["subject"], known["status"]) == (0, "ok")
    assert known["subject_id"] == str(subject_number(load_key(), "Ms X"))
    assert known["prediction_time"] == "1970-01-01T04:00:00+00:00"
    assert (strange["subject"], strange["status"], strange["reason"]) == (
        1,
        "rejected",
        "no_history",
    )
    assert said["unknown_codes"] == {"NOVEL": 1}
    assert said["events"] == 4
    assert "Ms X" not in json.dumps(said)
    table = tiny_records[0] / "asked.csv"
    table.write_text(
        "patient,hours,code,value\nMs X,,sex,F\nMs X,0,lactate,1.25\nMs X,4,lactate,3.5\n"
    )
    from medray import api

    (answer,) = api.predict(str(tiny_records[0] / "run" / "package"), [str(table)])
    (row,) = answer.rows
    assert (row.item_id, row.score) == (known["item_id"], known["scores"][0]["score"])


def test_every_patient_of_the_tables_scores_the_same_online(
    app: InProcess, tiny_records: tuple[Path, RunSpec]
):
    spec = tiny_records[1].records
    assert spec is not None
    import csv

    path = tiny_records[0] / "events" / "part-0.csv"
    events: list[dict[str, Any]] = []
    for row in csv.DictReader(path.read_text().splitlines()):
        number = row["code"] in ("lactate", "heart_rate")
        events.append(
            {
                "subject_id": row["patient"],
                "time": float(row["hours"]) if row["hours"] else None,
                "code": row["code"],
                "numeric_value": float(row["value"]) if number else None,
                "text_value": None if number else row["value"] or None,
            }
        )
    _, _, said = _post(app, {"events": events})
    from medray.score.predictor import Predictor
    from medray.score.timelines import Timelines

    found = tables.read(sources.units_of(spec), spec, load_key())
    rows = Timelines(Predictor(str(tiny_records[0] / "run" / "package"))).predict(found.events)
    online = {one["item_id"]: one["scores"][0]["score"] for one in said["predictions"]}
    assert online == {row.item_id: row.score for row in rows}  # to the bit
    assert len(online) == 240


def test_prediction_times_as_meds_labels(app: InProcess):
    moments = [
        {"subject_id": "Ms X", "prediction_time": 2},
        {"subject_id": "Ms X", "prediction_time": -1},
        {"subject_id": "nobody", "prediction_time": 0},
    ]
    _, _, said = _post(app, {"events": EVENTS, "prediction_times": moments})
    told = [(one["subject"], one["status"], one["reason"]) for one in said["predictions"]]
    assert told == [(0, "rejected", "no_history"), (0, "ok", None), (2, "rejected", "no_history")]


@pytest.mark.parametrize(
    ("body", "path", "kind", "status", "problem"),
    [
        ({"events": []}, "/v1/models/other/predict", "application/json", 404, "no-such-model"),
        ({"events": []}, PATH, "text/csv", 415, "media-type"),
        (b"{", PATH, "application/json", 400, "not-json"),
        (b" " * ((1 << 20) + 1), PATH, "application/json", 413, "body-too-large"),
        ({"events": [{"subject_id": "Ms X"}]}, PATH, "application/json", 422, "invalid-request"),
        ({"event": []}, PATH, "application/json", 422, "invalid-request"),
        (
            {"events": [{**EVENTS[1], "time": "2024-05-01"}]},
            PATH,
            "application/json",
            422,
            "invalid-time",
        ),
        ({"events": [{**EVENTS[1], "time": 1e30}]}, PATH, "application/json", 422, "invalid-time"),
    ],
)
def test_what_is_wrong_is_a_problem_document(
    app: InProcess, body: Any, path: str, kind: str, status: int, problem: str
):
    got, content_type, said = _post(app, body, path, kind)
    assert got == said["status"] == status
    assert content_type == "application/problem+json"
    assert said["type"] == f"urn:medray:problem:{problem}"
    assert said["title"]
    assert said["detail"]
    assert "Ms X" not in json.dumps(said)


def test_facts_keep_no_time_online():
    events = [Event(subject_id=1, time=0, code=code, numeric_value=2) for code in ("Age", "HR")]
    assert table_of(events, "hours", {"Age"})["time"].is_valid().to_pylist() == [False, True]


def test_no_events_are_no_predictions(app: InProcess):
    status, _, said = _post(app, {"events": []})
    assert (status, said["predictions"], said["events"]) == (200, [], 0)


def test_a_defect_tells_nothing_of_the_request(app: InProcess, monkeypatch: pytest.MonkeyPatch):
    def broken(self: RecordsModel, several: Any) -> Any:
        raise ValueError("Ms X")

    monkeypatch.setattr(RecordsModel, "answer", broken)
    status, kind, said = _post(app, {"events": EVENTS})
    assert (status, kind) == (500, "application/problem+json")
    assert "Ms X" not in json.dumps(said)


def test_a_scan_gets_the_score_of_predict(pictures: InProcess, tmp_path: Path):
    from medray import api

    file = tmp_path / "scan.dcm"
    file.write_bytes(scan(3))
    (expected,) = api.predict(pictures.routes.every[0].uri, [str(file)])
    status, _, said = _post(pictures, scan(3), "/v1/models/scans/predict", "application/dicom")
    assert status == 200
    (item,), (row,) = said["predictions"], expected.rows
    assert (item["item_id"], item["subject_id"]) == (row.item_id, row.subject_id)
    (score,) = item["scores"]
    assert (score["score"], score["decision"], score["threshold"]) == (row.score, row.decision, 0.5)
    assert said["package"] == pictures.routes.every[0].ref


def test_parts_are_answered_in_their_order_and_a_bad_one_by_itself(pictures: InProcess):
    body = b"".join(
        b"--B\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n"
        for data in (scan(1), b"no scan", scan(2))
    )
    kind = 'multipart/related; type="application/dicom"; boundary=B'
    _, _, said = _post(pictures, body + b"--B--\r\n", "/v1/models/scans/predict", kind)
    told = [(one["part"], one["status"], one["reason"]) for one in said["predictions"]]
    assert told == [(0, "ok", None), (1, "rejected", "not_dicom"), (2, "ok", None)]
    alone = [
        _post(pictures, scan(at), "/v1/models/scans/predict", "application/dicom")[2]
        for at in (1, 2)
    ]
    scores = [one["scores"] for one in said["predictions"] if one["scores"]]
    assert scores == [one["predictions"][0]["scores"] for one in alone]


def test_requests_computed_together_are_answered_as_alone(
    pictures: InProcess, tiny_records: tuple[Path, RunSpec]
):
    model = open_model(pictures.routes.every[0].uri)
    asked = [
        model.read(Request((Part("file", scan(at)), Part("file", b"x"))[: 1 + at % 2]))
        for at in range(5)
    ]
    assert model.answer(asked) == [model.answer([one])[0] for one in asked]
    records = open_model(str(tiny_records[0] / "run" / "package"))
    groups: tuple[list[dict[str, Any]], ...] = (EVENTS, [], EVENTS[1:3], EVENTS[3:])
    read = [
        records.read(Request((Part("json", json.dumps({"events": one}).encode()),)))
        for one in groups
    ]
    assert records.answer(read) == [records.answer([one])[0] for one in read]


@pytest.mark.parametrize("name", ["scans", "tiny_records"])
def test_other_input_is_a_problem(name: str, pictures: InProcess, app: InProcess):
    backend, body, kind = (
        (pictures, b'{"events": []}', "application/json")
        if name == "scans"
        else (app, scan(1), "application/dicom")
    )
    status, _, said = _post(backend, body, f"/v1/models/{name}/predict", kind)
    assert (status, said["type"]) == (415, "urn:medray:problem:other-input")


def test_models_and_their_cards(pictures: InProcess):
    told = asyncio.run(ask(pictures, "/v1/models")).json()["models"]
    assert [(one["name"], one["version"], one["default"], one["shadow"]) for one in told] == [
        ("scans", "1", True, False),
        ("scans", "2", False, True),
    ]
    (target,) = told[0]["targets"]
    assert (target["name"], target["kind"], target["threshold"]) == ("lesion", "binary", 0.5)
    assert "application/dicom" in told[0]["accepts"]
    one = asyncio.run(ask(pictures, "/v1/models/scans@2")).json()
    assert (one["version"], one["replicas"]) == ("2", {"running": 1, "min": 1, "max": 1})
    assert one["card"].startswith("# ")


def test_an_answer_is_repeated_in_the_shadow(pictures: InProcess):
    pictures.shadowed.clear()
    _post(pictures, scan(1), "/v1/models/scans/predict", "application/dicom")
    assert [ref for ref, _ in pictures.shadowed] == [pictures.routes.every[1].ref]


def test_where_the_model_looked(pictures: InProcess):
    import base64

    _, _, said = _post(pictures, scan(1), "/v1/models/scans/explain", "application/dicom")
    (one,) = said["explanations"]
    assert (one["part"], one["frame"], one["target"]) == (0, 0, "lesion")
    for name in ("picture", "heatmap", "overlay"):
        assert base64.b64decode(one[name]).startswith(b"\x89PNG")
    png = asyncio.run(
        ask(
            pictures,
            "/v1/models/scans/explain",
            scan(1),
            "application/dicom",
            {"Accept": "image/png"},
        )
    )
    assert (png.headers["content-type"], png.content) == (
        "image/png",
        base64.b64decode(one["overlay"]),
    )
    status, _, problem = _post(
        pictures, scan(1), "/v1/models/scans/explain?target=other", "application/dicom"
    )
    assert (status, problem["type"]) == (422, "urn:medray:problem:no-such-target")


def test_what_events_added(app: InProcess):
    _, _, said = _post(app, {"events": EVENTS}, "/v1/models/tiny_records/explain")
    (one,) = said["explanations"]
    assert one["subject"] == 0
    parts = sum(event["contribution"] for event in one["events"])
    total = one["empty"] + one["timing"] + parts + one["error"]
    assert total == pytest.approx(one["answer"], abs=1e-6)
    assert said["drawings"][one["item_id"]].lstrip().startswith(("<svg", "<?xml"))
    assert "Ms X" not in json.dumps(said)


@pytest.mark.parametrize(
    ("accept", "status"),
    [("text/html", 406), ("*/*", 200), ("image/png;q=0.5, application/json", 200)],
)
def test_forms_of_an_explanation(accept: str, status: int, pictures: InProcess):
    path = "/v1/models/scans/explain"
    got = asyncio.run(ask(pictures, path, scan(1), "application/dicom", {"Accept": accept}))
    assert got.status_code == status


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/v1/nothing", 404, "not-found"),
        ("/v1/models/No%20Name", 422, "invalid-request"),
        ("/v1/models/scans/predict", 405, "method-not-allowed"),
    ],
)
def test_wrong_addresses_are_problem_documents(
    path: str, status: int, kind: str, pictures: InProcess
):
    got = asyncio.run(ask(pictures, path))
    assert got.headers["content-type"] == "application/problem+json"
    assert (got.status_code, got.json()["type"]) == (status, f"urn:medray:problem:{kind}")


def test_counts_are_kept_for_prometheus(pictures: InProcess):
    from serving import client

    async def asked() -> str:
        async with client(pictures) as door:
            for body in (scan(1), b"no scan"):
                kind = {"Content-Type": "application/dicom"}
                await door.post("/v1/models/scans/predict", content=body, headers=kind)
            return (await door.get("/metrics")).text

    text = asyncio.run(asked())
    labels = 'asked="predict",model="scans"'
    assert f'medray_requests_total{{{labels},status="200",version="1"}} 2.0' in text
    assert 'reason="not_dicom",status="rejected"' in text
    assert f'medray_requests_running{{{labels},version="1"}} 0.0' in text


def test_health(pictures: InProcess):
    assert asyncio.run(ask(pictures, "/healthz")).json() == {"status": "ok"}
    assert asyncio.run(ask(pictures, "/readyz")).status_code == 200
    unready = asyncio.run(ask(InProcess(), "/readyz"))
    assert (unready.status_code, unready.json()["type"]) == (503, "urn:medray:problem:not-ready")


def test_the_openapi_document_names_every_problem(pictures: InProcess):
    document = asyncio.run(ask(pictures, "/openapi.json")).json()
    answers = document["paths"]["/v1/models/{ref}/predict"]["post"]["responses"]
    for status in ("400", "401", "403", "404", "408", "413", "415", "422", "429", "503", "504"):
        assert list(answers[status]["content"]) == ["application/problem+json"]
    assert document["components"]["schemas"]["Problem"]["required"] == [
        "type",
        "title",
        "status",
        "detail",
    ]


def test_problems_pass_between_processes_whole():
    import pickle

    problem = ProblemError(HTTPStatus.NOT_FOUND, "gone", "why", [{"pointer": "/a"}], {"A": "b"})
    back = pickle.loads(pickle.dumps(problem))
    assert (back.document(), back.headers) == (problem.document(), problem.headers)
