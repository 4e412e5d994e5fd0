"""Small record files written to disk: patients whose outcome follows from what stands in them."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Event = tuple[str, str, str, str]
"""Patient, hours since admission ("": a fact without time), code, value."""
HEADER = ("stay", "hours", "code", "value")


def events_of(patient: str, ill: bool, seed: int, steps: int = 4) -> list[Event]:
    """Lactate rises in the ill and falls in the others; heart rate says nothing."""
    rng = np.random.default_rng(seed)
    age = f"{rng.uniform(30, 80):.0f}"
    events = [(patient, "", "Age", age), (patient, "", "Sex", rng.choice(["F", "M"]))]
    for step in range(steps):
        hours = f"{step * 6 + rng.uniform(0, 2):.2f}"
        slope = 0.6 if ill else -0.3
        lactate = 2 + slope * step + rng.normal(0, 0.15)
        events.append((patient, hours, "Lactate", f"{lactate:.3f}"))
        if rng.random() < 0.7:
            events.append((patient, hours, "HR", f"{rng.normal(80, 10):.1f}"))
        if rng.random() < 0.3:
            events.append((patient, hours, "Ventilation", ""))
    return events


def cohort(count: int, first: int = 0) -> tuple[list[Event], dict[str, int]]:
    """Events of `count` patients, and who of them dies: every second."""
    died = {f"p{number:03d}": number % 2 for number in range(first, first + count)}
    events = [
        event
        for number, (patient, ill) in enumerate(died.items(), start=first)
        for event in events_of(patient, bool(ill), seed=number)
    ]
    return events, died


def write_csv(path: Path, rows: Sequence[Sequence[Any]], header: Sequence[str] = HEADER) -> Path:
    """A CSV with one header line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_outcomes(path: Path, died: dict[str, int], **columns: Sequence[Any]) -> Path:
    """The table of facts: patient, died, and more."""
    others = zip(*columns.values(), strict=True) if columns else [()] * len(died)
    rows = [(*pair, *other) for pair, other in zip(died.items(), others, strict=True)]
    return write_csv(path, rows, ("stay", "died", *columns))


def records_spec(root: Path, **changes: Any) -> dict[str, Any]:
    """A spec over `root`/events and `root`/outcomes.csv; changes replace whole sections."""
    source = {
        "format": "long",
        "path": str(root / "events"),
        "subject": "stay",
        "time": "hours",
        "time_unit": "hours",
        "value": "value",
        "static": ["Age", "Sex"],
    }
    tables = [{"path": str(root / "outcomes.csv"), "key": "stay"}]
    return {
        "name": "stays",
        "output": str(root / "out"),
        "records": {"sources": [source], "tables": tables, "shards": 3},
        "workload": "timeline",
        "params": {
            "outcome": {"column": "died"},
            "predict_at": "end",
            "network": "gru",
            "hidden": 8,
            "dropout": 0,
            "input_dropout": 0,
            "recurrent_dropout": 0,
            "min_patients": 3,
        },
        "train": {"epochs": 20, "batch_size": 16, "optimizer": {"lr": 2e-2}},
        "evaluate": {"replicates": 100, "subgroups": []},
        **changes,
    }


def write_cohort(root: Path, count: int, files: int = 2) -> dict[str, int]:
    """`count` patients below `root`, their events dealt out over several files; who dies."""
    events, died = cohort(count)
    for file in range(files):
        write_csv(root / f"events/part{file}.csv", events[file::files])
    write_outcomes(root / "outcomes.csv", died)
    return died
