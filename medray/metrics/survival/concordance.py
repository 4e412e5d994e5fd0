"""Does the row that has the event first carry the higher risk: Harrell, Uno, Antolini.

Owns the counting of ordered pairs. A pair is (i, j): i had an event of `cause`, and j is known not
to have had it by then, either by follow-up past it (a censoring at the same time counts as past)
or by a competing event before or with it. Equal risks count one half; two events of `cause` at the
same time are no pair. Pairs are counted in whole and half numbers before any weight is applied, so
the order of rows changes no digit of a count.

Shapes: N rows, T grid times, E rows with an event.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from medray.metrics.interval import Floats, Ints
from medray.metrics.survival.inputs import incidence_grid, outcome_pair, risk_column
from medray.metrics.survival.km import Censoring

# Up to here all N² comparisons take less time than the passes over bits.
_FEW_ROWS = 200


def harrell_c(time: ArrayLike, event: ArrayLike, risk: ArrayLike, cause: int = 1) -> float:
    """Share of comparable pairs in which the earlier event has the higher `risk` (N,).

    `time` (N,), `event` (N,). It depends on the censoring: to compare data sets use `uno_c`. NaN
    without comparable pairs. O(N log² N). Raises ValueError as `outcome_pair`, and for risks that
    are not finite. Sources: Harrell, Lee & Mark, Stat. Med. 1996;15:361; Wolbers et al.,
    Epidemiology 2009;20:555 (competing causes).
    """
    time_N, event_N = outcome_pair(time, event, cause)
    risk_N = risk_column(risk, time_N.size)
    first_N = event_N == cause
    position_N = _never_after_competing(time_N, event_N, cause)
    pairs_N = _later(position_N)
    won_N = _outranked(position_N, risk_N, np.ones(time_N.size))
    return _ratio(won_N[first_N].sum(), pairs_N[first_N].sum())


def uno_c(
    time: ArrayLike,
    event: ArrayLike,
    risk: ArrayLike,
    *,
    censoring: Censoring,
    tau: float = math.inf,
    cause: int = 1,
) -> float:
    """Concordance of events before `tau`, weighted by the inverse probability of censoring.

    `time` (N,), `event` (N,), `risk` (N,). `censoring` comes from the training rows; a pair whose
    event came at t weighs 1 / G(t)², one with a competing event at s weighs 1 / (G(t) G(s)). NaN
    without comparable pairs, and where a pair needs G past its last time or where it is 0: choose
    `tau` at most `censoring.last`. Raises ValueError as `harrell_c`, and for a `tau` not above 0.
    Sources: Uno et al., Stat. Med. 2011;30:1105; Wolbers et al., Biostatistics 2014;15:526.
    """
    time_N, event_N = outcome_pair(time, event, cause)
    risk_N = risk_column(risk, time_N.size)
    if not tau > 0.0:
        raise ValueError("tau must be above 0")
    first_N = (event_N == cause) & (time_N < tau)
    weight_N = censoring.weight(time_N)
    position_N = _positions(time_N, event_N == 0)
    pairs_N = _later(position_N)
    won_N = _outranked(position_N, risk_N, np.ones(time_N.size))
    total, top = _weighted(first_N, weight_N, weight_N, pairs_N, won_N)
    competing_N = (event_N > 0) & (event_N != cause)
    if competing_N.any():
        # Backwards in time, each competing row just past the events that come with it or later.
        past_N = _positions(-time_N, competing_N)
        own_N = np.where(competing_N, weight_N, 0.0)
        known_N = np.nan_to_num(own_N)
        pairs_N = 2.0 * _outranked(past_N, np.zeros(time_N.size), known_N)
        won_N = _outranked(past_N, risk_N, known_N)
        if _reaches_unknown(time_N, first_N, own_N):
            return math.nan
        more, more_top = _weighted(first_N, weight_N, np.ones(time_N.size), pairs_N, won_N)
        total, top = total + more, top + more_top
    return _ratio(top, total)


def antolini_c(
    time: ArrayLike, event: ArrayLike, incidence: ArrayLike, times: ArrayLike, cause: int = 1
) -> float:
    """Concordance of predicted incidence (N, T) on a grid `times` (T,), read at each event's time.

    `time` (N,), `event` (N,). The pair (i, j) is won where F(tᵢ | xᵢ) > F(tᵢ | xⱼ); F is a step
    function, 0 before the first grid time. Events past the last grid time, where nothing is
    predicted, begin no pair. NaN without pairs. Raises ValueError as `outcome_pair` and
    `incidence_grid`. Source: Antolini, Boracchi & Biganzoli, Stat. Med. 2005;24:3927; ties and
    competing causes as in `harrell_c`.
    """
    time_N, event_N = outcome_pair(time, event, cause)
    incidence_NT, times_T = incidence_grid(incidence, times, time_N.size)
    position_N = _never_after_competing(time_N, event_N, cause)
    first_E = np.flatnonzero((event_N == cause) & (time_N <= times_T[-1]))
    step_E = np.searchsorted(times_T, time_N[first_E], side="right") - 1
    won = 0.0
    for step in np.unique(step_E):
        rows = first_E[step_E == step]
        column_N = incidence_NT[:, step] if step >= 0 else np.zeros(time_N.size)
        won += _won(rows, position_N, column_N)
    return _ratio(won, float(_later(position_N)[first_E].sum()))


def _positions(key_N: Floats, past_N: np.ndarray) -> Ints:
    """Rank (N,) of the keys, those `past` placed after the others of the same key."""
    rank_N = np.unique(key_N, return_inverse=True)[1]
    return (2 * rank_N + past_N).astype(np.int64)


def _never_after_competing(time_N: Floats, event_N: Ints, cause: int) -> Ints:
    """Positions (N,) in time, a competing event meaning that `cause` never comes."""
    first_N = event_N == cause
    never_N = (event_N > 0) & ~first_N
    return _positions(np.where(never_N, np.inf, time_N), ~first_N)


def _later(position_N: Ints) -> Floats:
    """How many rows have a later position than each row (N,)."""
    later_N = position_N.size - np.searchsorted(np.sort(position_N), position_N, side="right")
    return later_N.astype(np.float64)


def _outranked(position_N: Ints, risk_N: Floats, weight_N: Floats) -> Floats:
    """Weight (N,) of the later rows whose risk each row exceeds, equal risks one half.

    Positions of a pair first differ at exactly one bit; there the earlier row has 0, the later one
    1, and all higher bits agree. So for each bit: sort by (higher bits, risk), and run one sum over
    the later rows. O(N log N) a bit. A few rows are sooner compared one by one.
    """
    if position_N.size <= _FEW_ROWS:
        later_NN = position_N[None, :] > position_N[:, None]
        higher_NN, equal_NN = risk_N[:, None] > risk_N, risk_N[:, None] == risk_N
        return (later_NN * (higher_NN + 0.5 * equal_NN)) @ weight_N
    order_N = np.argsort(risk_N, kind="stable")
    position_N, weight_N = position_N[order_N], weight_N[order_N]
    rank_N = np.unique(risk_N, return_inverse=True)[1][order_N]
    total_N = np.zeros(order_N.size)
    for bit in range(int(position_N.max(initial=0)).bit_length()):
        block_N = position_N >> (bit + 1)
        sort_N = np.argsort(block_N, kind="stable")  # keeps the order of risk within a block
        block_N = block_N[sort_N]
        later_N = (position_N[sort_N] >> bit) & 1
        mass = np.concatenate([[0.0], np.cumsum(weight_N[sort_N] * later_N)])
        block_start_N, _ = _runs(np.diff(block_N) != 0)
        start_N, end_N = _runs((np.diff(block_N) != 0) | (np.diff(rank_N[sort_N]) != 0))
        below_N = 0.5 * (mass[start_N] + mass[end_N]) - mass[block_start_N]
        total_N[sort_N] += np.where(later_N == 0, below_N, 0.0)
    answer_N = np.empty_like(total_N)
    answer_N[order_N] = total_N
    return answer_N


def _runs(change: np.ndarray) -> tuple[Ints, Ints]:
    """First and one past the last index (N,) of each row's run; `change` (N − 1,) ends a run."""
    edges = np.flatnonzero(np.concatenate([[True], change, [True]]))
    run_N = np.concatenate([[0], np.cumsum(change)])
    return edges[run_N].astype(np.int64), edges[run_N + 1].astype(np.int64)


