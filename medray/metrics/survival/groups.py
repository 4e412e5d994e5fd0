"""Do groups of predicted risk fare differently: their curves and the log-rank test.

Owns the cutting of rows by risk, and the test. Rows are taken as independent.

Shapes: N rows, G groups, U distinct event times.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtrc

from medray.metrics.interval import Floats, Ints, identifier_codes
from medray.metrics.survival.inputs import outcome_pair, risk_column
from medray.metrics.survival.km import StepCurve, aalen_johansen, kaplan_meier


def quantile_groups(risk: ArrayLike, groups: int) -> Ints:
    """Group (N,) of each row, 0 the lowest risk, cut at the quantiles of `risk` (N,).

    Equal risks stay together, so with ties there may be fewer groups, numbered without gaps. Raises
    ValueError for risks that are not finite or `groups` below 1.
    """
    risk_N = risk_column(risk, np.size(risk))
    if groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups}")
    if risk_N.size == 0:
        return np.empty(0, dtype=np.int64)
    cuts = np.quantile(risk_N, np.arange(1, groups) / groups)
    bin_N = np.searchsorted(cuts, risk_N, side="left")
    return np.unique(bin_N, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True)
class RiskGroup:
    """One group of rows by risk: the range of its risks and what happened to it.

    `curve` is Kaplan-Meier survival, or the incidence of a cause among competing ones.
    """

    rows: int
    events: int
    lowest_risk: float
    highest_risk: float
    curve: StepCurve


def curves_by_risk(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    groups: int = 3,
    *,
    cause: int | None = None,
    level: float = 0.95,
) -> list[RiskGroup]:
    """Step curves of the groups (tertiles) of `risk` (N,), the lowest risk first.

    `time` (N,), `event` (N,). Without `cause` the curves are Kaplan-Meier survival; with one they
    are its cumulative incidence. Counts at risk at times of choice: `curve.at_risk_at`. Raises
    ValueError as `outcome_pair` and `quantile_groups`.
    """
    time_N, event_N = outcome_pair(time, event, cause or 1)
    risk_N = risk_column(risk, time_N.size)
    group_N = quantile_groups(risk_N, groups)
    found: list[RiskGroup] = []
    for group in np.unique(group_N):
        rows = group_N == group
        if cause is None:
            curve = kaplan_meier(time_N[rows], event_N[rows], level)
        else:
            curve = aalen_johansen(time_N[rows], event_N[rows], cause, level)
        low, high = float(risk_N[rows].min()), float(risk_N[rows].max())
        found.append(RiskGroup(int(rows.sum()), int(curve.events.sum()), low, high, curve))
    return found


@dataclass(frozen=True, slots=True)
class LogRank:
    """The log-rank test: chi-square statistic, degrees of freedom and p; NaN where undefined."""

    statistic: float
    degrees: int
    p: float


def logrank_test(
    time: ArrayLike, event: ArrayLike, group: ArrayLike, cause: int | None = None
) -> LogRank:
    """Test of equal hazards in the groups (N,) of rows, strings or integers.

    `time` (N,), `event` (N,). With `cause`, of the hazards of that cause, competing events counting
    as censored. A group in which no event is expected is left out. NaN with fewer than two groups,
    or where the statistic has no variance. Raises ValueError as `outcome_pair`, and for missing
    groups or unequal lengths. Source: Peto & Peto, J. R. Stat. Soc. A 1972;135:185.
    """
    time_N, event_N = outcome_pair(time, event, cause or 1)
    group_N = identifier_codes(group, "group")
    if group_N.size != time_N.size:
        raise ValueError(f"group must have one value a row, {time_N.size}, got {group_N.size}")
    happened_N = event_N > 0 if cause is None else event_N == cause
    if not happened_N.any():
        return LogRank(math.nan, 0, math.nan)
    excess_G, variance_GG, expected_G = _excess(time_N, happened_N, group_N)
    kept = np.flatnonzero(expected_G > 0.0)[1:]  # the last one follows from the others
    if kept.size == 0 or np.linalg.matrix_rank(variance_GG[np.ix_(kept, kept)]) < kept.size:
        return LogRank(math.nan, kept.size, math.nan)
    solved = np.linalg.solve(variance_GG[np.ix_(kept, kept)], excess_G[kept])
    statistic = float(excess_G[kept] @ solved)
    return LogRank(statistic, kept.size, float(chdtrc(kept.size, statistic)))


def _excess(time_N: Floats, happened_N: np.ndarray, group_N: Ints) -> tuple[Floats, Floats, Floats]:
    """Observed less expected events (G,), their covariance (G, G), and the expected (G,)."""
    time_U = np.unique(time_N[happened_N])
    groups = int(group_N.max()) + 1
    at_risk_GU = np.empty((groups, time_U.size))
    events_GU = np.empty((groups, time_U.size))
    for code in range(groups):
        times = np.sort(time_N[group_N == code])
        at_risk_GU[code] = times.size - np.searchsorted(times, time_U, side="left")
        ended = np.searchsorted(time_U, time_N[(group_N == code) & happened_N])
        events_GU[code] = np.bincount(ended, minlength=time_U.size)
    n_U, d_U = at_risk_GU.sum(axis=0), events_GU.sum(axis=0)
    share_GU = at_risk_GU / n_U
    expected_G = (share_GU * d_U).sum(axis=1)
    # The hypergeometric variance; the last row alone has none.
    scale_U = d_U * np.divide(n_U - d_U, n_U - 1.0, out=np.zeros_like(n_U), where=n_U > 1.0)
    variance_GG = np.diag((share_GU * scale_U).sum(axis=1)) - (share_GU * scale_U) @ share_GU.T
    return events_GU.sum(axis=1) - expected_G, variance_GG, expected_G
