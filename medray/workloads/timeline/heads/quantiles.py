"""What a measured value will be at horizons: quantiles of each.

The network answers in standard deviations of the code's values in `train`, after a logarithm where
they are skewed. Shapes: B items, H horizons, Q quantiles. Observed (B, H), in the source's units.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medray.errors import DataError, UsageError
from medray.records import tasks
from medray.records.scale import Scale
from medray.records.steps import Channel, Vocabulary
from medray.records.tokens import NONE, token
from medray.workload import Columns, Monitor, Target
from medray.workloads.timeline import carried
from medray.workloads.timeline.heads.head import Array, Head, counted
from medray.workloads.timeline.params import TimelineFitted, TimelineParams


def _observe(items: Columns, patients: Columns, params: TimelineParams) -> Array:
    if params.measure is None:  # which the params do not let pass
        raise DataError("a forecast needs `params.measure`")
    return tasks.measured(items, patients, params.measure, params.horizons_days)


def _sums(observed: Array) -> Mapping[str, Any]:
    known = np.isfinite(observed)
    return counted(int(known.any(axis=1).sum()), int(known.sum()))


def _learn(
    sums: Mapping[str, Any], vocabulary: Vocabulary, params: TimelineParams
) -> tuple[float, ...]:
    if not sums["positives"]:
        raise DataError(
            f"no item of `train` has a value of {params.target!r} near a horizon",
            remedy="check `params.measure`, its `tolerance_days`, and `horizons_days`",
        )
    if _channel(vocabulary, params) is None:
        raise DataError(
            f"{params.target!r} is not among the numeric codes of `train`",
            remedy="check its name, `params.min_patients` and `params.channels`",
        )
    return ()


def _channel(vocabulary: Vocabulary, params: TimelineParams) -> Channel | None:
    wanted = (token(params.target), NONE)
    return next((one for one in vocabulary.timed if (one.code, one.text) == wanted), None)


def _target(params: TimelineParams, fitted: TimelineFitted) -> Target:
    channel = _channel(fitted.vocabulary, params) or Channel(code=token(params.target))
    return Target(
        params.target,
        "quantiles",
        horizons_days=params.horizons_days,
        levels=params.quantiles,
        scale=Scale(transform=channel.transform, mean=channel.mean, std=channel.std),
    )


def _answer(output_BO: Tensor, params: TimelineParams) -> Tensor:
    """Quantiles that do not cross: the lowest, and what every next one lies above it."""
    output_BHQ = output_BO.reshape(len(output_BO), len(params.horizons_days), -1)
    rise_BHQ = functional.softplus(output_BHQ[..., 1:])
    return torch.cat([output_BHQ[..., :1], rise_BHQ], dim=2).cumsum(dim=2)


def _pinball(
    answer_BHQ: Tensor, observed_BH: Tensor, params: TimelineParams, fitted: TimelineFitted
) -> Tensor:
    """Mean quantile loss of the values that are known; 0 when none is."""
    scale = _target(params, fitted).scale
    value_BH = observed_BH.clamp_min(0).log1p() if scale.transform == "log" else observed_BH
    value_BH = (value_BH - scale.mean) / scale.std
    known_BH = torch.isfinite(value_BH)
    gap_BHQ = torch.where(known_BH, value_BH, 0.0)[..., None] - answer_BHQ
    level_Q = torch.tensor(params.quantiles, device=answer_BHQ.device)
    loss_BHQ = torch.maximum(level_Q * gap_BHQ, (level_Q - 1) * gap_BHQ) * known_BH[..., None]
    return loss_BHQ.sum() / (known_BH.sum() * len(params.quantiles)).clamp_min(1)


def _loss(
    output_BO: Tensor, observed_BH: Tensor, params: TimelineParams, fitted: TimelineFitted
) -> Tensor:
    return _pinball(_answer(output_BO, params), observed_BH, params, fitted)


def _measure(
    logits_BHQ: Array, observed: Array, params: TimelineParams, fitted: TimelineFitted
) -> Mapping[str, float]:
    answer = torch.from_numpy(np.asarray(logits_BHQ, np.float32))
    if not np.isfinite(observed).any() or not bool(torch.isfinite(answer).all()):
        return {"loss": float("nan")}
    observed_BH = torch.from_numpy(np.asarray(observed, np.float32))
    return {"loss": float(_pinball(answer, observed_BH, params, fitted))}


def _log_odds(answer_BHQ: Tensor, params: TimelineParams, fitted: TimelineFitted) -> Tensor:
    raise UsageError(
        "a forecast is a value, not a risk: it is not explained yet",
        remedy="explain a package of the tasks event_within, time_to_event or recurrence",
    )


QUANTILES = Head(
    observe=_observe,
    sums=_sums,
    learn=_learn,
    outputs=lambda params, fitted: len(params.horizons_days) * len(params.quantiles),
    target=_target,
    answer=_answer,
    loss=_loss,
    measure=_measure,
    monitor=Monitor("loss", "min"),
    log_odds=_log_odds,
    baselines=carried.quantiles,
)
