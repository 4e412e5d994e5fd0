"""Scoring on Ray, killed with SIGKILL at three moments and run again: each item exactly once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from scans import add_refused, write_archive
from tiny import TINY, make_package

from medray import storage
from medray.score.pictures import Pictures
from medray.score.predictor import Predictor

FILES = 260  # more than are scored without Ray
TARGETS = 4
NIGHT = [sys.executable, str(Path(__file__).with_name("night.py"))]

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDRAY_KEY_FILE", str(tmp_path / "pseudonym.key"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    write_archive(tmp_path / "archive", FILES)
    add_refused(tmp_path / "archive")
    make_package(str(tmp_path / "run" / "package"))
    return tmp_path


def _chunks(folder: Path) -> int:
    return len(list((folder / "run" / ".staging" / "score").glob("*/chunks/*.parquet")))


def _published(folder: Path) -> bool:
    return (folder / "run" / "predictions" / "_delta_log").exists()


def _part_written(folder: Path) -> bool:
    return any((folder / "run" / "predictions").glob("scores-*.parquet"))


# What must have happened when the process is killed; in this order on one and the same output.
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "the first scores are written": lambda folder: _chunks(folder) >= 1,
    "half of the scores are written": lambda folder: _chunks(folder) >= FILES // 16 // 2,
    "the rows lie there, perhaps published": _part_written,
}


def _start(folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*NIGHT, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _kill_when(folder: Path, happened: Callable[[Path], bool]) -> bool:
    """Kill the process and all it started as soon as something has happened."""
    process = _start(folder)
    try:
        end = time.monotonic() + 300
        while not happened(folder) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        killed = process.poll() is None and happened(folder)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return killed


def test_killed_at_three_moments_each_item_stands_once(folder: Path):
    for moment, happened in MOMENTS.items():
        assert _kill_when(folder, happened), moment
    process = _start(folder)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    told = json.loads(out)
    rows = storage.read_table(str(folder / "run" / "predictions")).to_pylist()
    status = Counter(row["status"] for row in rows)
    assert status == {"ok": FILES * TARGETS, "rejected": 3, "ignored": 1}
    once = Counter((row["item_id"], row["target"], row["text_value"]) for row in rows)
    assert set(once.values()) == {1}
    assert told["files_seen"] == FILES + 4
    assert len({row["run"] for row in rows}) == 1
    _same_as_predict(folder, rows)
    left = [p for p in (folder / "run" / ".staging").rglob("*") if p.is_file()]
    assert left == []


def _same_as_predict(folder: Path, rows: list[dict[str, object]]) -> None:
    scored = {(row["item_id"], row["target"], row["text_value"]): row["score"] for row in rows}
    pictures = Pictures(Predictor(str(folder / "run" / "package"), workload=TINY))
    for path in sorted((folder / "archive").rglob("scan*.dcm"))[::20]:
        for row in pictures.predict_bytes(path.name, path.read_bytes()):
            key = (row.item_id, row.target, row.text_value)
            assert scored[key] == pytest.approx(row.score, abs=1e-6)
