"""How good a forecast of a number is, given as quantiles: pinball loss, coverage, error.

A missing truth (NaN) is left out; nothing is invented for it. Without any truth the answer is NaN.

Shapes: … any shape of truths (rows, or rows × horizons), Q quantile levels.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from medray.metrics.interval import Floats, finite


def pinball_loss(truth: ArrayLike, forecast: ArrayLike, levels: ArrayLike) -> float:
    """Mean pinball loss of `forecast` (…, Q) at `levels` (Q,), over levels and present `truth` (…).

    In the unit of the truth; of the median alone it is half the mean absolute error. Raises
    ValueError for other shapes, forecasts that are not finite where the truth is present, infinite
    truth, and levels that do not rise strictly within (0, 1). Source: Koenker & Bassett,
    Econometrica 1978;46:33.
    """
    levels_Q = finite(levels, "levels")
    if levels_Q.size == 0 or np.any(np.diff(levels_Q) <= 0.0):
        raise ValueError("levels must be given and rise strictly")
    if levels_Q[0] <= 0.0 or levels_Q[-1] >= 1.0:
        raise ValueError("levels must lie in (0, 1)")
    truth_P, forecast_PQ = _present(truth, forecast, levels_Q.size)
    if truth_P.size == 0:
        return math.nan
    error_PQ = truth_P[:, None] - forecast_PQ
    return float(np.mean(np.maximum(levels_Q * error_PQ, (levels_Q - 1.0) * error_PQ)))


def interval_coverage(truth: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Share of the present `truth` (…) within [`low`, `high`], each (…), bounds included.

    Compare it with the difference of the two quantile levels. An interval whose bounds crossed
    covers nothing. Raises ValueError as `pinball_loss`.
    """
    truth_P, bounds_P2 = _present(truth, _stacked(low, high), 2)
    if truth_P.size == 0:
        return math.nan
    return float(np.mean((bounds_P2[:, 0] <= truth_P) & (truth_P <= bounds_P2[:, 1])))


def interval_width(truth: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Mean of `high` − `low`, each (…), where the `truth` (…) is present; see its coverage first.

    Raises ValueError as `pinball_loss`.
    """
    truth_P, bounds_P2 = _present(truth, _stacked(low, high), 2)
    return float(np.mean(bounds_P2[:, 1] - bounds_P2[:, 0])) if truth_P.size else math.nan


def mean_absolute_error(truth: ArrayLike, forecast: ArrayLike) -> float:
    """Mean |`truth` − `forecast`|, each (…), of a median forecast or of the last value carried on.

    Raises ValueError as `pinball_loss`.
    """
    truth_P, forecast_P1 = _present(truth, np.asarray(forecast)[..., None], 1)
    return float(np.mean(np.abs(truth_P - forecast_P1[:, 0]))) if truth_P.size else math.nan


def _stacked(low: ArrayLike, high: ArrayLike) -> np.ndarray:
    if np.shape(low) != np.shape(high):
        raise ValueError(f"low and high differ in shape: {np.shape(low)} and {np.shape(high)}")
    return np.stack([np.asarray(low), np.asarray(high)], axis=-1)


def _present(truth: ArrayLike, forecast: ArrayLike, levels: int) -> tuple[Floats, Floats]:
    """Truths (P,) that are present and their forecasts (P, Q), checked."""
    try:
        truths = np.asarray(truth, dtype=np.float64)
        forecasts = np.asarray(forecast, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError("truth and forecast must be numeric") from None
    if forecasts.shape != (*truths.shape, levels):
        expected = (*truths.shape, levels)
        raise ValueError(f"forecast must be {expected}, got shape {forecasts.shape}")
    present = ~np.isnan(truths)
    return finite(truths[present], "truth"), finite(forecasts[present], "forecast", ndim=2)
