"""Patients' records made up on the spot, and a small model of them: seconds, no cluster.

Whoever is ill dies; of the ill the lactate is higher on the whole, and rises. What else stands in
the record says nothing: a heart rate, a sex, a drug now and then.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from medray import api
from medray.spec.models import RunSpec

HOURS = (4, 48)  # of a record, least and most


def write_records(folder: Path, subjects: int = 240, seed: int = 0, files: int = 1) -> None:
    """`events/part-N.csv` in the long form, and `outcomes.csv`; subjects are p0, p1 and so on.

    A subject's rows lie in one file, subjects in no order, the drug D1 without a value.
    """
    rng = np.random.default_rng(seed)
    (folder / "events").mkdir(parents=True, exist_ok=True)
    outcomes: list[dict[str, Any]] = []
    rows: list[list[tuple[str, float | str, str, float | str]]] = [[] for _ in range(files)]
    for number in rng.permutation(subjects):
        name, ill = f"p{number}", bool(rng.random() < 0.4)
        rows[number % files] += _record(name, ill, rng)
        days = float(rng.uniform(3, 30) if ill else rng.uniform(10, 90))
        outcomes.append({"patient": name, "died": int(ill), "days": round(days, 2)})
    for number, part in enumerate(rows):
        with (folder / "events" / f"part-{number}.csv").open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["patient", "hours", "code", "value"])
            out.writerows(part)
    with (folder / "outcomes.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["patient", "died", "days"])
        table.writeheader()
        table.writerows(outcomes)


def _record(
    name: str, ill: bool, rng: np.random.Generator
) -> list[tuple[str, float | str, str, float | str]]:
    """Rows (patient, hours, code, value) of one patient."""
    rows: list[tuple[str, float | str, str, float | str]] = [
        (name, "", "sex", "F" if rng.random() < 0.5 else "M")
    ]
    for hour in np.arange(0, rng.integers(*HOURS), 4):
        lactate = 1.5 + rng.normal() + (0.6 + 0.02 * hour if ill else 0.0)
        rows.append((name, float(hour), "lactate", round(float(lactate), 3)))
        if rng.random() < 0.7:
            rows.append((name, float(hour), "heart_rate", int(rng.normal(80, 12))))
        if rng.random() < 0.2:
            rows.append((name, float(hour) + 0.5, "D1", ""))
    return rows


def records_spec(folder: Path, **params: Any) -> RunSpec:
    """The run over what `write_records` wrote into `folder`; `params` overrides the task's own."""
    return RunSpec.model_validate(
        {
            "name": "tiny_records",
            "output": str(folder / "run"),
            "records": {
                "sources": [
                    {
                        "format": "long",
                        "path": str(folder / "events"),
                        "subject": "patient",
                        "time": "hours",
                        "time_unit": "hours",
                        "code": "code",
                        "value": "value",
                    }
                ],
                "tables": [{"path": str(folder / "outcomes.csv"), "key": "patient"}],
                "shards": 4,
            },
            "workload": "timeline",
            "params": {
                "outcome": {"column": "died"},
                "predict_at": "end",
                "hidden": 8,
                "embedding": 4,
                "dropout": 0.0,
                "min_patients": 5,
                **params,
            },
            "train": {"epochs": 2, "batch_size": 32, "optimizer": {"lr": 0.02}},
            "evaluate": {"subgroups": [], "replicates": 100},
        }
    )


def trained(folder: Path, **params: Any) -> RunSpec:
    """Records, dataset and package below `folder`; returns the run that made them."""
    write_records(folder)
    spec = records_spec(folder, **params)
    api.ingest(spec)
    api.train(spec)
    return spec
