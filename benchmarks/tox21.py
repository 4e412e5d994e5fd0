"""Figure 3: properties of molecules, three draws of every split, random forests beside networks.

Tox21: mean ROC-AUC of 12 assays; held out are single molecules, or whole scaffolds. ESOL: RMSE of
log solubility. Every seed draws its own split and starts its own networks. Published with other
draws: Tox21 random .829 (MoleculeNet, Wu et al. 2018), .851 (chemprop), by scaffold .759 (D-MPNN).
"""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure
from benchmarks.shared import shared
from medray import api
from medray.report.document import Report
from medray.report.numbers import NETWORK, by_model
from medray.spec.load import load_spec

SEEDS = (0, 1, 2)
# name, spec, data, how molecules are held out, measure, bar, and whether more is better
ROWS = (
    ("tox21, random split", "tox21", "tox21.csv", "subject", "AUROC", 0.84, True),
    ("tox21, scaffold split", "tox21", "tox21.csv", "scaffold", "AUROC", 0.76, True),
    ("esol, random split", "esol", "esol_delaney.csv", "subject", "RMSE", 0.60, False),
)


def figures() -> list[Figure]:
    """Ingest, train and evaluate once per row and seed."""
    data = shared("data/toxicity")
    rows: list[Figure] = []
    for name, job, file, by, measure, bar, more in ROWS:
        found = [_measured(job, str(data / file), by, seed, measure) for seed in SEEDS]
        for model in found[0]:
            values = [one[model] for one in found]
            mean = float(np.mean(values))
            own = model == NETWORK
            rows.append(
                Figure(
                    name=f"{name}: {measure}, {model}",
                    value=f"{mean:.4f}",
                    bar=f"{'≥' if more else '≤'} {bar:.2f}" if own else "",
                    ok=bool(mean >= bar if more else mean <= bar) if own else True,
                    note="seeds " + ", ".join(f"{value:.4f}" for value in values),
                )
            )
    return rows


def _measured(job: str, data: str, by: str, seed: int, measure: str) -> dict[str, float]:
    """Model → its measure on held_out, the mean over targets."""
    with tempfile.TemporaryDirectory() as temporary:
        changes = {
            "molecules.sources.0.path": data,
            "output": str(Path(temporary) / "run"),
            "split.by": by,
            "split.seed": seed,
            "seed": seed,
            "evaluate.mistakes": 0,  # numbers alone are read here
            "evaluate.replicates": 100,
        }
        spec = load_spec(f"jobs/{job}/spec.yaml", [f"{key}={it}" for key, it in changes.items()])
        api.ingest(spec)
        api.train(spec)
        return _values(api.evaluate(spec).report, measure)


def _values(report: Report, measure: str) -> dict[str, float]:
    each = [by_model(result) for result in report.targets]
    models = dict.fromkeys(model for one in each for model, _ in one)
    return {
        model: float(
            np.mean([one[model, measure] for one in each if one[model, measure] is not None])
        )
        for model in models
    }
