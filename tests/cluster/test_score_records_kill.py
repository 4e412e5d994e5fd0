"""A night on records on Ray, killed with SIGKILL and run again: each item exactly once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tiny_records import write_records

from medray import api, storage
from medray.spec.load import dump_spec
from medray.spec.models import RunSpec, ScoreSpec

PATIENTS = 1100  # more than are scored without Ray
BATCH = 16
NIGHT = [sys.executable, str(Path(__file__).with_name("night_records.py"))]

pytestmark = pytest.mark.slow


def _chunks(folder: Path) -> int:
    return len(list((folder / "run" / ".staging" / "score").glob("*/chunks/*.parquet")))


def _start(spec: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*NIGHT, str(spec)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _kill_when(spec: Path, happened: Callable[[Path], bool]) -> bool:
    process = _start(spec)
    try:
        end = time.monotonic() + 300
        while not happened(spec.parent) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        killed = process.poll() is None and happened(spec.parent)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return killed


def test_killed_half_way_each_patient_stands_once(
    tiny_records: tuple[Path, RunSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_records(tmp_path, subjects=PATIENTS, seed=2, files=2)
    model, spec = str(tiny_records[0] / "run" / "package"), tiny_records[1]
    assert spec.records is not None
    source = spec.records.sources[0].model_copy(update={"path": (str(tmp_path / "events"),)})
    section = {"package": model, "batch_size": BATCH, "records": {"sources": [source.model_dump()]}}
    score = ScoreSpec.model_validate(section)
    night = spec.model_copy(update={"output": str(tmp_path / "run"), "score": score})
    path = tmp_path / "spec.yaml"
    path.write_text(dump_spec(night))
    # what happens around the commit is the same as for images: see test_score_kill
    assert _kill_when(path, lambda folder: _chunks(folder) >= PATIENTS // BATCH // 2)
    process = _start(path)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    told = json.loads(out)
    assert told["files_seen"] == PATIENTS
    assert told["files_resumed"] >= PATIENTS // BATCH // 2
    rows = storage.read_table(str(tmp_path / "run" / "predictions")).to_pylist()
    scored = {row["item_id"]: row["score"] for row in rows}
    assert len(rows) == len(scored) == PATIENTS
    assert len({row["run"] for row in rows}) == 1
    (answer,) = api.predict(model, [str(tmp_path / "events")], device="cpu")
    assert {row.item_id: row.score for row in answer.rows} == scored  # to the bit
    assert not [p for p in (tmp_path / "run" / ".staging").rglob("*") if p.is_file()]
    told = json.loads((tmp_path / "run" / "score-summary.json").read_text())
    assert told["items"] == PATIENTS
