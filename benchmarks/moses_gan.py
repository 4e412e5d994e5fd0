"""Figure 2: the GAN of `jobs/moses/` on MOSES, beside its ablations and LatentGAN's published row.

    python -m benchmarks.moses_gan

Trains what is not trained yet (about an hour of one core for the GAN, three quarters for the
language model; a run that was stopped goes on), draws 30,000 molecules in each of three
samplings, and measures them against MOSES' test set. The ablations are drawn once: latents from
N(0, 1) instead of the generator's, and a language model of the same decoder, molecules and updates;
all at one temperature. What is made lies in figures/moses, or in the folder $MEDRAY_MOSES_RUN.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import molecule_throughput, moses
from benchmarks.figures import Figure
from medray import api
from medray.dataset import MoleculesDataset, open_any
from medray.molecules.metrics.moses import moses_metrics
from medray.score.predictor import Predictor
from medray.score.profiles import known_smiles, profiled
from medray.spec.models import RunSpec

COUNT, SAMPLINGS, AT_ONCE = 30_000, 3, 1_000
TEMPERATURE = 0.9  # by the share of valid molecules among 1,024 draws: .948, and .918 at 1.0
# Polykovskiy et al. 2020, the row of LatentGAN; and the bars.
PUBLISHED = {
    "valid": (0.8966, 0.93),
    "unique@10000": (0.9968, 0.99),
    "Novelty": (0.9498, 0.85),
    "Filters": (0.9735, 0.95),
    "FCD/Test": (0.2968, 1.0),
    "SNN/Test": (0.5371, 0.52),
    "Scaf/Test": (0.8867, 0.75),
    "Frag/Test": (0.9986, None),
    "IntDiv": (0.8565, None),
}


def figures() -> list[Figure]:
    """Every column of the GAN, its ablations in the note; and the training's throughput."""
    home = Path(os.environ.get("MEDRAY_MOSES_RUN", "figures/moses"))
    gan = trained("jobs/moses/spec.yaml", home)
    dataset = open_any(gan.dataset_uri)
    if not isinstance(dataset, MoleculesDataset):
        raise TypeError("jobs/moses makes a dataset of molecules")
    language = trained("jobs/moses/language_model.yaml", home / "language_model", dataset.uri)
    rows = _rows(f"{gan.output_uri}/package", "gan", range(SAMPLINGS))
    beside = {
        "N(0,1)": _rows(f"{gan.output_uri}/package", "normal", range(1))[0],
        "language model": _rows(f"{language.output_uri}/package", "lm", range(1))[0],
    }
    throughput = molecule_throughput.figure(
        dataset.smiles("tuning")[:12_000], Predictor(f"{gan.output_uri}/package").learned[0]
    )
    return [*(_figure(column, rows, beside) for column in PUBLISHED), throughput]


def trained(spec: str, output: Path, dataset: str | None = None) -> RunSpec:
    """Ingested, where it is not, and trained, where it is not."""
    elsewhere = [f"dataset={dataset}"] if dataset else []
    checked = api.validate(spec, [f"output={output}", *elsewhere])
    if checked.molecules is not None and not (output / "dataset" / "dataset.json").exists():
        moses.files()
        api.ingest(checked)
    api.train(checked)
    return checked


def _rows(package: str, way: str, seeds: Sequence[int]) -> list[dict[str, float]]:
    """The MOSES row of one sampling for each seed."""
    predictor = Predictor(package)
    folder = str(moses.folder() / "profiles")
    references = {"Test": profiled(moses.smiles("test"), "reference", folder)}
    known = known_smiles(moses.smiles("train"), folder)
    rows: list[dict[str, float]] = []
    for seed in seeds:
        drawn: list[str] = []
        for part in range(COUNT // AT_ONCE):
            drawn += predictor.sample(AT_ONCE, 1_000_000 * (seed + 1) + part, way, TEMPERATURE)
        made = profiled(drawn, "generated", folder)
        rows.append(moses_metrics(made, references, known, unique_at=(1_000, 10_000)).to_dict())
    return rows


def _figure(
    column: str, rows: Sequence[dict[str, float]], beside: dict[str, dict[str, float]]
) -> Figure:
    published, bar = PUBLISHED[column]
    value = mean(row[column] for row in rows)
    lower = column.startswith("FCD")
    ok = bar is None or (value <= bar if lower else value >= bar)
    each = ", ".join(f"{row[column]:.4f}" for row in rows)
    others = ", ".join(f"{name} {row[column]:.4f}" for name, row in beside.items())
    said: dict[str, Any] = {"name": f"MOSES {column}, n = {COUNT:,}", "value": f"{value:.4f}"}
    return Figure(
        **said,
        bar="stated" if bar is None else f"{'≤' if lower else '≥'} {bar}",
        ok=ok,
        note=f"{each}; {others}; LatentGAN {published}",
    )
