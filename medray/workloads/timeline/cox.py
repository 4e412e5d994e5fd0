"""Cox regression on the last visit: what a survival network must be compared with.

One regression per competing cause, the others taken as lost; together they give cumulative
incidence (Prentice et al. 1978, Biometrics 34:541). Shapes: B items, C causes, T edges, F features.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medray.records.steps import carried_forward
from medray.workload import Columns, Rivals
from medray.workloads.timeline import tensors
from medray.workloads.timeline.params import TimelineFitted, TimelineParams

Array = NDArray[Any]

_NAME = "Cox on the last visit"
_RIDGE = 0.1


def curves(
    train: Columns, held_out: Columns, params: TimelineParams, fitted: TimelineFitted, seed: int
) -> Rivals:
    """Name → target → cumulative incidence (B, C, T) of the items of `held_out`; or why not."""
    from lifelines.exceptions import ConvergenceError

    observed = np.asarray(train[tensors.OUTCOME], np.float64)
    known = np.flatnonzero(np.isfinite(observed).all(axis=1))
    some = {name: values[known] for name, values in train.items()}
    x_BF, x_held_out_BF = (last_visit(c, params, fitted) for c in (some, held_out))
    varies = x_BF.std(axis=0) > 1e-6
    edges = np.array(fitted.edges_days)
    if not (observed[known, 0] > 0).any():
        return {_NAME: "nobody of `train` has the outcome"}
    try:
        hazards = [
            _hazards(x_BF[:, varies], observed[known], number, x_held_out_BF[:, varies], edges)
            for number in range(1, len(params.causes) + 1)
        ]
    except ConvergenceError:
        return {_NAME: "its fit did not converge"}
    return {_NAME: {params.target: incidence_of(np.stack(hazards, axis=1))}}


def _hazards(x_BF: Array, observed: Array, cause: int, asked_BF: Array, edges: Array) -> Array:
    """Cumulative hazard of one cause at every edge, (B, T); 0 for a cause that never came."""
    from lifelines import CoxPHFitter

    cause_B, days_B = observed[:, 0], observed[:, 1]
    if not (cause_B == cause).any():
        return np.zeros((len(asked_BF), len(edges)))
    names = [f"x{number}" for number in range(x_BF.shape[1])]
    frame = pd.DataFrame(x_BF, columns=names)  # pyright: ignore[reportArgumentType]
    frame["days"], frame["event"] = days_B, cause_B == cause
    model = CoxPHFitter(penalizer=_RIDGE)
    model.fit(frame, duration_col="days", event_col="event")
    asked = pd.DataFrame(asked_BF, columns=names)  # pyright: ignore[reportArgumentType]
    found = model.predict_cumulative_hazard(asked, times=edges[1:])
    return np.concatenate([np.zeros((len(asked_BF), 1)), found.to_numpy(np.float64).T], axis=1)


def incidence_of(hazard_BCT: Array) -> Array:
    """Cumulative incidence (B, C, T) from cumulative hazards: what is left at risk times the rise.

    Inside an interval the causes share what all of them together take.
    """
    rise_BCT = np.diff(hazard_BCT, axis=2)
    total_BT = rise_BCT.sum(axis=1)
    left_BT = np.exp(-np.concatenate([np.zeros((len(total_BT), 1)), total_BT.cumsum(axis=1)], 1))
    taken_BT = left_BT[:, :-1] - left_BT[:, 1:]
    share_BCT = rise_BCT / np.where(total_BT > 0, total_BT, 1.0)[:, None]
    steps = (share_BCT * taken_BT[:, None]).cumsum(axis=2)
    return np.concatenate([np.zeros((*steps.shape[:2], 1)), steps], axis=2)


def last_visit(columns: Columns, params: TimelineParams, fitted: TimelineFitted) -> Array:
    """Last value of every channel, every fact, and the time since the first event: (B, F).

    Standardised; the mean of `train` where nothing was observed.
    """
    parts: list[Array] = []
    for steps in tensors.in_parts(columns, params, fitted):
        value_BTV, _ = carried_forward(steps)
        last_BV = value_BTV[np.arange(len(value_BTV)), np.maximum(steps.lengths - 1, 0)]
        facts_BS = steps.static * steps.static_known
        years_B1 = steps.hours.max(axis=1, initial=0)[:, None] / (24 * 365.25)
        parts.append(np.concatenate([last_BV, facts_BS, years_B1], axis=1).astype(np.float64))
    return np.concatenate(parts)
