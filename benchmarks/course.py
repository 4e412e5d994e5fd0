"""Figure 6: recurrence and forecast on real data, beside carrying the last value forward, and Cox.

Forecast: bilirubin of PBC2. Recurrence: episodes of muscular soreness of 400 patients (Hosmer,
Lemeshow & May, Applied Survival Analysis, 2nd ed., table RECUR), which the package lifelines ships.
"""

import csv
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.pbc2 import COX, mean_of
from benchmarks.shared import shared
from medray import api
from medray.report.numbers import NETWORK
from medray.spec.load import load_spec

CARRIED = "last value carried forward"
BOOSTED = "gradient boosting on window summaries"


def figures() -> list[Figure]:
    """Both, five folds each."""
    with tempfile.TemporaryDirectory() as folder:
        return [*_forecast(Path(folder)), *_recurrence(Path(folder))]


def _crossval(spec_file: str, sets: list[str]) -> Any:
    spec = load_spec(spec_file, sets)
    api.ingest(spec)
    return api.crossval(spec)


def _forecast(folder: Path) -> list[Figure]:
    table = shared("data/pbc2/pbc2.csv")
    result = _crossval(
        "jobs/pbc2/bilirubin.yaml",
        [f"output={folder / 'bilirubin'}", f"records.sources.0.path={table}"],
    )
    rows: list[Figure] = []
    for days in (365, 730):
        names = [f"{what} at {days} days" for what in ("mean error", "pinball", "coverage")]
        ours, carried, boosted = (
            [mean_of(result, model, name) for name in names]
            for model in (NETWORK, CARRIED, BOOSTED)
        )
        rows.append(
            Figure(
                name=f"PBC2: bilirubin {days} days on, pinball loss (mg/dL), mean of 5 folds",
                value=f"{ours[1]:.4f}",
                bar=f"below carried forward {carried[1]:.4f}",
                ok=bool(ours[1] < carried[1]),
                note=f"mean error {ours[0]:.3f} (carried {carried[0]:.3f}, boosting "
                f"{boosted[0]:.3f}; its pinball {boosted[1]:.4f}); {ours[2]:.0%} in the 80 % "
                "interval",
            )
        )
    return rows


def _recurrence(folder: Path) -> list[Figure]:
    table = folder / "episodes.csv"
    write_episodes(table)
    result = _crossval(
        "jobs/recurrence/spec.yaml",
        [f"output={folder / 'recurrence'}", f"records.sources.0.path={table}"],
    )
    rows: list[Figure] = []
    for days in (14, 30, 60):
        name = f"Uno’s C up to {days} days"
        ours, cox = mean_of(result, NETWORK, name), mean_of(result, COX, name)
        rows.append(
            Figure(
                name=f"RECUR: next episode, Uno's C up to {days} days, mean of 5 folds",
                value=f"{ours:.4f}",
                bar=f"Cox − .01 = {cox - 0.01:.4f}",
                ok=bool(ours >= cox - 0.01),
                note=f"Cox {cox:.4f}; integrated Brier {mean_of(result, NETWORK, _BRIER):.4f} "
                f"beside {mean_of(result, COX, _BRIER):.4f}",
            )
        )
    return rows


_BRIER = "integrated Brier"


def write_episodes(path: Path) -> None:
    """RECUR as a long table: EPISODE and END of follow-up, age and treatment as facts."""
    from lifelines.datasets import load_recur

    frame = load_recur()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["subject", "day", "code", "value"])
        for subject, rows in frame.groupby("ID"):
            first = rows.iloc[0]
            writer.writerow([subject, "", "AGE", first.AGE])
            writer.writerow([subject, "", "TREAT", first.TREAT])
            for row in rows.itertuples():
                code = "EPISODE" if row.CENSOR == 1 else "END"
                writer.writerow([subject, row.TIME1, code, ""])
