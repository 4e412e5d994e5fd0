"""Figure 7: bad input in patients' records is named and counted, and ends no run.

    python -m benchmarks.figures timeline --only 7

A made-up cohort (its outcome follows from the lactate) goes through ingest, train and evaluate with
known faults planted in it: events before birth, events said twice, values in a wrong unit, patients
over several files, codes that training never saw, patients without any history. What comes out is
held against what was put in.
"""

import csv
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.figures import Figure
from medray import api
from medray.dataset import RecordsDataset, open_any
from medray.records.tokens import token
from medray.spec.models import RunSpec
from medray.storage import read_table

Row = tuple[str, str, str, str, str, str]
HEADER = ("patient", "time", "code", "value", "unit", "born")
PARTS = {"train": 120, "tuning": 40, "held_out": 40}
BEFORE_BIRTH, TWICE, WRONG_UNIT, OTHER_UNIT, SPLIT, EMPTY = 7, 11, 13, 9, 25, 6
UNSEEN = {"tuning": 3, "held_out": 5}  # events of codes that train has not, each of one patient
MG_PER_MMOL = 9.008  # of lactate, per decilitre: 90.08 g/mol


def figures() -> list[Figure]:
    """Plant, run every verb, and count."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        rows, died, part = _cohort(np.random.default_rng(0))
        _write(root, rows, died, part)
        spec = RunSpec.model_validate(_spec(root))
        summary = api.ingest(spec)
        values, kept = _lactate(root)
        refused = read_table(f"{root}/run/inventory/refused").num_rows
        api.train(spec)
        report = api.evaluate(spec).report
    seconds = time.perf_counter() - started
    coverage = {row.split: row for row in report.coverage}
    found: list[tuple[str, Any, Any]] = [
        ("events before birth", summary.refused.get("time_before_birth"), BEFORE_BIRTH),
        ("events said twice", summary.refused.get("duplicate_event"), TWICE),
        ("values in a wrong unit", summary.refused.get("wrong_unit"), WRONG_UNIT),
        ("values brought to the unit", kept, len(values)),
        ("patients over several files", summary.timelines.split_over_files, SPLIT),
        ("patients without a history", summary.without_events, EMPTY),
        ("  of them held out, and not scored", coverage["held_out"].without_items, EMPTY // 2),
    ]
    for split, count in UNSEEN.items():
        row = coverage[split]
        events = (row.unseen_events, row.unseen_patients)
        found.append((f"events of unknown codes ({split}), patients", events, (count, count)))
    planted = BEFORE_BIRTH + TWICE + WRONG_UNIT
    sums = summary.events + summary.dropped + sum(summary.refused.values())
    held_out = report.targets[0].items
    return [
        *(_figure(name, value, bar) for name, value, bar in found),
        _figure("refused rows, each with its place and reason", refused, planted),
        _figure("rows in = events + left out + refused", summary.rows, sums),
        _figure("held-out patients in the report", held_out, PARTS["held_out"]),
        Figure(
            name="ingest, train, evaluate to their end",
            value=f"AUROC {_auroc(report):.3f}",
            bar="no fault is fatal",
            ok=bool(np.isfinite(_auroc(report))),
            note=f"{summary.rows} rows in {seconds:.0f} s; made-up records",
        ),
    ]


def _figure(name: str, value: Any, bar: Any) -> Figure:
    return Figure(
        name=f"bad records: {name.strip()}",
        value=str(value),
        bar=f"{bar} planted",
        ok=value == bar,
        note="",
    )


def _auroc(report: Any) -> float:
    estimate = report.targets[0].auroc
    return float("nan") if estimate is None or estimate.value is None else estimate.value


def _spec(root: Path) -> dict[str, Any]:
    source = {
        "format": "long",
        "path": str(root / "events"),
        "subject": "patient",
        "value": "value",
        "unit": "unit",
        "birth": "born",
    }
    lactate = {"unit": "mmol/L", "convert": {"mg/dL": 1 / MG_PER_MMOL}, "low": 0, "high": 30}
    table = {"path": str(root / "outcomes.csv"), "key": "patient"}
    return {
        "name": "bad_records",
        "output": str(root / "run"),
        "records": {
            "sources": [source],
            "codes": {"Lactate": lactate},
            "tables": [table],
            "shards": 4,
        },
        "split": {"column": "part"},
        "workload": "timeline",
        "params": {
            "outcome": {"column": "died"},
            "predict_at": "end",
            "network": "gru",
            "hidden": 16,
            "min_patients": 5,
        },
        "train": {"epochs": 10, "batch_size": 16, "optimizer": {"lr": 1e-2}},
        "evaluate": {"replicates": 100, "subgroups": []},
    }


def _cohort(rng: np.random.Generator) -> tuple[list[list[Row]], dict[str, int], dict[str, str]]:
    """Rows by file, who dies, and who is in which part; every fault as often as it is named."""
    patients: dict[str, list[Row]] = {}
    died: dict[str, int] = {}
    part: dict[str, str] = {}
    for name in (split for split, count in PARTS.items() for _ in range(count)):
        patient = f"patient {len(patients)}"
        died[patient], part[patient] = len(patients) % 2, name
        patients[patient] = _record(patient, died[patient], rng)
    names = list(patients)
    faults: list[Row] = []
    for patient in names[:BEFORE_BIRTH]:
        faults.append((patient, "1900-01-01T00:00:00", "HR", "80", "", _born(patients[patient])))
    faults += [patients[patient][0] for patient in names[:TWICE]]
    for number, patient in enumerate(names[:WRONG_UNIT]):
        faults.append((patient, f"2021-02-{number + 1:02d}", "Lactate", "2", "g/L", ""))
    for number, patient in enumerate(names[:OTHER_UNIT]):
        amount = f"{(number + 1) * MG_PER_MMOL:.4f}"
        faults.append((patient, f"2021-03-{number + 1:02d}", "Lactate", amount, "mg/dL", ""))
    for split, count in UNSEEN.items():
        mine = [patient for patient in names if part[patient] == split][:count]
        faults += [(p, "2020-01-01T12:00:00", f"New {split}", "1", "", "") for p in mine]
    files: list[list[Row]] = [[], []]
    for number, patient in enumerate(names):
        rows = [*patients[patient], *(row for row in faults if row[0] == patient)]
        if number >= len(names) - SPLIT:
            files[0] += rows[::2]
            files[1] += rows[1::2]
        else:
            files[0] += rows
    for number in range(EMPTY):
        died[f"empty {number}"] = number // 2 % 2
        part[f"empty {number}"] = "held_out" if number % 2 else "train"
    return files, died, part


def _record(patient: str, ill: int, rng: np.random.Generator) -> list[Row]:
    """Six times: lactate rises in the ill; one birth, said in every row."""
    admitted = datetime(2020, 1, 1)
    born = (admitted - timedelta(days=float(rng.uniform(8000, 30000)))).strftime("%Y-%m-%d")
    rows: list[Row] = []
    for step in range(6):
        when = (admitted + timedelta(hours=4 * step + float(rng.uniform(0, 2)))).isoformat()
        lactate = 2 + (0.4 if ill else -0.1) * step + rng.normal(0, 0.5)
        rows.append((patient, when, "Lactate", f"{max(lactate, 0.2):.3f}", "mmol/L", born))
        rows.append((patient, when, "HR", f"{rng.normal(85, 12):.1f}", "", born))
    return rows


def _born(rows: Sequence[Row]) -> str:
    return rows[0][-1]


def _write(
    root: Path, files: Sequence[Sequence[Row]], died: dict[str, int], part: dict[str, str]
) -> None:
    (root / "events").mkdir()
    for number, rows in enumerate(files):
        with (root / f"events/{number}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HEADER, *rows])
    with (root / "outcomes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("patient", "died", "part"))
        writer.writerows((patient, died[patient], part[patient]) for patient in died)


def _lactate(root: Path) -> tuple[list[float], int]:
    """Values that were planted in mg/dL, and how many of them stand in mmol/L in the dataset."""
    dataset = open_any(f"{root}/run")
    assert isinstance(dataset, RecordsDataset)
    planted = [float(number + 1) for number in range(OTHER_UNIT)]
    march = np.datetime64("2021-03-01", "us").astype("i8")
    found: list[float] = []
    for shard in dataset.timelines():
        columns = zip(shard["event_time"], shard["event_code"], shard["event_value"], strict=True)
        for time_E, code_E, value_E in columns:
            late = (code_E == token("Lactate")) & (time_E >= march)
            found += value_E[late].tolist()
    close = sum(np.isclose(a, b, atol=1e-3) for a, b in zip(sorted(found), planted, strict=False))
    return planted, int(close) if len(found) == len(planted) else len(found)
