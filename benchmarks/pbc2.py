"""Figure 2: survival on PBC2, 5 folds by patient, beside Cox in the same reports.

Bars: Uno's C of the network at each horizon no lower than Cox's less .01. Leak-free: the age is
that at entry, and the time since then comes from the visits, never from the end of follow-up.
"""

import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.shared import shared
from medray import api
from medray.crossval.run import CrossvalResult
from medray.report.numbers import NETWORK
from medray.spec.load import load_spec

SPEC = "jobs/pbc2/survival.yaml"
COX = "Cox on the last visit"
MARGIN = 0.01
PUBLISHED = (0.913, 0.885, 0.861)  # what the margin leaves of a Cox fit elsewhere


def figures() -> list[Figure]:
    """Ingest, train and judge five folds."""
    table = shared("data/pbc2/pbc2.csv")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        spec = load_spec(
            SPEC,
            [
                f"output={Path(folder) / 'run'}",
                f"records.sources.0.path={table}",
                f"records.tables.0.path={table}",
            ],
        )
        api.ingest(spec)
        result = api.crossval(spec)
    seconds = time.perf_counter() - started
    horizons = [float(days) for days in spec.params["horizons_days"]]
    rows = [
        _concordance(result, days, elsewhere)
        for days, elsewhere in zip(horizons, PUBLISHED, strict=True)
    ]
    name = "integrated Brier"
    ours, cox = mean_of(result, NETWORK, name), mean_of(result, COX, name)
    rows.append(
        Figure(
            name="PBC2: integrated Brier score, mean of 5 folds",
            value=f"{ours:.4f}",
            bar=f"beside Cox's {cox:.4f}",
            ok=bool(ours > 0),
            note=f"{seconds:.0f} s in all",
        )
    )
    return rows


def mean_of(result: CrossvalResult, model: str, name: str) -> float:
    """Mean over folds of one measure of one model."""
    found = next(m.mean for m in result.measures if (m.model, m.name) == (model, name))
    return float("nan") if found is None else found


def _concordance(result: CrossvalResult, days: float, elsewhere: float) -> Figure:
    name = f"Uno’s C up to {days:g} days"
    ours, cox = mean_of(result, NETWORK, name), mean_of(result, COX, name)
    spread = next(m.deviation for m in result.measures if (m.model, m.name) == (NETWORK, name))
    return Figure(
        name=f"PBC2: Uno's C up to {days / 365.25:.1f} years, mean of 5 folds",
        value=f"{ours:.4f} ± {spread:.3f}",
        bar=f"{cox - MARGIN:.4f}",
        ok=bool(ours >= cox - MARGIN),
        note=f"Cox in the same reports {cox:.4f}; elsewhere its bar was {elsewhere}",
    )
