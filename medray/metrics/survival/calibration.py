"""Does a predicted risk of 0.3 by the horizon mean 30 in 100: predicted against observed.

Rows are taken as independent.

Shapes: N rows, B groups of predicted risk.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medray.metrics.interval import Floats, Ints
from medray.metrics.survival.groups import quantile_groups
from medray.metrics.survival.inputs import outcome_pair, probability_column
from medray.metrics.survival.km import aalen_johansen


@dataclass(frozen=True, slots=True)
class HorizonCalibration:
    """Observed incidence against mean predicted risk at `horizon`, by group of risk, lowest first.

    All arrays (B,). `observed` with `low` and `high` is Aalen-Johansen's (1 − Kaplan-Meier with one
    cause); NaN where the follow-up of a group ends before the horizon. `mean_difference` is the
    mean over rows of |observed − predicted| of the row's group, and `bias` that of predicted −
    observed; the `left_out` rows of groups without an observed value are not in either.
    """

    horizon: float
    count: Ints
    predicted: Floats
    observed: Floats
    low: Floats
    high: Floats
    mean_difference: float
    bias: float
    left_out: int


def horizon_calibration(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    horizon: float,
    *,
    groups: int = 10,
    least: int = 20,
    cause: int = 1,
    level: float = 0.95,
) -> HorizonCalibration:
    """Calibration of `risk` (N,) in [0, 1], the probability of `cause` by `horizon`.

    `time` (N,), `event` (N,). Groups are cut at the quantiles of the risk: `groups` of them, or as
    many as leave about `least` rows in each, at least one. Equal risks stay together. The mean
    difference depends on the groups and is biased upwards in small samples: compare only like with
    like. Raises ValueError as `outcome_pair`, for risks outside [0, 1], no rows, and for a horizon,
    `groups` or `least` that is not above 0. Sources: D'Agostino & Nam, Handbook of Statistics
    2003;23:1; Gerds, Andersen & Kattan, Stat. Med. 2014;33:3191 (competing causes); Austin, Harrell
    & van Klaveren, Stat. Med. 2020;39:2714 (the summary, there from smoothed curves).
    """
    time_N, event_N = outcome_pair(time, event, cause)
    risk_N = probability_column(risk, time_N.size)
    if time_N.size == 0:
        raise ValueError("calibration needs at least one row")
    if not (horizon > 0.0 and math.isfinite(horizon)):
        raise ValueError("horizon must be finite and above 0")
    if groups < 1 or least < 1:
        raise ValueError(f"groups and least must be at least 1, got {groups} and {least}")
    group_N = quantile_groups(risk_N, max(1, min(groups, time_N.size // least)))
    members = [group_N == group for group in range(int(group_N.max()) + 1)]
    curves = [aalen_johansen(time_N[rows], event_N[rows], cause, level) for rows in members]
    seen = [curve.interval_at(horizon) for curve in curves]
    predicted_B = np.array([risk_N[rows].mean() for rows in members])
    observed_B = np.array([interval.value for interval in seen])
    count_B = np.array([np.count_nonzero(rows) for rows in members], dtype=np.int64)
    difference, bias, left_out = _summary(predicted_B, observed_B, count_B)
    return HorizonCalibration(
        horizon=float(horizon),
        count=count_B,
        predicted=predicted_B,
        observed=observed_B,
        low=np.array([interval.low for interval in seen]),
        high=np.array([interval.high for interval in seen]),
        mean_difference=difference,
        bias=bias,
        left_out=left_out,
    )


def _summary(predicted_B: Floats, observed_B: Floats, count_B: Ints) -> tuple[float, float, int]:
    """Mean |difference| and mean difference by rows, and the rows without an observed value."""
    known_B = np.isfinite(observed_B)
    left_out = int(count_B[~known_B].sum())
    if not known_B.any():
        return math.nan, math.nan, left_out
    gap = (predicted_B - observed_B)[known_B]
    weights = count_B[known_B]
    mean = float(np.average(np.abs(gap), weights=weights))
    return mean, float(np.average(gap, weights=weights)), left_out
