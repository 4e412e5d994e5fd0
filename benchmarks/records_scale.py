"""Figure 5: ingest and training over 20,000 and over 100,000 synthetic patients, 100 events each.

Both verbs run as they do for a user, `medray ingest` and `medray train`, each in a process of its
own. Memory is the proportional set size (PSS) of that process and all its descendants, Ray's among
them, read from /proc/<pid>/smaps_rollup every 0.3 s; the greatest sum counts. Beside ingest the
same rows are read, sorted by patient and time and written by pandas, in memory and on one core.

torch's memory grows over the first some hundred updates, whatever the data. Both sizes therefore
train for the same number of updates, five epochs of the small one and one of the large one: what
differs is the number of patients alone. Rates are those of the first epoch.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import yaml

from benchmarks.figures import Figure

SIZES = (20_000, 100_000)
EVENTS = 100
PER_FILE = 10_000
FLAT = 1.25
LABS, CODES, WARDS = 12, 24, 1
_NAMES = np.array(
    [f"lab {i}" for i in range(LABS)] + [f"diagnosis {i}" for i in range(CODES)] + ["ward"], object
)
_SHARES = [0.6 / LABS] * LABS + [0.35 / CODES] * CODES + [0.05]


class Measured(NamedTuple):
    """One verb at one size: events per second, peak PSS of the process tree."""

    rate: float
    peak_mb: float


def make(folder: Path, patients: int) -> list[Path]:
    """events-*.csv and outcomes.csv: three labs run high in those who will die."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    outcomes: list[pa.Table] = []
    for first in range(0, patients, PER_FILE):
        rng = np.random.default_rng([5, first])
        count = min(PER_FILE, patients - first)
        ill = rng.random(count) < 0.3
        names = np.char.add("p", np.char.zfill(np.arange(first, first + count).astype("U"), 7))
        files.append(folder / f"events-{first:07d}.csv")
        pacsv.write_csv(_events(rng, names, ill), files[-1])
        outcomes.append(pa.table({"patient": names, "died": ill.astype(np.int8)}))
    pacsv.write_csv(pa.concat_tables(outcomes), folder / "outcomes.csv")
    return files


def _events(rng: np.random.Generator, names: np.ndarray, ill: np.ndarray) -> pa.Table:
    shape = (len(names), EVENTS)
    code = rng.choice(len(_NAMES), shape, p=_SHARES)
    minute = np.sort(rng.integers(0, 365 * 24 * 60, shape), axis=1)
    admitted = rng.integers(0, 1000 * 24 * 60, (len(names), 1))
    time_ = np.datetime64("2020-01-01", "s") + 60 * (minute + admitted)
    high = ill[:, None] & (code < 3)
    value = rng.normal(50 + 5 * (code % LABS), 10) + np.where(high, 4, 0)
    text = np.where(code < LABS, np.char.mod("%.1f", value), "")
    text[code == len(_NAMES) - 1] = "intensive care"
    columns = {"time": time_, "code": _NAMES[code], "value": text}
    return pa.table(
        {
            "patient": np.repeat(names, EVENTS),
            **{k: pa.array(v.ravel()) for k, v in columns.items()},
        }
    )


def _spec(folder: Path, epochs: int = 1) -> Path:
    spec = {
        "name": "scale",
        "output": str(folder / "run"),
        "records": {
            "sources": [
                {
                    "format": "long",
                    "path": str(folder / "data"),
                    "subject": "patient",
                    "value": "value",
                }
            ],
            "tables": [{"path": str(folder / "outcomes.csv"), "key": "patient"}],
        },
        "workload": "timeline",
        "params": {"outcome": {"column": "died"}, "predict_at": "end", "hidden": 32},
        "train": {"epochs": epochs, "batch_size": 256, "cache": "stream"},
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return path


def figures() -> list[Figure]:
    """Rates and memory of both verbs at both sizes."""
    with tempfile.TemporaryDirectory() as temporary:
        found = [measure(Path(temporary) / str(size), size) for size in SIZES]
    (small_ingest, small_epoch, _), (ingest, epoch, peer) = found
    note = f"{SIZES[0]:,} and {SIZES[1]:,} patients × {EVENTS} events"
    return [
        _rate(
            "ingest",
            small_ingest,
            ingest,
            f"{note}; pandas reads, sorts and writes the same "
            f"rows at {peer.rate:,.0f} events/s with {peer.peak_mb:,.0f} MB",
        ),
        _rate("one epoch, streamed (GRU, 32 units)", small_epoch, epoch, note),
        _flat("ingest", small_ingest, ingest),
        _flat("training, streamed, as many updates", small_epoch, epoch),
    ]


def _rate(what: str, small: Measured, large: Measured, note: str) -> Figure:
    value = f"{small.rate:,.0f} and {large.rate:,.0f} events/s"
    return Figure(name=what, value=value, bar="stated", ok=True, note=note)


def _flat(what: str, small: Measured, large: Measured) -> Figure:
    ratio = large.peak_mb / small.peak_mb
    return Figure(
        name=f"peak memory of {what}, {SIZES[1]:,} of {SIZES[0]:,} patients",
        value=f"{ratio:.2f}",
        bar=f"≤ {FLAT}",
        ok=ratio <= FLAT,
        note=f"{small.peak_mb:,.0f} and {large.peak_mb:,.0f} MB (PSS of all processes)",
    )


def measure(folder: Path, patients: int) -> tuple[Measured, Measured, Measured]:
    """Ingest, one epoch, and pandas."""
    files = make(folder / "data", patients)
    (folder / "data" / "outcomes.csv").rename(folder / "outcomes.csv")
    spec = _spec(folder, epochs=max(SIZES) // patients)
    medray = [sys.executable, "-m", "medray"]
    ingest_peak = _peak_mb([*medray, "ingest", str(spec)], folder)
    summary = json.loads((folder / "run/dataset/summary.json").read_text(encoding="utf-8"))
    train_peak = _peak_mb([*medray, "train", str(spec)], folder)
    history = (folder / "run/training/history.jsonl").read_text(encoding="utf-8")
    epoch = json.loads(history.splitlines()[0])
    peer = [sys.executable, "-m", "benchmarks.records_scale", str(folder / "peer.parquet")]
    started = time.perf_counter()
    peer_peak = _peak_mb([*peer, *map(str, files)], folder)
    seconds = time.perf_counter() - started
    return (
        Measured(summary["events_per_second"], ingest_peak),
        Measured(epoch["images_per_s"] * EVENTS, train_peak),
        Measured(patients * EVENTS / seconds, peer_peak),
    )


def _peak_mb(command: list[str], folder: Path) -> float:
    """Run a command; the greatest memory of its process tree."""
    environment = {**os.environ, "MEDRAY_KEY_FILE": str(folder / "key")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, _tree_mb(process.pid))
        time.sleep(0.3)
    if process.returncode:
        raise RuntimeError(f"{command[3]} ended with exit code {process.returncode}")
    return peak


def _tree_mb(root: int) -> float:
    """PSS of a process and its descendants, MB."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rsplit(")", 1)[1].split()[1])
    tree = {root}
    while grown := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= grown
    return sum(map(_pss_kb, tree)) / 1024


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _with_pandas(target: str, files: list[str]) -> None:
    table = pd.concat([pd.read_csv(file, parse_dates=["time"]) for file in files])
    table.sort_values(["patient", "time"], kind="stable").to_parquet(target)


if __name__ == "__main__":
    _with_pandas(sys.argv[1], sys.argv[2:])
