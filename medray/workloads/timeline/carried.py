"""Carrying the last value forward: what a forecast must be compared with.

Shapes: B items, H horizons, Q quantiles.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medray.records.tokens import token
from medray.workload import Columns, Rivals
from medray.workloads.timeline import baselines, tensors
from medray.workloads.timeline.params import TimelineFitted, TimelineParams

Array = NDArray[Any]


def quantiles(
    train: Columns, held_out: Columns, params: TimelineParams, fitted: TimelineFitted, seed: int
) -> Rivals:
    """Name → target → quantiles (B, H, Q) of the items of `held_out`, in the source's units.

    Carried forward, the last value is the median; around it lie the quantiles of what values did
    from there in `train`, as ratios where none is negative. NaN before a first value.
    """
    observed = np.asarray(train[tensors.OUTCOME], np.float64)
    last_B, asked_B = (_last(columns, params) for columns in (train, held_out))
    positive = bool(np.nanmin(np.concatenate([last_B, observed.ravel()])) > 0)
    found = np.full((len(asked_B), observed.shape[1], len(params.quantiles)), np.nan)
    for horizon in range(observed.shape[1]):
        moved_B = observed[:, horizon] / last_B if positive else observed[:, horizon] - last_B
        moves = np.nanquantile(moved_B, params.quantiles) if np.isfinite(moved_B).any() else np.nan
        spread = asked_B[:, None] * moves if positive else asked_B[:, None] + moves
        middle = params.quantiles.index(0.5)
        found[:, horizon, :middle] = np.minimum(spread[:, :middle], asked_B[:, None])
        found[:, horizon, middle:] = np.maximum(spread[:, middle:], asked_B[:, None])
        found[:, horizon, middle] = asked_B
    boosted = _boosted(train, held_out, params, fitted, seed)
    name = "gradient boosting on window summaries"
    return {
        "last value carried forward": {params.target: found},
        name: {params.target: boosted},
    }


def _last(columns: Columns, params: TimelineParams) -> Array:
    """Last value of the code before every prediction (B,); NaN where there is none."""
    wanted = token(params.target)
    found = np.full(len(columns["prediction_time"]), np.nan)
    for row, (codes, values) in enumerate(
        zip(columns["event_code"], columns["event_value"], strict=True)
    ):
        there = np.flatnonzero((codes == wanted) & ~np.isnan(values))
        if len(there):
            found[row] = values[there[-1]]
    return found


def _boosted(
    train: Columns, held_out: Columns, params: TimelineParams, fitted: TimelineFitted, seed: int
) -> Array:
    """Quantiles (B, H, Q) of gradient boosting, one model each."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    observed = np.asarray(train[tensors.OUTCOME], np.float64)
    x_BF = baselines.window_features(train, params, fitted)
    asked_BF = baselines.window_features(held_out, params, fitted)
    found = np.full((len(asked_BF), observed.shape[1], len(params.quantiles)), np.nan)
    for horizon in range(observed.shape[1]):
        y_B = observed[:, horizon]
        known = np.isfinite(y_B)
        if known.sum() < 2:
            continue
        for index, level in enumerate(params.quantiles):
            model = HistGradientBoostingRegressor(
                loss="quantile", quantile=level, max_iter=100, learning_rate=0.05, random_state=seed
            )
            model.fit(x_BF[known], y_B[known])
            found[:, horizon, index] = model.predict(asked_BF)
    return np.sort(found, axis=2)
