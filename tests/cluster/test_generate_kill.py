"""A generation killed with SIGKILL at three moments and run again: each molecule exactly once."""

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
from tiny_molecules import make_judge, make_maker, write_molecules

from medray import api, storage

COUNT = 500
MAKE = [sys.executable, str(Path(__file__).with_name("makers.py"))]

pytestmark = pytest.mark.slow


def _chunks(folder: Path) -> int:
    return len(list((folder / "out" / ".staging").glob("*/chunks/*.receipt.parquet")))


# What must have happened when the process is killed; in this order on one and the same output.
MOMENTS: dict[str, Callable[[Path], bool]] = {
    "a chunk is drawn": lambda folder: _chunks(folder) >= 1,
    "most are drawn": lambda folder: _chunks(folder) >= 2,
    "the table is published": lambda folder: (folder / "out" / "molecules" / "_delta_log").exists(),
}


def _kill_when(folder: Path, happened: Callable[[Path], bool]) -> bool:
    process = subprocess.Popen(
        [*MAKE, str(folder), str(COUNT)], stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        end = time.monotonic() + 300
        while not happened(folder) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        killed = process.poll() is None and happened(folder)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return killed


def test_killed_at_three_moments_each_molecule_stands_once(tmp_path: Path):
    make_maker(str(tmp_path / "package"), write_molecules(tmp_path))
    make_judge(str(tmp_path / "tox"))
    for moment, happened in MOMENTS.items():
        assert _kill_when(tmp_path, happened), moment
    out, _ = subprocess.Popen(
        [*MAKE, str(tmp_path), str(COUNT)], stdout=subprocess.PIPE
    ).communicate(timeout=300)
    told = json.loads(out)
    rows = storage.read_table(str(tmp_path / "out" / "molecules")).to_pylist()
    assert len(rows) == len({row["smiles"] for row in rows}) == told["kept"] == COUNT
    assert told["resumed"] > 0
    assert all(row["tox/NR-AR"] is not None for row in rows)
    left = [path for path in (tmp_path / "out" / ".staging").rglob("*") if path.is_file()]
    assert left == []
    whole = str(tmp_path / "whole")
    asked = {"count": COUNT, "filters": False, "formats": ()}
    api.generate(str(tmp_path / "package"), whole, toxicity=[str(tmp_path / "tox")], **asked)
    assert storage.read_table(f"{whole}/molecules").to_pylist() == rows