def _won(first_E: Ints, position_N: Ints, column_N: Floats) -> float:
    """Pairs that rows `first_E` win by the column's values, equal ones one half.

    Rows later than all of `first_E` are looked up in sorted order; those in between are few where
    the grid is fine.
    """
    start, end = position_N[first_E].min(), position_N[first_E].max()
    beyond = np.sort(column_N[position_N > end])
    value_E = column_N[first_E]
    below_E = np.searchsorted(beyond, value_E, "left") + np.searchsorted(beyond, value_E, "right")
    between = np.flatnonzero((position_N >= start) & (position_N <= end))
    own = _outranked(position_N[between] - start, column_N[between], np.ones(between.size))
    return 0.5 * float(below_E.sum()) + float(own[np.isin(between, first_E)].sum())


def _weighted(
    first_N: np.ndarray, weight_N: Floats, other_N: Floats, pairs_N: Floats, won_N: Floats
) -> tuple[float, float]:
    """All pairs and those won, each event's by its weights; only rows with a pair need a weight."""
    used_N = first_N & (pairs_N > 0.0)
    factor_N = (weight_N * other_N)[used_N]
    return float((factor_N * pairs_N[used_N]).sum()), float((factor_N * won_N[used_N]).sum())


def _reaches_unknown(time_N: Floats, first_N: np.ndarray, own_N: Floats) -> bool:
    """Whether an event comes with or after a competing row that has no weight."""
    unknown_N = np.isnan(own_N)
    if not unknown_N.any() or not first_N.any():
        return False
    return bool(time_N[first_N].max() >= time_N[unknown_N].min())


def _ratio(top: float, bottom: float) -> float:
    return float(top) / float(bottom) if bottom != 0.0 else math.nan
