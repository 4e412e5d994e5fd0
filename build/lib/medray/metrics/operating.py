"""Where to cut the score, and what holds there.

Owns the choice of a threshold (on validation rows only) and the table of four at it. A row is
called positive at `p >= threshold`.

Shapes: N rows, U distinct scores.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from medray.metrics.discrimination import counts_by_threshold
from medray.metrics.interval import Interval, binary_pair, wilson

Rule = Literal["youden"] | Mapping[str, float]

_TARGETS = ("sensitivity", "specificity")


def choose_threshold(y: ArrayLike, p: ArrayLike, rule: Rule) -> float:
    """Choose a score among `p` (N,) to cut at, by rule; a row is positive at `p >=` it.

    `y` (N,) of 0/1.

    - "youden": the greatest sensitivity + specificity; among ties the lowest threshold, that is
      the most sensitive one, since a missed disease costs more.
    - {"sensitivity": t}: the highest threshold that reaches t, so the best specificity.
    - {"specificity": t}: the lowest threshold that reaches t, so the best sensitivity.

    Always an observed score, so that rounding to float32 cannot move rows across it. Raises
    ValueError for other labels, non-finite scores, one class only, an unknown rule, a target
    outside (0, 1], or a specificity that no score reaches because too many negatives share the
    highest one. Source: Youden, Cancer 1950;3:32.
    """
    y_N, p_N = binary_pair(y, p, "p")
    threshold_U, true_U, false_U = counts_by_threshold(y_N, p_N)
    positives = int(np.count_nonzero(y_N))
    negatives = y_N.size - positives
    if positives == 0 or negatives == 0:
        raise ValueError("a threshold needs labels of both classes")
    if rule == "youden":
        # Whole numbers, so that equal indices compare equal.
        index_U = true_U * negatives - false_U * positives
        return float(threshold_U[np.flatnonzero(index_U == index_U.max())[-1]])
    name, target = _target(rule)
    if name == "sensitivity":
        return float(threshold_U[np.flatnonzero(true_U >= _least(target, positives))[0]])
    enough_U = np.flatnonzero(negatives - false_U >= _least(target, negatives))
    if enough_U.size == 0:
        raise ValueError(f"no score reaches specificity {target}: negatives share the highest one")
    return float(threshold_U[enough_U[-1]])


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What holds at one threshold; every proportion with its Wilson interval, 0/0 being NaN."""

    threshold: float
    tp: int
    fp: int
    tn: int
    fn: int
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    npv: Interval
    accuracy: Interval


def at_threshold(
    y: ArrayLike, p: ArrayLike, threshold: float, level: float = 0.95
) -> OperatingPoint:
    """Count, and form proportions, when `p` (N,) `>= threshold` is called positive.

    `y` (N,) of 0/1. PPV and NPV hold at the prevalence of these rows: see `predictive_values` for
    another. Rows are taken as independent; with several rows a patient use `patient_bootstrap`.
    Raises ValueError for other labels, non-finite scores, unequal lengths or a NaN threshold.
    Source: Wilson, JASA 1927;22:209.
    """
    y_N, p_N = binary_pair(y, p, "p")
    if math.isnan(threshold):
        raise ValueError("threshold must not be NaN")
    called_N, positive_N = p_N >= threshold, y_N == 1.0
    tp = int(np.count_nonzero(called_N & positive_N))
    fp = int(np.count_nonzero(called_N & ~positive_N))
    fn = int(np.count_nonzero(~called_N & positive_N))
    tn = y_N.size - tp - fp - fn
    return OperatingPoint(
        threshold=float(threshold),
        tp=tp,
        fp=fp,
        tn=tn,
        fn=fn,
        sensitivity=wilson(tp, tp + fn, level),
        specificity=wilson(tn, tn + fp, level),
        ppv=wilson(tp, tp + fp, level),
        npv=wilson(tn, tn + fn, level),
        accuracy=wilson(tp + tn, y_N.size, level),
    )


class PredictiveValues(NamedTuple):
    """Positive and negative predictive value; NaN where nothing is called so."""

    ppv: float
    npv: float


def predictive_values(
    sensitivity: float, specificity: float, prevalence: float
) -> PredictiveValues:
    """PPV and NPV at another prevalence, by Bayes' rule; a NaN input makes both NaN.

    Raises ValueError for a value outside [0, 1]. Source: Altman & Bland, BMJ 1994;309:102.
    """
    given = {"sensitivity": sensitivity, "specificity": specificity, "prevalence": prevalence}
    for name, value in given.items():
        if value < 0.0 or value > 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {value}")
    tp, fn = prevalence * sensitivity, prevalence * (1.0 - sensitivity)
    tn, fp = (1.0 - prevalence) * specificity, (1.0 - prevalence) * (1.0 - specificity)
    ppv = math.nan if tp + fp == 0.0 else tp / (tp + fp)
    npv = math.nan if tn + fn == 0.0 else tn / (tn + fn)
    if math.isnan(sensitivity + specificity + prevalence):
        return PredictiveValues(math.nan, math.nan)
    return PredictiveValues(ppv, npv)


def _target(rule: str | Mapping[str, float]) -> tuple[str, float]:
    """Name and value of a target rule, checked."""
    if isinstance(rule, str) or len(rule) != 1 or next(iter(rule)) not in _TARGETS:
        raise ValueError('rule must be "youden", {"sensitivity": t} or {"specificity": t}')
    name, target = next(iter(rule.items()))
    if not 0.0 < target <= 1.0:
        raise ValueError(f"the {name} aimed at must lie in (0, 1], got {target}")
    return name, float(target)


def _least(target: float, total: int) -> int:
    """Fewest of `total` whose share reaches `target`; 0.9 of 10 is 9 whatever the rounding."""
    return math.ceil(target * total - 1e-9)
