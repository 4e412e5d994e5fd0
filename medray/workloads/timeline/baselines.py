"""Simple models on summaries of the same events, so that nobody mistakes a network for progress.

Shapes: B items, T steps, V channels, S facts, F features.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medray.records.steps import Steps
from medray.workload import Columns, Rivals
from medray.workloads.timeline import tensors
from medray.workloads.timeline.params import TimelineFitted, TimelineParams

Array = NDArray[Any]


def probabilities(
    train: Columns, held_out: Columns, params: TimelineParams, fitted: TimelineFitted, seed: int
) -> Rivals:
    """Name → target → probability (B,) of the items of `held_out`, or why there is none."""
    outcome = np.asarray(train[tensors.OUTCOME], np.float64)
    known = np.isfinite(outcome)
    values = np.unique(outcome[known])
    if len(values) < 2:
        why = "one outcome only" if len(values) else "no known outcome"
        return dict.fromkeys(_models(seed), f"`train` has {why}")
    x_BF = window_features(train, params, fitted)[known]
    told_F = np.isfinite(x_BF).any(axis=0)  # a code that nobody had says nothing
    x_held_out_BF = window_features(held_out, params, fitted)
    found: dict[str, Mapping[str, Array]] = {}
    for name, model in _models(seed).items():
        model.fit(x_BF[:, told_F], outcome[known])
        found[name] = {params.target: model.predict_proba(x_held_out_BF[:, told_F])[:, 1]}
    return found


def _models(seed: int) -> Mapping[str, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "gradient boosting on window summaries": HistGradientBoostingClassifier(
            learning_rate=0.05, max_iter=200, l2_regularization=1.0, random_state=seed
        ),
        "logistic regression on window summaries": make_pipeline(
            SimpleImputer(), StandardScaler(), LogisticRegression(C=0.01, max_iter=2000)
        ),
    }


def window_features(columns: Columns, params: TimelineParams, fitted: TimelineFitted) -> Array:
    """Summaries of every history (B, F); NaN where a code was not observed."""
    return np.concatenate([summarize(p) for p in tensors.in_parts(columns, params, fitted)])


def summarize(steps: Steps) -> Array:
    """First, last, mean, standard deviation, least, greatest, count and age of the last value.

    Per channel, and the facts: (B, 8V + S + 2) float64.
    """
    seen_BTV, value_BTV = steps.observed, steps.values.astype(np.float64)
    count_BV = seen_BTV.sum(axis=1)
    there_BV = count_BV > 0
    least_BV = np.where(seen_BTV, value_BTV, np.inf).min(axis=1, initial=np.inf)
    greatest_BV = np.where(seen_BTV, value_BTV, -np.inf).max(axis=1, initial=-np.inf)
    divisor_BV = np.maximum(count_BV, 1)
    mean_BV = (value_BTV * seen_BTV).sum(axis=1) / divisor_BV
    square_BV = (value_BTV**2 * seen_BTV).sum(axis=1) / divisor_BV
    spread_BV = np.sqrt(np.maximum(square_BV - mean_BV**2, 0))
    first_BV = seen_BTV.argmax(axis=1)
    last_BV = seen_BTV.shape[1] - 1 - seen_BTV[:, ::-1].argmax(axis=1)
    at_first = np.take_along_axis(value_BTV, first_BV[:, None], axis=1)[:, 0]
    at_last = np.take_along_axis(value_BTV, last_BV[:, None], axis=1)[:, 0]
    hours_BTV = np.broadcast_to(steps.hours[:, :, None], value_BTV.shape)
    age_BV = np.take_along_axis(hours_BTV, last_BV[:, None], axis=1)[:, 0]
    per_channel = [at_first, at_last, mean_BV, spread_BV, least_BV, greatest_BV, age_BV]
    hidden = [np.where(there_BV, values, np.nan) for values in per_channel]
    facts_BS = np.where(steps.static_known, steps.static, np.nan)
    whole_B2 = np.stack([steps.lengths, steps.hours.max(axis=1, initial=0)], axis=1)
    return np.concatenate([*hidden, count_BV, facts_BS, whole_B2], axis=1).astype(np.float64)
