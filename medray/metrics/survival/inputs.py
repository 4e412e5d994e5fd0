"""What every survival metric stands on: the checks of what comes in, and reading a step curve.

Knows no metric. Error messages never repeat a time, cause or prediction: they belong to patients.

Shapes: N rows, T grid times, K times asked for.
"""

import numpy as np
from numpy.typing import ArrayLike

from medray.metrics.interval import Floats, Ints, finite

# Sums in float32 pass 1, or fall, by as much; a survival curve passed as incidence falls by more.
_ROUNDING = 1e-5


def outcome_pair(time: ArrayLike, event: ArrayLike, cause: int = 1) -> tuple[Floats, Ints]:
    """Times (N,) and causes (N,), 0 where censored; booleans become 0 and 1.

    Raises ValueError for times that are not finite and above 0, causes that are no whole numbers
    from 0, unequal lengths, or a `cause` below 1.
    """
    time_N, event_N = finite(time, "time"), finite(event, "event")
    if time_N.shape != event_N.shape:
        raise ValueError(f"time and event differ in length: {time_N.size} and {event_N.size}")
    if np.any(time_N <= 0.0):
        raise ValueError("time must be above 0; leave out rows without follow-up first")
    if np.any((event_N < 0.0) | (event_N != np.floor(event_N))):
        raise ValueError("event must hold booleans, or 0 (censored) and causes 1, 2, …")
    if cause < 1:
        raise ValueError(f"cause must be at least 1, got {cause}")
    return time_N, event_N.astype(np.int64)


def risk_column(risk: ArrayLike, rows: int) -> Floats:
    """Risks (N,), higher meaning earlier; raises ValueError if not finite or of another length."""
    risk_N = finite(risk, "risk")
    if risk_N.size != rows:
        raise ValueError(f"risk must have one value a row, {rows}, got {risk_N.size}")
    return risk_N


def probability_column(risk: ArrayLike, rows: int) -> Floats:
    """Like `risk_column`, in [0, 1] but for rounding in float32, which is cut off.

    Raises ValueError otherwise.
    """
    return _probabilities(risk_column(risk, rows), "risk")


def time_points(times: ArrayLike, name: str = "times") -> Floats:
    """Times (K,) that are finite, at least 0 and strictly rising; raises ValueError otherwise."""
    times_K = finite(times, name)
    if times_K.size == 0:
        raise ValueError(f"{name} must hold at least one time")
    if times_K[0] < 0.0 or np.any(np.diff(times_K) <= 0.0):
        raise ValueError(f"{name} must be at least 0 and rise strictly")
    return times_K


def incidence_grid(incidence: ArrayLike, times: ArrayLike, rows: int) -> tuple[Floats, Floats]:
    """Cumulative incidence (N, T) in [0, 1] at `times` (T,), and those times.

    Rounding in float32 past 0 and 1 is cut off. Raises ValueError for another shape, values further
    outside, times that do not rise, or incidence that falls along them, as survival does.
    """
    times_T = time_points(times)
    incidence_NT = finite(incidence, "incidence", ndim=2)
    if incidence_NT.shape != (rows, times_T.size):
        expected = f"({rows}, {times_T.size})"
        raise ValueError(f"incidence must be {expected}, got shape {incidence_NT.shape}")
    incidence_NT = _probabilities(incidence_NT, "incidence")
    if np.any(np.diff(incidence_NT, axis=1) < -_ROUNDING):
        raise ValueError("incidence must not fall along times; of a survival curve pass 1 − it")
    return incidence_NT, times_T


def _probabilities(values: Floats, name: str) -> Floats:
    if np.any((values < -_ROUNDING) | (values > 1.0 + _ROUNDING)):
        raise ValueError(f"{name} must lie in [0, 1]")
    return np.clip(values, 0.0, 1.0)
