"""Discrete-time hazards of competing causes: from logits to cumulative incidence.

Time after a prediction is cut into K intervals by K + 1 edges, the first of them 0. In interval k
an item still at risk meets cause c with probability exp(z_kc) / (1 + sum_c exp(z_kc)): with one
cause a logistic hazard (Tutz & Schmid 2016, sections 3.1 and 8.1).
Shapes: B items, K intervals, C causes, T = K + 1 edges, H horizons.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def incidence(logits_BKC: Array) -> Array:
    """Cumulative incidence of every cause at every edge: (B, C, T) float64, 0 at the first.

    NaN logits give NaN from their interval on.
    """
    z_BKC = np.asarray(logits_BKC, np.float64)
    top_BK1 = np.maximum(z_BKC.max(axis=2, keepdims=True), 0)
    odds_BKC = np.exp(z_BKC - top_BK1)
    none_BK1 = np.exp(-top_BK1)
    total_BK1 = odds_BKC.sum(axis=2, keepdims=True) + none_BK1
    stay_BK = (none_BK1 / total_BK1)[..., 0]
    before_BK = np.concatenate([np.ones((len(z_BKC), 1)), np.cumprod(stay_BK, axis=1)[:, :-1]], 1)
    step_BKC = before_BK[..., None] * odds_BKC / total_BK1
    curve_BKC = np.cumsum(step_BKC, axis=1)
    start_B1C = np.zeros((len(z_BKC), 1, z_BKC.shape[2]))
    return np.concatenate([start_B1C, curve_BKC], axis=1).transpose(0, 2, 1)


def at(curves: Array, edges_T: ArrayLike, times_H: Sequence[float] | Array) -> Array:
    """Risk (..., T) at other times (..., H): linear between edges, constant past the last."""
    edges = np.asarray(edges_T, np.float64)
    times = np.clip(np.asarray(times_H, np.float64), edges[0], edges[-1])
    right = np.clip(np.searchsorted(edges, times), 1, len(edges) - 1)
    share = (times - edges[right - 1]) / (edges[right] - edges[right - 1])
    values = np.asarray(curves, np.float64)
    found = values[..., right - 1] * (1 - share) + values[..., right] * share
    return np.clip(found, 0.0, 1.0)  # sums of many shares end a last bit above 1


def edges_of(days_N: Array, happened_N: Array, intervals: int, weights_N: Array) -> Array:
    """Edges (T,) of at most `intervals` intervals that hold like shares of the outcomes.

    Quantiles of the times at which an outcome happened, from 0 to the end of all follow-up, so that
    every interval has something to learn from. Raises ValueError when nothing happened.
    """
    happened = np.asarray(happened_N, bool)
    if not happened.any():
        raise ValueError("no outcome has happened")
    days, weights = np.asarray(days_N, np.float64), np.asarray(weights_N, np.float64)
    order = np.argsort(days[happened], kind="stable")
    ordered, share = days[happened][order], np.cumsum(weights[happened][order])
    wanted = np.arange(1, intervals) / intervals * share[-1]
    inner = ordered[np.minimum(np.searchsorted(share, wanted), len(ordered) - 1)]
    return np.unique(np.concatenate([[0.0], inner, [days.max()]]))
