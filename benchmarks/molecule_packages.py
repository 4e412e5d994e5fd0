"""The two packages that figures of molecules need: a maker, and a predictor of toxicity."""

import os
from pathlib import Path

from benchmarks import moses_gan
from benchmarks.shared import shared
from medray import api
from medray.spec.models import RunSpec

TARGETS = ("NR-AR", "NR-AhR", "NR-ER", "SR-ARE", "SR-MMP", "SR-p53")


def maker() -> Path:
    """The GAN of figure 2, its dataset beside it; trained now if it is not yet (an hour)."""
    home = Path(os.environ.get("MEDRAY_MOSES_RUN", "figures/moses"))
    if not (home / "package" / "package.json").exists():
        moses_gan.trained("jobs/moses/spec.yaml", home)
    return home / "package"


def toxicity() -> Path:
    """A small network on six assays of Tox21; trained now if it is not yet (a minute)."""
    home = Path("figures/tox21_small")
    source = {
        "path": str(shared("data/toxicity/tox21.csv")),
        "smiles": "smiles",
        "columns": list(TARGETS),
    }
    spec = RunSpec.model_validate(
        {
            "name": "tox21",
            "output": str(home),
            "molecules": {"sources": [source], "standard": {"metals": "keep"}},
            "workload": "toxicity",
            "params": {"targets": list(TARGETS), "network": "mlp", "dropout": 0.4},
            "train": {"epochs": 12, "batch_size": 128, "keep": "last"},
        }
    )
    if not (home / "package" / "package.json").exists():
        api.ingest(spec)
        api.train(spec)
    return home / "package"
