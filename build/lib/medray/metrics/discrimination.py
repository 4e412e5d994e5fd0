"""Does a positive score higher than a negative: AUROC, average precision and their curves.

Owns ranking metrics of one binary label. Knows no threshold rule and no calibration.

Shapes: N rows, M positives, K negatives, U distinct scores, R weightings (bootstrap replicates).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit, ndtr

from medray.metrics.interval import Floats, Interval, binary_pair, critical_value, find_root, finite


def auroc(y: ArrayLike, score: ArrayLike) -> float:
    """Probability that a positive outranks a negative, a tie counting one half.

    `y` (N,) of 0/1, `score` (N,) finite, higher meaning more positive. NaN where one class is
    absent. Raises ValueError for other labels, non-finite scores or unequal lengths.
    Source: Hanley & McNeil, Radiology 1982;143:29.
    """
    y_N, score_N = binary_pair(y, score)
    return float(weighted_auroc(y_N, score_N, np.ones((1, y_N.size)))[0])


def weighted_auroc(y: ArrayLike, score: ArrayLike, weights: ArrayLike) -> Floats:
    """AUROC (R,) under R weightings of the same rows; a weight of k stands for k equal rows.

    `weights` (R, N), non-negative. NaN where a weighting leaves one class empty. Raises ValueError
    as `auroc` does, and for weights of another shape, negative or non-finite.
    """
    y_N, score_N = binary_pair(y, score)
    weights_RN = _checked_weights(weights, y_N.size)
    if y_N.size == 0:
        return np.full(len(weights_RN), np.nan)
    order_N, starts_U = _ties(score_N)
    sorted_RN = weights_RN[:, order_N]
    positive_RU = np.add.reduceat(sorted_RN * y_N[order_N], starts_U, axis=1)
    negative_RU = np.add.reduceat(sorted_RN * (1.0 - y_N[order_N]), starts_U, axis=1)
    beaten_RU = np.cumsum(negative_RU, axis=1) - 0.5 * negative_RU
    pairs_R = positive_RU.sum(axis=1) * negative_RU.sum(axis=1)
    return _ratio((positive_RU * beaten_RU).sum(axis=1), pairs_R, np.nan)


def average_precision(y: ArrayLike, score: ArrayLike) -> float:
    """Mean precision over the positives, Σ (Rₖ − Rₖ₋₁) Pₖ over distinct scores, not interpolated.

    `y` (N,) of 0/1, `score` (N,) finite. NaN without positives. Its chance level is the prevalence.
    Raises ValueError as `auroc` does. Source: Boyd, Eng & Page, ECML PKDD 2013.
    """
    y_N, score_N = binary_pair(y, score)
    return float(weighted_average_precision(y_N, score_N, np.ones((1, y_N.size)))[0])


def weighted_average_precision(y: ArrayLike, score: ArrayLike, weights: ArrayLike) -> Floats:
    """Average precision (R,) under R weightings (R, N) of the same rows; NaN without positives.

    Raises ValueError as `weighted_auroc` does.
    """
    y_N, score_N = binary_pair(y, score)
    weights_RN = _checked_weights(weights, y_N.size)
    if y_N.size == 0:
        return np.full(len(weights_RN), np.nan)
    order_N, starts_U = _ties(-score_N)
    sorted_RN = weights_RN[:, order_N]
    positive_RU = np.add.reduceat(sorted_RN * y_N[order_N], starts_U, axis=1)
    called_RU = np.cumsum(np.add.reduceat(sorted_RN, starts_U, axis=1), axis=1)
    # Before the first row of any weight, precision is 0/0 and no positive is added: it counts 0.
    precision_RU = _ratio(np.cumsum(positive_RU, axis=1), called_RU, 0.0)
    return _ratio((positive_RU * precision_RU).sum(axis=1), positive_RU.sum(axis=1), np.nan)


@dataclass(frozen=True, slots=True)
class RocPoints:
    """The ROC curve by falling threshold; every array is (U + 1,).

    A row is called positive at `score >= threshold`; the first threshold is +inf, nothing called.
    A rate whose class is absent is NaN.
    """

    threshold: Floats
    false_positive_rate: Floats
    true_positive_rate: Floats


def roc_points(y: ArrayLike, score: ArrayLike) -> RocPoints:
    """ROC curve of `y` (N,) 0/1 and `score` (N,), one point per distinct score plus (0, 0).

    Raises ValueError as `auroc` does.
    """
    y_N, score_N = binary_pair(y, score)
    threshold_U, true_U, false_U = counts_by_threshold(y_N, score_N)
    positives = np.count_nonzero(y_N)
    negatives = y_N.size - positives
    true = np.concatenate([[0.0], true_U])
    false = np.concatenate([[0.0], false_U])
    return RocPoints(
        threshold=np.concatenate([[np.inf], threshold_U]),
        false_positive_rate=_ratio(false, np.full_like(false, negatives), np.nan),
        true_positive_rate=_ratio(true, np.full_like(true, positives), np.nan),
    )


@dataclass(frozen=True, slots=True)
class PrPoints:
    """The precision-recall curve by falling threshold; every array is (U,).

    A row is called positive at `score >= threshold`. No point is invented at recall 0. Recall is
    NaN without positives.
    """

    threshold: Floats
    precision: Floats
    recall: Floats


def pr_points(y: ArrayLike, score: ArrayLike) -> PrPoints:
    """Precision-recall curve of `y` (N,) 0/1 and `score` (N,), one point per distinct score.

    Raises ValueError as `auroc` does.
    """
    y_N, score_N = binary_pair(y, score)
    threshold_U, true_U, false_U = counts_by_threshold(y_N, score_N)
    positives_U = np.full_like(true_U, np.count_nonzero(y_N))
    return PrPoints(
        threshold=threshold_U,
        precision=_ratio(true_U, true_U + false_U, np.nan),
        recall=_ratio(true_U, positives_U, np.nan),
    )


def counts_by_threshold(y: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Distinct scores (U,) falling, with the true and false positives (U,) at `score >=` each.

    `y` (N,) 0/1, `score` (N,). Raises ValueError as `auroc` does.
    """
    y_N, score_N = binary_pair(y, score)
    if y_N.size == 0:
        return np.empty(0), np.empty(0), np.empty(0)
    order_N, starts_U = _ties(-score_N)
    positive_U = np.add.reduceat(y_N[order_N], starts_U)
    negative_U = np.add.reduceat(1.0 - y_N[order_N], starts_U)
    return score_N[order_N][starts_U], np.cumsum(positive_U), np.cumsum(negative_U)


