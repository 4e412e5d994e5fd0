"""How far predicted probabilities lie from what happened: Brier score at times, and integrated.

Shapes: N rows, K times.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from medray.metrics.interval import Floats
from medray.metrics.survival.inputs import incidence_grid, outcome_pair
from medray.metrics.survival.km import Censoring


def brier_score(
    time: ArrayLike,
    event: ArrayLike,
    incidence: ArrayLike,
    times: ArrayLike,
    *,
    censoring: Censoring,
    cause: int = 1,
) -> Floats:
    """Mean squared error (K,) of `incidence` (N, K), the probability of `cause` by `times` (K,).

    `time` (N,), `event` (N,). Events by t weigh 1 / G at their own time, those of a competing cause
    as known non-events; rows followed past t weigh 1 / G(t); rows censored by t weigh nothing. NaN
    without rows, and at times that need G past its last time or where it is 0. Raises ValueError as
    `outcome_pair` and `incidence_grid`. Sources: Graf et al., Stat. Med. 1999;18:2529; Schoop et
    al., Biom. J. 2011;53:88 (competing causes).
    """
    time_N, event_N = outcome_pair(time, event, cause)
    incidence_NK, times_K = incidence_grid(incidence, times, time_N.size)
    if time_N.size == 0:
        return np.full(times_K.size, np.nan)
    by_then_NK = time_N[:, None] <= times_K
    ended_NK = by_then_NK & (event_N > 0)[:, None]
    happened_NK = by_then_NK & (event_N == cause)[:, None]
    weight_NK = np.where(by_then_NK, 0.0, censoring.weight(times_K))
    weight_NK = np.where(ended_NK, censoring.weight(time_N)[:, None], weight_NK)
    return np.mean(weight_NK * (happened_NK - incidence_NK) ** 2, axis=0)


def integrated_brier_score(
    time: ArrayLike,
    event: ArrayLike,
    incidence: ArrayLike,
    times: ArrayLike,
    *,
    censoring: Censoring,
    cause: int = 1,
) -> float:
    """Mean of the Brier score from the first to the last of `times` (K,), by trapezoids.

    Inputs and errors as `brier_score`; NaN where the score is NaN at any of the times. Raises
    ValueError with fewer than two times. Source: Graf et al., Stat. Med. 1999;18:2529.
    """
    score_K = brier_score(time, event, incidence, times, censoring=censoring, cause=cause)
    if score_K.size < 2:
        raise ValueError("an integrated Brier score needs at least two times")
    times_K = np.asarray(times, dtype=np.float64)
    area = float(np.trapezoid(score_K, times_K)) / float(times_K[-1] - times_K[0])
    return area if math.isfinite(area) else math.nan
