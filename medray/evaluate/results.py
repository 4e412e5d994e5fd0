"""One yes/no target on `held_out`: discrimination, calibration and the operating point.

Pure functions of arrays; the formulas stand in medray.metrics. Shapes: N items, L items that have
both a label and a finite score.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from medray.calibration import Calibration, TargetCalibration
from medray.evaluate.cohort import known, outcomes
from medray.evaluate.groups import group_names, subgroup_table
from medray.metrics.bootstrap import patient_bootstrap
from medray.metrics.calibration import (
    brier,
    calibration_curve,
    expected_calibration_error,
    logistic_calibration,
)
from medray.metrics.discrimination import (
    auroc,
    auroc_delong,
    average_precision,
    pr_points,
    roc_points,
)
from medray.metrics.operating import OperatingPoint, at_threshold, predictive_values
from medray.report.document import (
    AtPrevalence,
    BaselineRow,
    BinaryResult,
    CalibrationResult,
    Estimate,
    OperatingResult,
    Reliability,
    ReliabilityBin,
    Subgroup,
    SubgroupTable,
    number,
    thinned,
)
from medray.spec.models import EvaluateSpec, WantedSensitivity

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Scored:
    """One target on one split.

    `logits` (N,) or (N, C), uncalibrated; `truth` (N,), missing as NaN or -1; `item_ids` and
    `subject_ids` (N,) strings.
    """

    item_ids: Array
    subject_ids: Array
    truth: Array
    logits: Array

    def usable(self) -> NDArray[np.bool_]:
        """Items (N,) that have both a label and a finite score."""
        usable: NDArray[np.bool_] = np.logical_and(known(self.truth), self.scored())
        return usable

    def scored(self) -> NDArray[np.bool_]:
        """Items (N,) whose every logit is finite."""
        finite = np.isfinite(self.logits).reshape(len(self.truth), -1)
        return np.asarray(finite.all(axis=1), dtype=np.bool_)

    def not_scored(self) -> int:
        """Items that have a label but no finite score."""
        return int((known(self.truth) & ~self.scored()).sum())

    def take(self, rows: Array) -> "Scored":
        """Keep some of the items."""
        return Scored(
            self.item_ids[rows], self.subject_ids[rows], self.truth[rows], self.logits[rows]
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the spec the computation needs."""

    evaluate: EvaluateSpec
    seed: int


def binary_result(
    name: str,
    held_out: Scored,
    tuning: Scored | None,
    calibration: Calibration,
    columns: Mapping[str, Array],
    settings: Settings,
) -> BinaryResult:
    """Everything about one yes/no target; `undefined` is set where it has one outcome only.

    `columns[c]` (N,) are the subgroup columns of the held-out items.
    """
    rows = held_out.usable()
    part = held_out.take(rows)
    counts: dict[str, Any] = {
        "name": name,
        "items": len(part.truth),
        "patients": len(set(part.subject_ids.tolist())),
        "positives": int((part.truth == 1).sum()),
        "not_scored": held_out.not_scored(),
    }
    if outcomes(part.truth).size < 2:
        return BinaryResult(**counts, undefined=_one_outcome(counts["positives"], len(part.truth)))
    y_L, logit_L = part.truth.astype(np.float64), part.logits.astype(np.float64)
    entry = calibration.targets[name]
    p_L = calibration.apply(name, logit_L)
    threshold = 0.5 if entry.threshold is None else entry.threshold
    roc, pr = roc_points(y_L, logit_L), pr_points(y_L, logit_L)
    return BinaryResult(
        **counts,
        auroc=_bootstrap(auroc, part, settings),
        auroc_delong=Estimate.of(auroc_delong(y_L, logit_L)),
        auprc=_bootstrap(average_precision, part, settings),
        tuning_auroc=_tuning_auroc(tuning),
        roc=thinned(roc.false_positive_rate.tolist(), roc.true_positive_rate.tolist()),
        pr=thinned(pr.recall.tolist(), pr.precision.tolist()),
        calibration=CalibrationResult(
            temperature=entry.temperature,
            note=entry.note,
            before=reliability(y_L, expit(logit_L)),
            after=reliability(y_L, p_L),
        ),
        operating=_operating(y_L, p_L, threshold, entry, settings.evaluate.prevalence),
        subgroups=_subgroups(part, p_L, threshold, columns, rows, settings.evaluate),
    )


def with_baselines(
    result: BinaryResult, held_out: Scored, scores: Mapping[str, Array | str], settings: Settings
) -> BinaryResult:
    """Put simple models beside the network: name → probability (N,) of the same items.

    In the place of probabilities: why there are none.
    """
    if result.undefined or not scores:
        return result
    rows = held_out.usable()
    part = held_out.take(rows)
    baselines: list[BaselineRow] = []
    for name, values in scores.items():
        if isinstance(values, str):
            baselines.append(BaselineRow(name=name, note=values))
            continue
        p_L = np.asarray(values, np.float64)[rows]
        rival = replace(part, logits=p_L)
        both_L2 = np.stack([part.logits.astype(np.float64), p_L], axis=1)
        baselines.append(
            BaselineRow(
                name=name,
                auroc=_bootstrap(auroc, rival, settings),
                auprc=_bootstrap(average_precision, rival, settings),
                brier=number(brier(part.truth.astype(np.float64), p_L)),
                difference=_bootstrap(_auroc_gap, replace(part, logits=both_L2), settings),
            )
        )
    return result.model_copy(update={"baselines": tuple(baselines)})


