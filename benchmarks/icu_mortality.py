"""Figure 1: death in hospital from 48 hours of intensive care, 5-fold cross-validated by stay.

PhysioNet/CinC Challenge 2012, set A. The bar is that GRU or GRU-D reaches it. The spec names the
GRU: that was chosen on other folds of the same stays, so a GRU-D that does better here was not
foreseen, and the note gives both. Published with other folds: GRU-D .8424 ± .012 (Che et al. 2018,
arXiv:1606.01865, Table 2); gradient boosting on window summaries .8488, measured.
"""

import tempfile
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.shared import shared
from medray import api
from medray.crossval import CrossvalResult
from medray.report.numbers import NETWORK
from medray.spec.load import load_spec
from medray.spec.models import RunSpec

SPEC = "jobs/icu_mortality/spec.yaml"
BAR = 0.850
# row → what it changes in the spec: each is a command, `medray crossval SPEC --set ...`
FORWARD = "params.bidirectional=false"
RECURRENT = ("gru, as in the spec", "gru_d")
ROWS: dict[str, tuple[str, ...]] = {
    "gru, as in the spec": (),
    "gru, reading forward only": (FORWARD,),
    "gru_d": ("params.network=gru_d", FORWARD),
    "lstm": ("params.network=lstm",),
    "elman": ("params.network=elman",),
    "ensemble of gru, lstm, gru_d, elman": (
        "params.members=4",
        "params.networks=[gru, lstm, gru_d, elman]",
    ),
}


def figures() -> list[Figure]:
    """Ingest once, go through all folds for each row."""
    data = shared("data/icu_physionet2012")
    paths = [
        f"records.sources.0.path={data / 'set_a.parquet'}",
        f"records.tables.0.path={data / 'outcomes_a.csv'}",
        "evaluate.mistakes=0",  # numbers alone are read here
    ]
    rows: list[Figure] = []
    means: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        for number, (name, changes) in enumerate(ROWS.items()):
            spec = load_spec(SPEC, [*paths, *changes, f"output={home / str(number)}"])
            if not number:
                api.ingest(spec)
            else:  # the simple models are the same in every row
                spec = _with(spec, home / "0" / "dataset")
            result = api.crossval(spec)
            rows.append(_figure(name, NETWORK, result))
            means[name] = _auroc(result)
            simple = {measure.model for measure in result.measures} - {NETWORK}
            rows.extend(_figure(model, model, result) for model in sorted(simple))
    best = max(RECURRENT, key=lambda name: means[name])
    return [
        Figure(
            name="icu mortality: AUROC, GRU or GRU-D, mean of 5 folds",
            value=f"{means[best]:.4f}",
            bar=f"{BAR:.3f}",
            ok=bool(means[best] >= BAR),
            note="; ".join(f"{name} {means[name]:.4f}" for name in RECURRENT),
        ),
        *rows,
    ]


def _auroc(result: CrossvalResult) -> float:
    """Mean AUROC of the network; NaN where a fold has none."""
    means = [m.mean for m in result.measures if (m.model, m.name) == (NETWORK, "AUROC")]
    return float("nan") if not means or means[0] is None else means[0]


def _with(spec: RunSpec, dataset: Path) -> RunSpec:
    quick = spec.evaluate.model_copy(update={"baselines": False})
    return spec.model_copy(update={"dataset": str(dataset), "evaluate": quick})


def _figure(name: str, model: str, result: CrossvalResult) -> Figure:
    """AUROC of one model over the folds, beside its AUPRC and the time."""
    found = {measure.name: measure for measure in result.measures if measure.model == model}
    auroc, auprc = found["AUROC"], found["AUPRC"]
    folds = ", ".join("undefined" if value is None else f"{value:.3f}" for value in auroc.folds)
    note = f"AUPRC {auprc.in_words()}; folds {folds}"
    if model == NETWORK:
        note += f"; {result.seconds:.0f} s"
    return Figure(
        name=f"icu mortality: AUROC, {name}",
        value=auroc.in_words(),
        bar="stated",
        ok=auroc.mean is not None,
        note=note,
    )
