"""Figure 5: reinforcement toward QED and away from a predicted toxicity, beside the prior.

    python -m benchmarks.reinforce

The package of figure 2 is steered; then prior and new package draw as many molecules with one seed,
and both are measured: properties, uniqueness, and the distance to MOSES' test set, which a package
that was moved on purpose must pay for.
"""

import os
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import molecule_packages, moses
from benchmarks.figures import Figure
from medray import api
from medray.generate.draws import chunk_seed
from medray.generate.judges import Judge
from medray.molecules.metrics.moses import moses_metrics
from medray.score.predictor import Predictor
from medray.score.profiles import profiled
from medray.spec.models import RunSpec

TARGET = "NR-AhR"  # of the assays, the one that molecules like those of MOSES are active in most
COUNT, AT_ONCE = 12_000, 500
UPDATES = int(os.environ.get("MEDRAY_UPDATES", "150"))


def figures() -> list[Figure]:
    """Steer, draw, measure."""
    prior, tox = molecule_packages.maker(), molecule_packages.toxicity()
    home = Path(os.environ.get("MEDRAY_REINFORCED", "figures/reinforced"))
    spec = RunSpec.model_validate(
        {
            "name": "moses_wanted",
            "output": str(home),
            "workload": "molecule",
            "reinforce": {
                "package": str(prior),
                "steps": UPDATES,
                "rewards": [
                    {"of": "QED", "low": 0.6, "high": 0.95},
                    {"package": str(tox), "target": TARGET, "better": "lower", "high": 0.5},
                ],
            },
        }
    )
    result = api.reinforce(spec)
    before, after = (_measured(str(one), str(tox)) for one in (prior, home / "package"))
    note = f"{result.steps} updates of 128; n = {COUNT:,}"
    name = f"tox21/{TARGET}"
    unique = after["row"]["unique@10000"]
    return [
        _moved("mean QED", before["QED"], after["QED"], 1, note),
        _moved(f"mean predicted {TARGET}", before[name], after[name], -1, note),
        Figure(
            name="unique@10k",
            value=f"{unique:.4f}",
            bar="≥ 0.95",
            ok=unique >= 0.95,
            note=f"prior {before['row']['unique@10000']:.4f}",
        ),
        Figure(
            name="FCD/Test",
            value=f"{after['row']['FCD/Test']:.3f}",
            bar="stated",
            ok=True,
            note=f"prior {before['row']['FCD/Test']:.3f}; {_others(before['row'], after['row'])}",
        ),
    ]


def _measured(package: str, tox: str) -> dict[str, Any]:
    """MOSES row of draws, and of the valid ones QED and predicted toxicity."""
    predictor = Predictor(package)
    texts: list[str] = []
    for part in range(COUNT // AT_ONCE):
        texts += predictor.sample(AT_ONCE, chunk_seed(7, part), predictor.ways[0])
    folder = str(moses.folder() / "profiles")
    made = profiled(texts, "generated", folder)
    reference = {"Test": profiled(moses.smiles("test"), "reference", folder)}
    said = Judge(tox, "cpu").say(made.smiles().to_pylist())
    name = f"tox21/{TARGET}"
    scores = np.array([row.get(name, np.nan) for row in said])
    row = moses_metrics(made, reference, unique_at=(10_000,)).to_dict()
    return {"row": row, "QED": made.values("QED"), name: scores[~np.isnan(scores)]}


def _moved(name: str, before: Any, after: Any, way: int, note: str) -> Figure:
    """A mean that must have moved by more than four standard errors."""
    error = sqrt(before.var(ddof=1) / len(before) + after.var(ddof=1) / len(after))
    moved = float(after.mean() - before.mean())
    return Figure(
        name=name,
        value=f"{after.mean():.4f}",
        bar=f"{'>' if way > 0 else '<'} {before.mean():.4f}",
        ok=moved * way > 4 * error,
        note=f"moved by {moved:+.4f} (standard error {error:.4f}); {note}",
    )


def _others(before: dict[str, float], after: dict[str, float]) -> str:
    names = ("valid", "SNN/Test", "Scaf/Test", "IntDiv", "Filters")
    return ", ".join(f"{name} {after[name]:.3f} ({before[name]:.3f})" for name in names)


if __name__ == "__main__":
    for row in figures():
        print(row)
