"""What a report on a generator holds: the models behind its report.json.

Owns the shape of the document; computes nothing. An undefined number is null, never NaN or 0.
"""

from typing import Any, Final, Literal

from medray.report.document import History, Opening, Provenance
from medray.spec.base import Section

FORMAT: Final = "medray-generator-report/1"
RESEARCH_USE = (
    "Research use only. Ideas of a model, not advice: nothing here says that a molecule can be "
    "made, works or is safe."
)


class Measured(Section):
    """One measure over samplings: each value, mean and standard deviation (of two or more)."""

    values: tuple[float | None, ...]
    mean: float | None
    deviation: float | None


class MakerRow(Section):
    """One way to make molecules, measured.

    kind  `way`: of the package, the first is what it is meant for; `beside`: another package;
          `published`: from the literature, a mean alone.
    """

    name: str
    kind: Literal["way", "beside", "published"]
    package: str | None = None
    measures: dict[str, Measured]


Verdict = Literal["better", "worse", "no clear difference", "spread not known"]


class Comparison(Section):
    """The package's first way beside a rival: verdict by measure, and what it comes to in words.

    nearer  whether its molecules are clearly nearer to held-out by FCD; null: cannot be said.
    """

    rival: str
    verdicts: dict[str, Verdict]
    nearer: bool | None
    sentence: str


class SetRow(Section):
    """Molecules of one source in one split."""

    split: str
    source: str
    molecules: int


class GeneratorReport(Section):
    """One evaluation of one package that makes molecules.

    samples      draws of each sampling. references: held-out sources, the first that of the
                 property distances. verdict: in words, whether the first way earns its place.
    explained    share of variance of held-out latents on the two components that are drawn.
    """

    format: Literal["medray-generator-report/1"] = FORMAT
    name: str
    version: str
    workload: str
    dataset: str
    research_use: str = RESEARCH_USE
    notes: tuple[str, ...] = ()
    samples: int
    samplings: int
    references: tuple[str, ...]
    sets: tuple[SetRow, ...]
    makers: tuple[MakerRow, ...]
    comparisons: tuple[Comparison, ...]
    verdict: str
    explained: tuple[float, float] | None = None
    history: History | None = None
    openings: tuple[Opening, ...] = ()
    provenance: Provenance
    spec: dict[str, Any]

    @property
    def main(self) -> MakerRow:
        """The way that the package is meant for."""
        return self.makers[0]


# Column → what it says; which end is better stands in `evaluate.makers`.
MEANINGS: dict[str, str] = {
    "valid": "draws that are molecules",
    "unique@1000": "distinct ones of the first 1,000 valid",
    "unique@10000": "distinct ones of the first 10,000 valid",
    "FCD": "Fréchet ChemNet distance, 0 is best",
    "SNN": "similarity to the nearest reference molecule",
    "Frag": "likeness of fragments",
    "Scaf": "likeness of scaffolds",
    "IntDiv": "diversity within",
    "IntDiv2": "diversity within, squared",
    "Filters": "without medicinal chemistry alerts",
    "Novelty": "distinct ones that are not in train",
    "logP": "distance of distributions, 0 is best",
    "SA": "the same of synthetic accessibility",
    "QED": "the same of drug-likeness",
    "weight": "the same of weight, g/mol",
}


def meaning(measure: str) -> str:
    """What a measure says, in a few words."""
    return MEANINGS.get(measure.partition("/")[0], "")


def value_text(measured: Measured | None) -> str:
    """0.532 ± 0.004, or the mean alone; an en dash where it is not defined."""
    if measured is None or measured.mean is None:
        return "–"
    digits = 4 if abs(measured.mean) < 10 else 2
    text = f"{measured.mean:.{digits}f}"
    if measured.deviation is not None:
        text += f" ± {measured.deviation:.{digits}f}"
    return text.replace("-", "−")


def one_line(report: GeneratorReport) -> str:
    """The headline numbers of the first way."""
    fcd = f"FCD/{report.references[0]}"
    shown = ("valid", "unique@10000", "unique@1000", "Novelty", fcd)
    measures = report.main.measures
    said = [
        f"{name} {value_text(measures[name])}"
        for name in shown
        if name in measures and measures[name].mean is not None
    ]
    return f"{report.main.name}: " + ", ".join(said)
