"""Does a row with the event by t score above one without it: cumulative/dynamic AUC.

Owns the weights of cases and controls at a time; the area is `discrimination.weighted_auroc`.

Shapes: N rows, K times.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from medray.metrics.discrimination import weighted_auroc
from medray.metrics.interval import Floats, Ints, finite
from medray.metrics.survival.inputs import outcome_pair, time_points
from medray.metrics.survival.km import Censoring, aalen_johansen


def dynamic_auc(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    times: ArrayLike,
    *,
    censoring: Censoring,
    cause: int = 1,
) -> Floats:
    """AUC (K,) at `times` (K,): cases had an event of `cause` by then, controls are known not to.

    `time` (N,), `event` (N,); `risk` (N,), or (N, K) where it depends on the time. Controls are
    rows followed past t, and rows with a competing event by t, known non-events. A case and a
    competing row weigh 1 / G at their own time, rows followed past t 1 / G(t); rows censored by t
    weigh nothing. NaN at a time without cases or controls, or where a weight needs G past its last
    time or where it is 0. Raises ValueError as `outcome_pair`, for risks that are not finite or of
    another shape, and for times that do not rise. Sources: Uno et al., JASA 2007;102:527; Hung &
    Chiang, Can. J. Stat. 2010;38:8; Blanche, Dartigues & Jacqmin-Gadda, Stat. Med. 2013;32:5381
    (of its two kinds of controls, the one with competing events).
    """
    time_N, event_N = outcome_pair(time, event, cause)
    times_K = time_points(times)
    risk_NK = _columns(risk, time_N.size, times_K.size)
    areas = [
        _area(time_N, event_N, risk_NK[:, k], float(t), censoring, cause)
        for k, t in enumerate(times_K)
    ]
    return np.array(areas)


def mean_dynamic_auc(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    times: ArrayLike,
    *,
    censoring: Censoring,
    cause: int = 1,
) -> float:
    """Mean of the AUC over `times` (K,), each weighted by the events since the one before it.

    Inputs and errors as `dynamic_auc`. The weights are the increments of the incidence of `cause`
    in these rows (with one cause, the falls of Kaplan-Meier). A time without new events has no
    weight; an undefined AUC that has weight makes the mean NaN, as do no events at all.
    Source: Lambert & Chevret, Stat. Methods Med. Res. 2016;25:2088.
    """
    area_K = dynamic_auc(time, event, risk, times, censoring=censoring, cause=cause)
    incidence_K = aalen_johansen(time, event, cause).at(times)
    if not incidence_K[-1] > 0.0:
        return math.nan
    new_K = np.diff(incidence_K, prepend=0.0)
    used_K = new_K != 0.0
    return float((area_K[used_K] * new_K[used_K]).sum() / incidence_K[-1])


def _area(
    time_N: Floats, event_N: Ints, risk_N: Floats, t: float, censoring: Censoring, cause: int
) -> float:
    by_then_N = time_N <= t
    case_N = by_then_N & (event_N == cause)
    competing_N = by_then_N & (event_N > 0) & ~case_N
    weight_N = np.zeros(time_N.size)
    known_N = case_N | competing_N
    weight_N[known_N] = censoring.weight(time_N[known_N])
    # Without competing rows all controls weigh the same, which cancels: G(t) need not exist.
    weight_N[~by_then_N] = censoring.weight([t])[0] if competing_N.any() else 1.0
    if np.isnan(weight_N).any():
        return math.nan
    return float(weighted_auroc(case_N, risk_N, weight_N[None, :])[0])


def _columns(risk: ArrayLike, rows: int, times: int) -> Floats:
    """Risks (N, K), one column repeated where the risk is the same at all times."""
    if np.ndim(risk) == 1:
        risk_N = finite(risk, "risk")
        risk_NK = np.broadcast_to(risk_N[:, None], (risk_N.size, times))
    else:
        risk_NK = finite(risk, "risk", ndim=2)
    if risk_NK.shape != (rows, times):
        raise ValueError(f"risk must be ({rows},) or ({rows}, {times}), got {np.shape(risk)}")
    return risk_NK
