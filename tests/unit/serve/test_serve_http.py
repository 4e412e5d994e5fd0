"""The HTTP door without Serve: what it answers, what it refuses, and how it says so."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from medray.ingest import sources, tables
from medray.ingest.shards import subject_number
from medray.privacy.pseudonyms import load_key
from medray.serve.http import http_app
from medray.serve.messages import Event, table_of
from medray.serve.model import RecordsModel, open_model
from medray.spec.models import RunSpec

PATH = "/v1/models/tiny_records/predict"
EVENTS = [
    {"subject_id": "Ms X", "time": None, "code": "sex", "text_value": "F"},
    {"subject_id": "Ms X", "time": 0, "code": "lactate", "numeric_value": 1.25},
    {"subject_id": "Ms X", "time": 4.0, "code": "lactate", "numeric_value": 3.5},
    {"subject_id": 12, "time": 0, "code": "NOVEL", "numeric_value": 1},
]


@pytest.fixture(scope="module")
def app(tiny_records: tuple[Path, RunSpec]) -> Any:
    return http_app(open_model(str(tiny_records[0] / "run" / "package")), body_bytes=1 << 20)


def _post(
    app: Any, body: Any, path: str = PATH, kind: str = "application/json"
) -> tuple[int, str, dict[str, Any]]:
    """Status, content type and JSON of an answer, over ASGI."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent: list[dict[str, Any]] = []
    parts = [data[at : at + 65536] for at in range(0, len(data), 65536)] or [b""]

    async def receive() -> dict[str, Any]:
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-type", kind.encode())],
        "server": ("test", 80),
        "client": ("test", 1),
        "root_path": "",
    }
    asyncio.run(app(scope, receive, send))
    headers = dict(sent[0]["headers"])
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], headers[b"content-type"].decode(), json.loads(content)


def test_an_answer_is_what_predict_says(app: Any, tiny_records: tuple[Path, RunSpec]):
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
    app: Any, tiny_records: tuple[Path, RunSpec]
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


def test_prediction_times_as_meds_labels(app: Any):
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
        ({"events": []}, PATH, "text/csv", 415, "not-json"),
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
    app: Any, body: Any, path: str, kind: str, status: int, problem: str
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


def test_no_events_are_no_predictions(app: Any):
    status, _, said = _post(app, {"events": []})
    assert (status, said["predictions"], said["events"]) == (200, [], 0)


def test_a_defect_tells_nothing_of_the_request(app: Any, monkeypatch: pytest.MonkeyPatch):
    def broken(self: RecordsModel, question: Any) -> Any:
        raise ValueError("Ms X")

    monkeypatch.setattr(RecordsModel, "answer", broken)
    status, kind, said = _post(app, {"events": EVENTS})
    assert (status, kind) == (500, "application/problem+json")
    assert "Ms X" not in json.dumps(said)