def _auroc_gap(y: Array, scores_L2: Array) -> float:
    return auroc(y, scores_L2[:, 0]) - auroc(y, scores_L2[:, 1])


def reliability(y: Array, p: Array) -> Reliability:
    """Reliability of probabilities `p` (L,) for outcomes `y` (L,) of 0/1; empty bins left out."""
    curve = calibration_curve(y, p)
    line = logistic_calibration(y, p)
    bins = tuple(
        ReliabilityBin(
            items=int(curve.count[b]),
            predicted=float(curve.mean_predicted[b]),
            observed=float(curve.observed[b]),
            low=float(curve.low[b]),
            high=float(curve.high[b]),
        )
        for b in np.flatnonzero(curve.count)
    )
    return Reliability(
        ece=number(expected_calibration_error(y, p)),
        brier=number(brier(y, p)),
        slope=number(line.slope),
        in_the_large=number(line.in_the_large),
        bins=bins,
    )


def rule_in_words(calibration: TargetCalibration) -> str:
    """How the threshold was chosen, for people."""
    rule = calibration.rule
    if calibration.note or calibration.threshold is None:
        return "0.5, as nothing could be chosen on tuning"
    if isinstance(rule, WantedSensitivity):
        return f"the highest threshold that reaches a sensitivity of {rule.sensitivity:.0%}"
    return "the highest sensitivity + specificity (Youden)"


def _one_outcome(positives: int, items: int) -> str:
    if items == 0:
        return "No held-out item has both a label and a score for this target."
    which = "positive" if positives else "negative"
    return f"All {items} labelled held-out items are {which}: no result is defined."


def _bootstrap(statistic: Any, part: Scored, settings: Settings) -> Estimate:
    arrays = (part.truth.astype(np.float64), part.logits.astype(np.float64))
    return Estimate.of(
        patient_bootstrap(
            statistic,
            part.subject_ids.tolist(),
            arrays,
            replicates=settings.evaluate.replicates,
            seed=settings.seed,
        )
    )


def _tuning_auroc(tuning: Scored | None) -> Estimate | None:
    if tuning is None:
        return None
    part = tuning.take(tuning.usable())
    return Estimate.of(auroc_delong(part.truth.astype(np.float64), part.logits))


def _operating(
    y_L: Array,
    p_L: Array,
    threshold: float,
    calibration: TargetCalibration,
    prevalence: float | None,
) -> OperatingResult:
    point = at_threshold(y_L, p_L, threshold)
    return OperatingResult(
        threshold=threshold,
        rule=rule_in_words(calibration),
        true_positives=point.tp,
        false_positives=point.fp,
        true_negatives=point.tn,
        false_negatives=point.fn,
        sensitivity=Estimate.of(point.sensitivity),
        specificity=Estimate.of(point.specificity),
        accuracy=Estimate.of(point.accuracy),
        here=AtPrevalence(
            prevalence=float(y_L.mean()),
            ppv=Estimate.of(point.ppv),
            npv=Estimate.of(point.npv),
        ),
        elsewhere=None if prevalence is None else _elsewhere(point, prevalence),
    )


def _elsewhere(point: OperatingPoint, prevalence: float) -> AtPrevalence:
    """PPV and NPV by Bayes' rule, their bounds at those of sensitivity and specificity.

    Both values rise with sensitivity and with specificity, so these bounds are conservative.
    """
    sensitivity, specificity = point.sensitivity, point.specificity
    value = predictive_values(sensitivity.value, specificity.value, prevalence)
    low = predictive_values(sensitivity.low, specificity.low, prevalence)
    high = predictive_values(sensitivity.high, specificity.high, prevalence)

    def estimate(name: str) -> Estimate:
        return Estimate(
            value=number(getattr(value, name)),
            low=number(getattr(low, name)),
            high=number(getattr(high, name)),
            method="bayes-at-wilson-bounds",
        )

    return AtPrevalence(prevalence=prevalence, ppv=estimate("ppv"), npv=estimate("npv"))


def _subgroups(
    part: Scored,
    p_L: Array,
    threshold: float,
    columns: Mapping[str, Array],
    rows: NDArray[np.bool_],
    evaluate: EvaluateSpec,
) -> tuple[SubgroupTable, ...]:
    y_L = part.truth.astype(np.float64)

    def row(members: NDArray[np.bool_]) -> Subgroup:
        y, p = y_L[members], p_L[members]
        point = at_threshold(y, p, threshold)
        return Subgroup(
            group="",
            patients=len(set(part.subject_ids[members].tolist())),
            items=len(y),
            positives=point.tp + point.fn,
            mean_predicted=float(p.mean()),
            measures={
                "AUROC": Estimate.of(auroc_delong(y, part.logits[members])),
                "Sensitivity": Estimate.of(point.sensitivity),
                "Specificity": Estimate.of(point.specificity),
            },
        )

    return tuple(
        subgroup_table(
            attribute,
            group_names(attribute, values)[rows],
            part.subject_ids,
            evaluate.min_patients,
            row,
        )
        for attribute, values in columns.items()
    )
