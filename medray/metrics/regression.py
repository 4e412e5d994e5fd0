"""How near predicted numbers come to measured ones: errors, explained variance, correlations.

Truth and answer are (N,), both present everywhere (ValueError otherwise). An undefined number is
NaN: of no item, or where all are alike.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from medray.metrics.interval import Floats, finite


def rmse(truth: ArrayLike, answer: ArrayLike) -> float:
    """Root of the mean squared difference, in the unit of the truth."""
    truth_N, answer_N = _pair(truth, answer)
    return math.sqrt(np.mean((truth_N - answer_N) ** 2)) if truth_N.size else math.nan


def mae(truth: ArrayLike, answer: ArrayLike) -> float:
    """Mean absolute difference, in the unit of the truth."""
    truth_N, answer_N = _pair(truth, answer)
    return float(np.mean(np.abs(truth_N - answer_N))) if truth_N.size else math.nan


def r_squared(truth: ArrayLike, answer: ArrayLike) -> float:
    """Share of the variance that the answers explain: 1 is best, 0 is the mean of the truth."""
    truth_N, answer_N = _pair(truth, answer)
    if not truth_N.size:
        return math.nan
    whole = float(np.sum((truth_N - truth_N.mean()) ** 2))
    return 1.0 - float(np.sum((truth_N - answer_N) ** 2)) / whole if whole > 0 else math.nan


def pearson(truth: ArrayLike, answer: ArrayLike) -> float:
    """Correlation of the values."""
    return _correlation(*_pair(truth, answer))


def spearman(truth: ArrayLike, answer: ArrayLike) -> float:
    """Correlation of the ranks; equal values share the mean of their ranks."""
    truth_N, answer_N = _pair(truth, answer)
    return _correlation(rankdata(truth_N), rankdata(answer_N))


def _correlation(one_N: Floats, other_N: Floats) -> float:
    if one_N.size < 2:
        return math.nan
    one_N, other_N = one_N - one_N.mean(), other_N - other_N.mean()
    spread = math.sqrt(float(one_N @ one_N)) * math.sqrt(float(other_N @ other_N))
    return float(one_N @ other_N) / spread if spread > 0 else math.nan


def _pair(truth: ArrayLike, answer: ArrayLike) -> tuple[Floats, Floats]:
    truth_N, answer_N = finite(truth, "truth"), finite(answer, "answer")
    if truth_N.shape != answer_N.shape:
        raise ValueError(f"{truth_N.size} truths but {answer_N.size} answers")
    return truth_N, answer_N
