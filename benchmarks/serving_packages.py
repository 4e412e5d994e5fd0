"""Small packages of records and molecules, trained in seconds, and what is asked of them."""

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.molecule_packages import TARGETS
from benchmarks.shared import shared
from medray import api
from medray.spec.models import RunSpec


def patients_package(folder: Path, count: int) -> str:
    """Train on made-up patients, whose lactate says what becomes of them; see `patients`."""
    _write_patients(folder, count)
    source = {
        "format": "long",
        "path": str(folder / "events"),
        "subject": "patient",
        "time": "hours",
        "time_unit": "hours",
        "value": "value",
    }
    spec = RunSpec.model_validate(
        {
            "name": "ward-patients",
            "output": str(folder / "run"),
            "records": {
                "sources": [source],
                "tables": [{"path": str(folder / "outcomes.csv"), "key": "patient"}],
            },
            "workload": "timeline",
            "params": {
                "outcome": {"column": "died"},
                "predict_at": "end",
                "hidden": 16,
                "embedding": 8,
                "min_patients": 5,
            },
            "train": {"epochs": 2, "batch_size": 32},
        }
    )
    api.ingest(spec)
    api.train(spec)
    return str(folder / "run" / "package")


def _write_patients(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    (folder / "events").mkdir(parents=True)
    with (
        (folder / "events" / "all.csv").open("w", newline="") as events,
        (folder / "outcomes.csv").open("w", newline="") as outcomes,
    ):
        rows, died = csv.writer(events), csv.writer(outcomes)
        rows.writerow(["patient", "hours", "code", "value"])
        died.writerow(["patient", "died"])
        for number in range(count):
            ill = bool(rng.random() < 0.4)
            died.writerow([f"p{number}", int(ill)])
            for hour in range(0, int(rng.integers(8, 60)), 4):
                lactate = 1.5 + rng.normal() + (0.6 + 0.02 * hour if ill else 0.0)
                rows.writerow([f"p{number}", hour, "lactate", round(float(lactate), 3)])
                if rng.random() < 0.7:
                    rows.writerow([f"p{number}", hour, "heart_rate", int(rng.normal(80, 12))])


def patients(folder: Path) -> list[list[dict[str, Any]]]:
    """MEDS rows of each patient that `patients_package` wrote."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with (folder / "events" / "all.csv").open(newline="") as lines:
        for row in csv.DictReader(lines):
            found[row["patient"]].append(
                {
                    "subject_id": row["patient"],
                    "time": float(row["hours"]),
                    "code": row["code"],
                    "numeric_value": float(row["value"]),
                }
            )
    return list(found.values())


def toxicity_package(folder: Path, count: int) -> str:
    """Train on the first rows of Tox21; the last `count` are what is asked about."""
    folder.mkdir(parents=True)
    with shared("data/toxicity/tox21.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    for name, some in (("train", rows[:1000]), ("asked", rows[-count:])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            out = csv.DictWriter(file, ["smiles", *TARGETS], extrasaction="ignore")
            out.writeheader()
            out.writerows(some)
    source = {"path": str(folder / "train.csv"), "columns": list(TARGETS)}
    spec = RunSpec.model_validate(
        {
            "name": "ward-molecules",
            "output": str(folder / "run"),
            "molecules": {"sources": [source], "standard": {"metals": "keep"}},
            "workload": "toxicity",
            "params": {"targets": list(TARGETS), "network": "mlp"},
            "train": {"epochs": 2, "batch_size": 128, "keep": "last"},
        }
    )
    api.ingest(spec)
    api.train(spec)
    return str(folder / "run" / "package")


def smiles_of(folder: Path) -> list[str]:
    """What is asked of `toxicity_package`."""
    with (folder / "asked.csv").open(newline="") as lines:
        return [row["smiles"] for row in csv.DictReader(lines)]
