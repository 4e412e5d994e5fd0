"""What happened, without a model: survival, incidence and censoring as step curves.

Owns the product-limit estimates and their pointwise intervals. Rows are taken as independent.

Shapes: N rows, U distinct observed times, K times asked for.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from medray.metrics.interval import Floats, Interval, Ints, critical_value, finite
from medray.metrics.survival.inputs import outcome_pair

_NOTHING = 1e-12


@dataclass(frozen=True, slots=True)
class StepCurve:
    """A right-continuous curve: `estimate[u]` holds from `time[u]` until the next time.

    `time` (U,) rising, all observed times, censored ones included. `at_risk` counts rows up to and
    including that time; `events` and `censored` those that ended at it, `events` being of the cause
    of the curve. `std_error` is Greenwood's; `low` and `high` are the bounds at `level`, NaN where
    the transform has no value (an estimate of 0 or 1). `start` is the value before the first time.
    `complete` says that nobody was left, so that the curve is known for ever; otherwise it is
    unknown (NaN) past its last time.
    """

    time: Floats
    at_risk: Ints
    events: Ints
    censored: Ints
    estimate: Floats
    std_error: Floats
    low: Floats
    high: Floats
    level: float
    start: float
    complete: bool
    method: str

    def at(self, times: ArrayLike) -> Floats:
        """Value (K,) at times (K,); NaN where unknown. Raises ValueError for NaN times."""
        return self._read(self.estimate, self.start, finite(times, "times"))

    def at_risk_at(self, times: ArrayLike) -> Ints:
        """Rows (K,) still under observation just before each time (K,)."""
        counts_U = np.concatenate([self.at_risk, [0]])
        return counts_U[np.searchsorted(self.time, finite(times, "times"), side="left")]

    def interval_at(self, time: float) -> Interval:
        """Value at one time with its pointwise interval; NaN where unknown."""
        times_K = finite([time], "time")
        low = self._read(self.low, math.nan, times_K)
        high = self._read(self.high, math.nan, times_K)
        value = float(self.at(times_K)[0])
        return Interval(value, float(low[0]), float(high[0]), self.level, self.method)

    def _read(self, values_U: Floats, start: float, times_K: Floats) -> Floats:
        if self.time.size == 0:
            return np.full(times_K.shape, np.nan)
        step_K = np.searchsorted(self.time, times_K, side="right")
        read_K = np.concatenate([[start], values_U])[step_K]
        return np.where((times_K > self.time[-1]) & (not self.complete), np.nan, read_K)


@dataclass(frozen=True, slots=True)
class Censoring:
    """Probability `free` (U,) of not being censored up to and including `time` (U,), rising."""

    time: Floats
    free: Floats

    @property
    def last(self) -> float:
        """Last time up to which weights exist: no `tau` or horizon may lie past it."""
        positive = self.time[self.free > 0.0]
        return float(positive[-1]) if positive.size else math.nan

    def at(self, times: ArrayLike) -> Floats:
        """G (K,) at times (K,): 1 before the first, NaN past the last unless it fell to 0."""
        times_K = finite(times, "times")
        if self.time.size == 0:
            return np.full(times_K.shape, np.nan)
        step_K = np.searchsorted(self.time, times_K, side="right")
        past_K = (times_K > self.time[-1]) & (self.free[-1] > 0.0)
        return np.where(past_K, np.nan, np.concatenate([[1.0], self.free])[step_K])

    def weight(self, times: ArrayLike) -> Floats:
        """1 / G (K,) at times (K,); NaN where G is 0 or unknown."""
        free_K = self.at(times)
        return np.divide(1.0, free_K, out=np.full_like(free_K, np.nan), where=free_K > 0.0)


@dataclass(frozen=True, slots=True)
class _Counts:
    """Rows by distinct time: all arrays (U,)."""

    time: Floats
    at_risk: Ints
    events: Ints
    of_cause: Ints
    censored: Ints


def kaplan_meier(time: ArrayLike, event: ArrayLike, level: float = 0.95) -> StepCurve:
    """Survival curve of `time` (N,) and `event` (N,), every cause counting as the event.

    Censored rows are at risk up to and including their time. The pointwise interval is Greenwood's
    on the scale of log(−log S). Raises ValueError as `outcome_pair` does, and for a level outside
    (0, 1). Sources: Kaplan & Meier, JASA 1958;53:457; Kalbfleisch & Prentice 2002, §1.4.
    """
    z = critical_value(level)
    counts = _counts(*outcome_pair(time, event), cause=None)
    survival_U, variance_U = _product_limit(counts.events, counts.at_risk)
    low_U, high_U = _log_log_bounds(survival_U, np.sqrt(variance_U), z)
    return StepCurve(
        time=counts.time,
        at_risk=counts.at_risk,
        events=counts.events,
        censored=counts.censored,
        estimate=survival_U,
        std_error=np.sqrt(variance_U),
        low=low_U,
        high=high_U,
        level=level,
        start=1.0,
        complete=survival_U.size > 0 and survival_U[-1] == 0.0,
        method="kaplan-meier-log-log",
    )


def censoring_distribution(time: ArrayLike, event: ArrayLike) -> Censoring:
    """Kaplan-Meier estimate of the censoring of `time` (N,), `event` (N,) of every cause.

    At a tie the events come first: they leave the risk set before the censored rows of that time
    are counted, and G(t) includes the censorings at t, as in scikit-survival. Raises ValueError as
    `outcome_pair` does, and without rows. Source: Gerds & Schumacher, Biom. J. 2006;48:1029.
    """
    counts = _counts(*outcome_pair(time, event), cause=None)
    if counts.time.size == 0:
        raise ValueError("a censoring distribution needs at least one row")
    free_U, _ = _product_limit(counts.censored, counts.at_risk - counts.events)
    return Censoring(counts.time, free_U)


def aalen_johansen(
    time: ArrayLike, event: ArrayLike, cause: int = 1, level: float = 0.95
) -> StepCurve:
    """Cumulative incidence of `cause` beside its competitors; `time` (N,), `event` (N,) causes.

    With one cause this is 1 − Kaplan-Meier, interval included: the variance is the delta method's,
    which then is Greenwood's, and the bounds are taken on the scale of log(−log(1 − F)). Raises
    ValueError as `kaplan_meier` does. Sources: Aalen & Johansen, Scand. J. Stat. 1978;5:141;
    Allignol, Schumacher & Beyersmann, Biom. J. 2010;52:126 (variance of Greenwood's type).
    """
    z = critical_value(level)
    counts = _counts(*outcome_pair(time, event, cause), cause=cause)
    survival_U, _ = _product_limit(counts.events, counts.at_risk)
    before_U = np.concatenate([[1.0], survival_U])[: survival_U.size]
    incidence_U = np.cumsum(before_U * counts.of_cause / counts.at_risk)
    # A sum that ends at 1 may miss it by rounding; no share of rows lies that close.
    incidence_U[incidence_U > 1.0 - 1e-12] = 1.0
    error_U = np.sqrt(_incidence_variance(counts, before_U, incidence_U))
    low_U, high_U = _log_log_bounds(1.0 - incidence_U, error_U, z)
    return StepCurve(
        time=counts.time,
        at_risk=counts.at_risk,
        events=counts.of_cause,
        censored=counts.censored,
        estimate=incidence_U,
        std_error=error_U,
        low=1.0 - high_U,
        high=1.0 - low_U,
        level=level,
        start=0.0,
        complete=survival_U.size > 0 and survival_U[-1] == 0.0,
        method="aalen-johansen-log-log",
    )


def _counts(time_N: Floats, event_N: Ints, *, cause: int | None) -> _Counts:
    """Count rows by distinct time; without a `cause`, every event is of the cause."""
    time_U, step_N = np.unique(time_N, return_inverse=True)
    size = time_U.size
    ended_U = np.bincount(step_N, minlength=size)
    happened_N = event_N > 0
    of_cause_N = happened_N if cause is None else event_N == cause
    events_U = np.bincount(step_N[happened_N], minlength=size).astype(np.int64)
    return _Counts(
        time=time_U,
        at_risk=(time_N.size - np.cumsum(ended_U) + ended_U).astype(np.int64),
        events=events_U,
        of_cause=np.bincount(step_N[of_cause_N], minlength=size).astype(np.int64),
        censored=(ended_U - events_U).astype(np.int64),
    )


def _product_limit(ended_U: Ints, at_risk_U: Ints) -> tuple[Floats, Floats]:
    """Product-limit estimate and its Greenwood variance (U,), the variance NaN at an estimate of 0.

    With nobody at risk nothing can end: the step is then 1.
    """
    left_U = (at_risk_U - ended_U).astype(np.float64)
    share_U = np.divide(left_U, at_risk_U, out=np.ones_like(left_U), where=at_risk_U > 0)
    estimate_U: Floats = np.cumprod(share_U, dtype=np.float64)
    term_U = np.divide(
        ended_U, at_risk_U * left_U, out=np.zeros_like(left_U), where=at_risk_U * left_U > 0.0
    )
    variance_U = np.where(estimate_U > 0.0, estimate_U**2 * np.cumsum(term_U), np.nan)
    return estimate_U, variance_U


def _incidence_variance(counts: _Counts, before_U: Floats, incidence_U: Floats) -> Floats:
    """Variance (U,) of Greenwood's type; each sum over earlier times is opened into running sums.

    Σ (F(t) − F(tⱼ))² dⱼ / nⱼ(nⱼ − dⱼ) + Σ S(tⱼ₋₁)² d₁ⱼ (nⱼ − d₁ⱼ) / nⱼ³
    − 2 Σ (F(t) − F(tⱼ)) S(tⱼ₋₁) d₁ⱼ / nⱼ², over tⱼ ≤ t, d₁ counting the cause's events.
    """
    n_U = counts.at_risk.astype(np.float64)
    left_U = n_U - counts.events
    # Where nobody is left, no later increment multiplies the term, and its own factor is 0.
    hazard_U = np.divide(
        counts.events, n_U * left_U, out=np.zeros_like(n_U), where=n_U * left_U > 0.0
    )
    own_U = before_U**2 * counts.of_cause * (n_U - counts.of_cause) / n_U**3
    cross_U = before_U * counts.of_cause / n_U**2
    square_U = (
        incidence_U**2 * np.cumsum(hazard_U)
        - 2.0 * incidence_U * np.cumsum(hazard_U * incidence_U)
        + np.cumsum(hazard_U * incidence_U**2)
    )
    mixed_U = incidence_U * np.cumsum(cross_U) - np.cumsum(cross_U * incidence_U)
    variance_U: Floats = square_U + np.cumsum(own_U) - 2.0 * mixed_U
    return np.maximum(variance_U, 0.0)


def _log_log_bounds(survival_U: Floats, error_U: Floats, z: float) -> tuple[Floats, Floats]:
    """Bounds S^exp(±z σ / (S log S)) (U,), NaN where S is 0 or 1."""
    # a survival that sums of shares leave a last bit above 0, or below 1, is 0 or 1
    inside_U = (survival_U > _NOTHING) & (survival_U < 1.0 - _NOTHING)
    s_U = np.where(inside_U, survival_U, 0.5)
    half_U = z * np.where(inside_U, error_U, 0.0) / (s_U * np.abs(np.log(s_U)))
    low_U = np.where(inside_U, s_U ** np.exp(half_U), np.nan)
    return low_U, np.where(inside_U, s_U ** np.exp(-half_U), np.nan)
