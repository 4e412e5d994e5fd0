"""A model behind Ray Serve: over HTTP the score that the Predictor gives."""

import json
import socket
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medray.ingest import sources, tables
from medray.privacy.pseudonyms import load_key
from medray.score.predictor import Predictor
from medray.score.timelines import Timelines
from medray.spec.models import RunSpec

pytestmark = pytest.mark.slow


@pytest.fixture
def port(tiny_records: tuple[Path, RunSpec], ray_cluster: None) -> Iterator[int]:
    """Where the session's model is served."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Serve's own use of pydantic
        from ray import serve

        from medray.serve.app import Settings, build
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    package = str(tiny_records[0] / "run" / "package")
    serve.start(http_options={"host": "127.0.0.1", "port": number})
    serve.run(build(Settings(package=package)), name="tiny")
    yield number
    serve.shutdown()


def _post(port: int, name: str, body: Any) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models/{name}/predict",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_online_is_what_everywhere_is(port: int, tiny_records: tuple[Path, RunSpec]):
    spec = tiny_records[1].records
    assert spec is not None
    found = tables.read(sources.units_of(spec), spec, load_key())
    model = Timelines(Predictor(str(tiny_records[0] / "run" / "package")))
    scores = {row.subject_id: row.score for row in model.predict(found.events)}
    lines = (tiny_records[0] / "events" / "part-0.csv").read_text().splitlines()[1:]
    mine = [line.split(",") for line in lines if line.startswith("p7,")]
    events = [
        {
            "subject_id": "p7",
            "time": float(hours) if hours else None,
            "code": code,
            "numeric_value": float(value) if value and hours else None,
            "text_value": None if hours else value,
        }
        for _, hours, code, value in mine
    ]
    status, said = _post(port, "tiny_records", {"events": events})
    assert status == 200
    (item,) = said["predictions"]
    assert item["scores"][0]["score"] == scores[item["subject_id"]]  # to the bit
    status, said = _post(port, "other", {"events": events})
    assert (status, said["type"]) == (404, "urn:medray:problem:no-such-model")
