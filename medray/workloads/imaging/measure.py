"""Metrics of one pass over `tuning`: what early stopping and the best checkpoint look at.

Shapes: B items, K classes.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from medray.metrics.discrimination import auroc
from medray.workload import Columns
from medray.workloads.imaging.labels import truth_of
from medray.workloads.imaging.params import ImagingParams

Array = np.ndarray[Any, Any]


def measure(
    logits: Mapping[str, Array], columns: Columns, params: ImagingParams
) -> dict[str, float]:
    """`loss` (uncalibrated), `accuracy` (most probable class; 0.5) and `auroc`.

    AUROC is the mean over columns or, multi-class, over one-against-rest; columns and classes
    where it is undefined are left out, and NaN says that none is left.
    """
    truth = truth_of(columns, params)
    each = [
        _multiclass(np.asarray(logits[name], dtype=np.float64), observed)
        if params.task == "multiclass"
        else _binary(np.asarray(logits[name], dtype=np.float64), observed)
        for name, observed in truth.items()
    ]
    return {key: _mean([one[key] for one in each]) for key in ("loss", "accuracy", "auroc")}


def _binary(logits_B: Array, observed_B: Array) -> dict[str, float]:
    known = ~np.isnan(observed_B)
    scores, labels = logits_B[known], observed_B[known]
    if not len(labels) or not np.isfinite(scores).all():
        return dict.fromkeys(("loss", "accuracy", "auroc"), float("nan"))
    loss = np.logaddexp(0, scores) - labels * scores
    return {
        "loss": float(loss.mean()),
        "accuracy": float(((scores >= 0) == (labels == 1)).mean()),
        "auroc": auroc(labels, scores),
    }


def _multiclass(logits_BK: Array, observed_B: Array) -> dict[str, float]:
    known = observed_B >= 0
    scores, labels = logits_BK[known], observed_B[known]
    if not len(labels) or not np.isfinite(scores).all():
        return dict.fromkeys(("loss", "accuracy", "auroc"), float("nan"))
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    curves = [auroc((labels == k).astype(float), log_p[:, k]) for k in range(scores.shape[1])]
    return {
        "loss": float(-log_p[np.arange(len(labels)), labels].mean()),
        "accuracy": float((scores.argmax(axis=1) == labels).mean()),
        "auroc": _mean(curves),
    }


def _mean(values: list[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
