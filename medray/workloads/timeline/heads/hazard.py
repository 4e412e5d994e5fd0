"""When one of several outcomes happens: hazards in intervals of time.

Shapes: B items, K intervals, C competing causes. Observed (B, 2): cause and days.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medray.calibration.hazards import edges_of
from medray.errors import DataError
from medray.models.hazard import log_odds_by, negative_log_likelihood
from medray.records import tasks
from medray.records.steps import Vocabulary
from medray.records.tasks import OutcomeSpec
from medray.workload import Columns, Monitor, Target
from medray.workloads.timeline import cox
from medray.workloads.timeline.heads.head import Array, Head
from medray.workloads.timeline.params import TimelineFitted, TimelineParams


def _observe(items: Columns, patients: Columns, params: TimelineParams) -> Array:
    observed = tasks.observe(items, patients, params.outcome or OutcomeSpec())
    return np.stack([observed.cause, observed.days], axis=1)


def _sums(observed: Array) -> Mapping[str, Any]:
    cause_B, days_B = observed[:, 0], observed[:, 1]
    known = np.isfinite(cause_B) & np.isfinite(days_B)
    happened = cause_B[known] > 0
    keys = np.stack([_three_digits(days_B[known]), happened.astype(np.float64)])
    distinct, counts = np.unique(keys, axis=1, return_counts=True)
    return {
        "rows": int(known.sum()),
        "positives": int(happened.sum()),
        "days": distinct[0].tolist(),
        "happened": (distinct[1] > 0).tolist(),
        "counts": counts.tolist(),
    }


def _three_digits(days: Array) -> Array:
    """Round up in the third digit, so that what is kept of all times does not grow with them."""
    size = 10.0 ** (np.floor(np.log10(np.maximum(days, 1e-6))) - 2)
    return np.ceil(days / size) * size


def _learn(
    sums: Mapping[str, Any], vocabulary: Vocabulary, params: TimelineParams
) -> tuple[float, ...]:
    if not sums["positives"]:
        raise DataError(
            f"the outcome happens in none of {sums['rows']} items of `train`",
            remedy="check `params.outcome` and the split",
        )
    edges = edges_of(
        np.array(sums["days"]),
        np.array(sums["happened"], bool),
        params.intervals,
        np.array(sums["counts"]),
    )
    if params.horizons_days[-1] > edges[-1]:
        raise DataError(
            f"nobody in `train` was followed up for {params.horizons_days[-1]:g} days: the longest "
            f"is {edges[-1]:.0f}",
            remedy="lower `params.horizons_days`",
        )
    return tuple(edges.tolist())


def _target(params: TimelineParams, fitted: TimelineFitted) -> Target:
    return Target(
        params.target,
        "survival",
        classes=params.causes,
        edges_days=fitted.edges_days,
        horizons_days=params.horizons_days,
    )


def _answer(output_BO: Tensor, params: TimelineParams) -> Tensor:
    return output_BO.reshape(len(output_BO), -1, len(params.causes))


def _loss(
    output_BO: Tensor, observed_B2: Tensor, params: TimelineParams, fitted: TimelineFitted
) -> Tensor:
    """Mean negative log likelihood of the items whose outcome is known; 0 when none is."""
    edges = torch.tensor(fitted.edges_days, dtype=torch.float32, device=output_BO.device)
    cause_B, days_B = observed_B2[:, 0], observed_B2[:, 1]
    loss_B = negative_log_likelihood(_answer(output_BO, params), days_B, cause_B, edges)
    return loss_B.sum() / (~torch.isnan(observed_B2).any(dim=1)).sum().clamp_min(1)


def _measure(
    logits_BKC: Array, observed: Array, params: TimelineParams, fitted: TimelineFitted
) -> Mapping[str, float]:
    flat = torch.from_numpy(np.asarray(logits_BKC, np.float32)).flatten(1)
    known = np.isfinite(observed).all(axis=1)
    if not known.any() or not bool(torch.isfinite(flat).all()):
        return {"loss": float("nan")}
    observed_B2 = torch.from_numpy(np.asarray(observed, np.float32))
    return {"loss": float(_loss(flat, observed_B2, params, fitted))}


def _log_odds(logits_BKC: Tensor, params: TimelineParams, fitted: TimelineFitted) -> Tensor:
    """Of the first outcome, up to the last horizon."""
    return log_odds_by(logits_BKC, fitted.edges_days, params.horizons_days[-1])


HAZARD = Head(
    observe=_observe,
    sums=_sums,
    learn=_learn,
    outputs=lambda params, fitted: (len(fitted.edges_days) - 1) * len(params.causes),
    target=_target,
    answer=_answer,
    loss=_loss,
    measure=_measure,
    monitor=Monitor("loss", "min"),
    log_odds=_log_odds,
    baselines=cox.curves,
)