def auroc_delong(y: ArrayLike, score: ArrayLike, level: float = 0.95) -> Interval:
    """AUROC with DeLong's interval, taken on the logit scale so that it stays inside (0, 1).

    `y` (N,) of 0/1, `score` (N,) finite. NaN throughout where one class is absent. Where DeLong's
    variance is 0 (perfect separation, a constant score) or undefined (a class of one row), the
    interval is Newcombe's score-type one and `method` says so: [1, 1] would claim a certainty that
    no data give. Rows are taken as independent; with several rows a patient use
    `patient_bootstrap`. Raises ValueError as `auroc` does and for a level outside (0, 1).
    Sources: DeLong, DeLong & Clarke-Pearson, Biometrics 1988;44:837; Sun & Xu, IEEE Signal
    Process. Lett. 2014;21:1389; Newcombe, Stat. Med. 2006;25:559 (method 5).
    """
    z = critical_value(level)
    y_N, score_N = binary_pair(y, score)
    won_M, lost_K = _pair_counts(y_N, score_N)
    positives, negatives = won_M.size, lost_K.size
    if positives == 0 or negatives == 0:
        return Interval(math.nan, math.nan, math.nan, level, "delong-logit")
    area = float(won_M.sum()) / (positives * negatives)
    # The counts are exact halves, so their range is exactly 0 where the variance is.
    flat = float(np.ptp(won_M)) == 0.0 and float(np.ptp(lost_K)) == 0.0
    if flat or positives == 1 or negatives == 1:
        low, high = _newcombe(area, positives, negatives, z)
        return Interval(area, low, high, level, "newcombe-5")
    error = math.sqrt(_mean_variance(won_M / negatives) + _mean_variance(lost_K / positives))
    half = z * error / (area * (1.0 - area))
    centre = logit(area)
    return Interval(
        area, float(expit(centre - half)), float(expit(centre + half)), level, "delong-logit"
    )


