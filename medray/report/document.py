"""What a report holds: the models behind report.json, which the HTML page and the card render.

Owns the shape of the document; computes nothing. An undefined number is null here, never NaN or 0,
and the reason stands beside it in `undefined` or `note`.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from medray.explain.events import EventPart
from medray.report.elements import (
    Curve,
    Estimate,
    Reliability,
    ReliabilityBin,
    Subgroup,
    SubgroupTable,
    number,
    thinned,
)
from medray.report.outcomes import ForecastResult, SurvivalResult
from medray.report.values import ValueResult
from medray.spec.base import Section

__all__ = [
    "AtPrevalence",
    "BaselineRow",
    "BinaryResult",
    "CalibrationResult",
    "ClassRow",
    "Cohort",
    "Curve",
    "Estimate",
    "ForecastResult",
    "History",
    "Labelled",
    "MeanRow",
    "Mistake",
    "MulticlassResult",
    "Opening",
    "OperatingResult",
    "Provenance",
    "Reliability",
    "ReliabilityBin",
    "Report",
    "SplitRow",
    "Subgroup",
    "SubgroupTable",
    "SurvivalResult",
    "TargetResult",
    "ValueResult",
    "number",
    "thinned",
]

FORMAT: Final = "medray-report/1"
RESEARCH_USE = (
    "Research use only. This is not a medical device: do not use these results to diagnose or "
    "treat patients."
)


class CalibrationResult(Section):
    """Before and after dividing the logits by `temperature`, which was fitted on `tuning`."""

    temperature: float
    note: str = ""
    before: Reliability
    after: Reliability


class AtPrevalence(Section):
    """Predictive values where the share of patients with the finding is `prevalence`."""

    prevalence: float
    ppv: Estimate
    npv: Estimate


class OperatingResult(Section):
    """What holds at the threshold, which was chosen on `tuning` and is applied to `held_out`."""

    threshold: float
    rule: str
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    sensitivity: Estimate
    specificity: Estimate
    accuracy: Estimate
    here: AtPrevalence
    elsewhere: AtPrevalence | None = None


class Mistake(Section):
    """One item the model was confidently wrong about.

    picture  names its image in the page. events: of a record, those with the greatest part in the
             answer.
    """

    item_id: str
    kind: Literal["missed", "false alarm", "confused"]
    truth: str
    predicted: str
    score: float
    picture: str | None = None
    events: tuple[EventPart, ...] = ()


class Labelled(Section):
    """How many items of a split have a label of a target, and how many of each outcome.

    `patients` counts, by outcome, the patients with at least one such item.
    """

    target: str
    labelled: int
    items: dict[str, int]
    patients: dict[str, int]


class SplitRow(Section):
    """One split of the cohort."""

    split: str
    patients: int
    studies: int
    items: int
    labels: tuple[Labelled, ...]


class Cohort(Section):
    """Who was learned from, tuned on and held out. `unit`: what one item is to the reader."""

    unit: Literal["patients", "images", "predictions", "molecules"]
    rows: tuple[SplitRow, ...]

    @property
    def whom(self) -> str:
        """Whom the rows count as `patients`: that, or molecules."""
        return "molecules" if self.unit == "molecules" else "patients"


class CoverageRow(Section):
    """What of one split's records the model can use.

    without_items  patients with nothing at or before a prediction time: they have no score.
    unseen_*       events of codes that the model does not know, the items whose record holds any,
                   and the patients they are of.
    """

    split: str
    patients: int
    without_items: int
    items: int
    unseen_items: int
    unseen_patients: int
    unseen_events: int


class BaselineRow(Section):
    """A simple model on the same items. `difference`: AUROC of the network less its own.

    `note` says why there are no numbers.
    """

    name: str
    note: str = ""
    auroc: Estimate | None = None
    auprc: Estimate | None = None
    brier: float | None = None
    difference: Estimate | None = None


class BinaryResult(Section):
    """Everything about one yes/no target. `undefined` says why numbers are absent."""

    kind: Literal["binary"] = "binary"
    name: str
    undefined: str = ""
    items: int
    patients: int
    positives: int
    not_scored: int = 0
    auroc: Estimate | None = None
    auroc_delong: Estimate | None = None
    auprc: Estimate | None = None
    tuning_auroc: Estimate | None = None
    roc: Curve = Curve()
    pr: Curve = Curve()
    calibration: CalibrationResult | None = None
    operating: OperatingResult | None = None
    baselines: tuple[BaselineRow, ...] = ()
    subgroups: tuple[SubgroupTable, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


class ClassRow(Section):
    """One class against all others, decided by the most probable class."""

    name: str
    items: int
    recall: Estimate
    precision: Estimate
    auroc: Estimate


class MulticlassResult(Section):
    """Everything about one target of several exclusive classes.

    `confusion[i][j]`: items of class i called class j. `calibration` is that of the top class.
    """

    kind: Literal["multiclass"] = "multiclass"
    name: str
    undefined: str = ""
    classes: tuple[str, ...]
    items: int
    patients: int
    not_scored: int = 0
    accuracy: Estimate | None = None
    balanced_accuracy: Estimate | None = None
    macro_auroc: Estimate | None = None
    tuning_accuracy: Estimate | None = None
    per_class: tuple[ClassRow, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    calibration: CalibrationResult | None = None
    subgroups: tuple[SubgroupTable, ...] = ()
    mistakes: tuple[Mistake, ...] = ()


TargetResult = Annotated[
    BinaryResult | MulticlassResult | SurvivalResult | ForecastResult | ValueResult,
    Field(discriminator="kind"),
]


class MeanRow(Section):
    """One model's measures, each the mean over the targets that have a result."""

    model: str
    targets: int
    measures: dict[str, Estimate]


class History(Section):
    """Learning curves: `series[name][i]` belongs to `epochs[i]`, null where not measured.

    `best_epoch` is the one whose weights were packaged.
    """

    epochs: tuple[int, ...]
    best_epoch: int | None = None
    series: dict[str, tuple[float | None, ...]]


class Opening(Section):
    """One time that `held_out` was looked at, and by which package."""

    time: str
    package: str


class Provenance(Section):
    """Where every number comes from."""

    created: str
    package: str
    package_digest: str
    data_fingerprint: str
    spec_sha256: str
    software: dict[str, Any]
    lineage: dict[str, Any]


class Report(Section):
    """One evaluation of one package on `held_out`.

    `notes` are warnings that concern every number; `skipped_columns` are the subgroup columns
    asked for that the dataset does not have; `coverage` is there for records; `split` says how
    molecules were held out; `means` are there for several yes/no targets, the network's first.
    """

    format: Literal["medray-report/1"] = FORMAT
    name: str
    version: str
    workload: str
    dataset: str
    research_use: str = RESEARCH_USE
    notes: tuple[str, ...] = ()
    skipped_columns: tuple[str, ...] = ()
    min_patients: int
    replicates: int
    cohort: Cohort
    coverage: tuple[CoverageRow, ...] = ()
    split: str = ""
    means: tuple[MeanRow, ...] = ()
    targets: tuple[TargetResult, ...]
    history: History | None = None
    openings: tuple[Opening, ...] = ()
    provenance: Provenance
    spec: dict[str, Any]
