"""Whether an outcome happens: one logit. Shapes: B items."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from medray.errors import DataError
from medray.metrics.discrimination import auroc
from medray.records import tasks
from medray.records.steps import Vocabulary
from medray.records.tasks import OutcomeSpec
from medray.workload import Columns, Monitor, Target
from medray.workloads.timeline import baselines
from medray.workloads.timeline.heads.head import Array, Head, counted
from medray.workloads.timeline.params import TimelineFitted, TimelineParams


def _observe(items: Columns, patients: Columns, params: TimelineParams) -> Array:
    observed = tasks.observe(items, patients, params.outcome or OutcomeSpec())
    return tasks.within(observed, params.horizon_days)


def _sums(observed: Array) -> Mapping[str, Any]:
    return counted(int(np.isfinite(observed).sum()), int((observed == 1).sum()))


def _learn(
    sums: Mapping[str, Any], vocabulary: Vocabulary, params: TimelineParams
) -> tuple[float, ...]:
    if not 0 < sums["positives"] < sums["rows"]:
        raise DataError(
            f"the outcome happens in {sums['positives']} of {sums['rows']} items of `train`: there "
            "is nothing to tell apart",
            remedy="check `params.outcome`, `horizon_days` and the split",
        )
    return ()


def _loss(
    output_B1: Tensor, truth_B: Tensor, params: TimelineParams, fitted: TimelineFitted
) -> Tensor:
    """Mean cross-entropy over the items whose outcome is known; 0 when none is."""
    known_B = ~torch.isnan(truth_B)
    smooth_B = torch.where(known_B, truth_B, 0.0) * (1 - params.label_smoothing)
    smooth_B = smooth_B + 0.5 * params.label_smoothing
    loss_B = functional.binary_cross_entropy_with_logits(
        output_B1.squeeze(1), smooth_B, reduction="none"
    )
    return (loss_B * known_B).sum() / known_B.sum().clamp_min(1)


def _measure(
    logit_B: Array, truth_B: Array, params: TimelineParams, fitted: TimelineFitted
) -> Mapping[str, float]:
    known = np.isfinite(truth_B)
    score, truth = logit_B[known], truth_B[known]
    if not len(truth) or not np.isfinite(score).all():
        return {"loss": float("nan"), "auroc": float("nan")}
    loss = np.logaddexp(0, score) - truth * score
    return {"loss": float(loss.mean()), "auroc": auroc(truth, score)}


BINARY = Head(
    observe=_observe,
    sums=_sums,
    learn=_learn,
    outputs=lambda params, fitted: 1,
    target=lambda params, fitted: Target(params.target, "binary"),
    answer=lambda output_B1, params: output_B1.squeeze(1),
    loss=_loss,
    measure=_measure,
    monitor=Monitor("auroc", "max"),
    log_odds=lambda answer_B, params, fitted: answer_B,
    baselines=baselines.probabilities,
)