def delong_test(y: ArrayLike, score_a: ArrayLike, score_b: ArrayLike) -> float:
    """Two-sided p value of equal AUROC for two scores of the same rows (paired).

    `y` (N,) of 0/1, both scores (N,) finite. NaN where a class has fewer than two rows, and where
    the areas differ but the variance of the difference is 0, so that the statistic is undefined;
    1 where area and every row's standing agree. Raises ValueError as `auroc` does.
    Source: DeLong, DeLong & Clarke-Pearson, Biometrics 1988;44:837.
    """
    y_N, a_N = binary_pair(y, score_a, "score_a")
    _, b_N = binary_pair(y, score_b, "score_b")
    won_a_M, lost_a_K = _pair_counts(y_N, a_N)
    won_b_M, lost_b_K = _pair_counts(y_N, b_N)
    positives, negatives = won_a_M.size, lost_a_K.size
    if positives < 2 or negatives < 2:
        return math.nan
    won_M, lost_K = won_a_M - won_b_M, lost_a_K - lost_b_K
    difference = float(won_M.sum()) / (positives * negatives)
    if float(np.ptp(won_M)) == 0.0 and float(np.ptp(lost_K)) == 0.0:
        return 1.0 if difference == 0.0 else math.nan
    error = math.sqrt(_mean_variance(won_M / negatives) + _mean_variance(lost_K / positives))
    return float(2.0 * ndtr(-abs(difference) / error))


def _pair_counts(y_N: Floats, score_N: Floats) -> tuple[Floats, Floats]:
    """Negatives below each positive (M,) and positives above each negative (K,), ties one half.

    Sun & Xu get these as mid-rank among all rows minus mid-rank within the class; two binary
    searches in the sorted other class give the same difference without ranking twice.
    """
    positive_M, negative_K = score_N[y_N == 1.0], score_N[y_N == 0.0]
    won_M = _mid_position(np.sort(negative_K), positive_M)
    lost_K = positive_M.size - _mid_position(np.sort(positive_M), negative_K)
    return won_M, lost_K


def _mid_position(ordered: Floats, values: Floats) -> Floats:
    """How many of `ordered` lie below each value, those equal counting one half."""
    below = np.searchsorted(ordered, values, side="left").astype(np.float64)
    return 0.5 * (below + np.searchsorted(ordered, values, side="right").astype(np.float64))


def _mean_variance(components: Floats) -> float:
    """Estimated variance of the mean of at least two components."""
    return float(np.var(components, ddof=1)) / components.size


def _newcombe(area: float, positives: int, negatives: int, z: float) -> tuple[float, float]:
    """Bounds t of the area with |t − area| = z √V(t), V being the exponential model's variance.

    Newcombe 2006, method 5: both class sizes less one become their mean, (M + K) / 2 − 1.
    """
    size = (positives + negatives) / 2.0 - 1.0

    def excess(bound: float) -> float:
        spread = 1.0 + size * ((1.0 - bound) / (2.0 - bound) + bound / (1.0 + bound))
        variance = bound * (1.0 - bound) * spread / (positives * negatives)
        return (bound - area) ** 2 - z * z * variance

    # `excess` is negative at the area and positive at 0 and 1; an area of 0 or 1 is itself a root,
    # and the search starts just inside it.
    inside = min(max(area, 1e-12), 1.0 - 1e-12)
    low = 0.0 if area == 0.0 else find_root(excess, 0.0, inside)
    high = 1.0 if area == 1.0 else find_root(excess, inside, 1.0)
    return low, high


def _ties(values_N: Floats) -> tuple[np.ndarray, np.ndarray]:
    """Order (N,) by rising value and the starts (U,) of runs of equal values in it; N >= 1."""
    order_N = np.argsort(values_N, kind="stable")
    ordered_N = values_N[order_N]
    return order_N, np.flatnonzero(np.concatenate([[True], ordered_N[1:] != ordered_N[:-1]]))


def _ratio(top: Floats, bottom: Floats, undefined: float) -> Floats:
    """`top / bottom`, with `undefined` where the bottom is 0."""
    return np.divide(top, bottom, out=np.full_like(top, undefined), where=bottom != 0.0)


def _checked_weights(weights: ArrayLike, rows: int) -> Floats:
    weights_RN = finite(weights, "weights", ndim=2)
    if weights_RN.shape[1] != rows:
        raise ValueError(f"weights must be (R, {rows}), got shape {weights_RN.shape}")
    if np.any(weights_RN < 0.0):
        raise ValueError("weights must not be negative")
    return weights_RN
