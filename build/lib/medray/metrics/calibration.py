"""Does a score of 0.3 mean 30 in 100: temperature, reliability curve, ECE, Brier, slope.

Owns the fit of one temperature and the measures of calibration of one binary label. To measure a
multi-class model by its top class, pass `y = predicted == label` and `p` = the top probability.

Shapes: N rows, L rows with a label, C classes, B bins.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logsumexp
from scipy.special import logit as inverse_expit

from medray.metrics.classification import class_labels
from medray.metrics.interval import (
    Floats,
    Ints,
    as_floats,
    binary_pair,
    find_root,
    finite,
    probability_pair,
    wilson,
)

TEMPERATURE_RANGE = (0.05, 20.0)

Strategy = Literal["uniform", "quantile"]

# float32 sigmoids reach exactly 0 and 1, whose logit is infinite.
_P_FLOOR = 1e-7


def fit_temperature(logits: ArrayLike, y: ArrayLike) -> float:
    """Temperature T that minimises the NLL of sigmoid(logits / T), within [0.05, 20].

    `logits` (N,) finite, `y` (N,) of 0/1; a multi-label model is fitted one label at a time with
    the rows that have it. A perfectly separating score has no minimum and answers 0.05. Fit on
    validation rows, never on test rows. Raises ValueError for other labels, non-finite logits,
    unequal lengths, or one class only. Source: Guo et al., ICML 2017.
    """
    y_N, logits_N = binary_pair(y, logits, "logits")
    if np.unique(y_N).size < 2:
        raise ValueError("a temperature needs labels of both classes")

    def loss(temperature: float) -> float:
        scaled_N = logits_N / temperature
        return float(np.mean(np.logaddexp(0.0, scaled_N) - y_N * scaled_N))

    return _minimise(loss)


def fit_temperature_multiclass(logits: ArrayLike, y: ArrayLike) -> float:
    """Temperature T that minimises the NLL of softmax(logits / T), within [0.05, 20].

    `logits` (N, C), finite where labelled; `y` (N,) in 0..C-1, NaN or -1 (missing) excluded.
    Raises ValueError for other labels, non-finite logits, unequal lengths, or labels of fewer than
    two classes. Source: Guo et al., ICML 2017.
    """
    logits_NC = as_floats(logits, "logits", ndim=2)
    y_L, labelled_N = class_labels(y, logits_NC.shape[1])
    if labelled_N.size != len(logits_NC):
        raise ValueError(f"y and logits differ in length: {labelled_N.size} and {len(logits_NC)}")
    logits_LC = finite(logits_NC[labelled_N], "logits", ndim=2)
    if np.unique(y_L).size < 2:
        raise ValueError("a temperature needs labels of at least two classes")
    true_L = logits_LC[np.arange(y_L.size), y_L]

    def loss(temperature: float) -> float:
        total_L = np.asarray(logsumexp(logits_LC / temperature, axis=1), dtype=np.float64)
        return float(np.mean(total_L - true_L / temperature))

    return _minimise(loss)


@dataclass(frozen=True, slots=True)
class CalibrationCurve:
    """Observed share against mean prediction, by bin of the prediction.

    `edges` (B + 1,); all others (B,). An empty bin has count 0 and NaN elsewhere. `low` and `high`
    are the 95% Wilson bounds of `observed`.
    """

    edges: Floats
    count: Ints
    mean_predicted: Floats
    observed: Floats
    low: Floats
    high: Floats


def calibration_curve(
    y: ArrayLike, p: ArrayLike, bins: int = 10, strategy: Strategy = "uniform"
) -> CalibrationCurve:
    """Reliability curve of `y` (N,) of 0/1 and `p` (N,) in [0, 1].

    Bins are closed on the right, the first on both sides; "uniform" cuts [0, 1] in equal widths,
    "quantile" at the quantiles of `p`, where ties leave some bins empty. Raises ValueError for
    other labels, `p` outside [0, 1], no rows, `bins` below 1 or an unknown strategy.
    Source: Murphy & Winkler, Appl. Stat. 1977;26:41.
    """
    y_N, p_N = probability_pair(y, p)
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if y_N.size == 0:
        raise ValueError("a calibration curve needs at least one row")
    fractions = np.linspace(0.0, 1.0, bins + 1)
    if strategy == "uniform":
        edges = fractions
    elif strategy == "quantile":
        edges = np.quantile(p_N, fractions)
    else:
        raise ValueError('strategy must be "uniform" or "quantile"')
    bin_N = np.searchsorted(edges[1:-1], p_N, side="left")
    count = np.bincount(bin_N, minlength=bins)
    positives = np.bincount(bin_N, weights=y_N, minlength=bins)
    shares = [wilson(round(k), int(n)) for k, n in zip(positives, count, strict=True)]
    total = np.bincount(bin_N, weights=p_N, minlength=bins)
    return CalibrationCurve(
        edges=edges,
        count=count.astype(np.int64),
        mean_predicted=np.divide(total, count, out=np.full(bins, np.nan), where=count > 0),
        observed=np.array([share.value for share in shares]),
        low=np.array([share.low for share in shares]),
        high=np.array([share.high for share in shares]),
    )


def expected_calibration_error(
    y: ArrayLike, p: ArrayLike, bins: int = 10, strategy: Strategy = "uniform"
) -> float:
    """Mean over rows of |observed − mean predicted| of the row's bin; inputs as the curve's.

    It depends on the bins and is biased upwards in small samples: compare only like with like.
    Raises ValueError as `calibration_curve`. Source: Naeini, Cooper & Hauskrecht, AAAI 2015.
    """
    curve = calibration_curve(y, p, bins, strategy)
    filled = curve.count > 0
    gap = np.abs(curve.observed[filled] - curve.mean_predicted[filled])
    return float(np.average(gap, weights=curve.count[filled]))


def brier(y: ArrayLike, p: ArrayLike) -> float:
    """Mean squared difference of `p` (N,) in [0, 1] and `y` (N,) of 0/1; NaN without rows.

    Raises ValueError for other values or unequal lengths. Source: Brier, Mon. Weather Rev.
    1950;78:1.
    """
    y_N, p_N = probability_pair(y, p)
    return float(np.mean((p_N - y_N) ** 2)) if y_N.size else math.nan


@dataclass(frozen=True, slots=True)
class LogisticCalibration:
    """Logistic recalibration; perfect is slope 1, both intercepts 0.

    `slope` and `intercept` are fitted together (below 1: predictions too extreme). `in_the_large`
    is the intercept with the slope held at 1 (below 0: predictions too high). NaN where the fit
    does not exist.
    """

    slope: float
    intercept: float
    in_the_large: float


def logistic_calibration(y: ArrayLike, p: ArrayLike) -> LogisticCalibration:
    """Calibration slope and intercepts of `y` (N,) of 0/1 on the logit of `p` (N,) in [0, 1].

    `p` is held within [1e-7, 1 − 1e-7], as 0 and 1 have no logit. All NaN where one class is
    absent; slope and intercept NaN where `p` separates the classes or is constant, as no finite
    fit exists. Raises ValueError for other values or unequal lengths. Sources: Cox, Biometrika
    1958;45:562; Van Calster et al., BMC Med. 2019;17:230.
    """
    y_N, p_N = probability_pair(y, p)
    if np.unique(y_N).size < 2:
        return LogisticCalibration(math.nan, math.nan, math.nan)
    logit_N: Floats = inverse_expit(np.clip(p_N, _P_FLOOR, 1.0 - _P_FLOOR))

    def surplus(shift: float) -> float:
        return float(np.mean(expit(logit_N + shift) - y_N))

    # |logit| < 17, and |log-odds of the prevalence| < 50 in any array that fits in memory.
    in_the_large = find_root(surplus, -70.0, 70.0)
    slope, intercept = _logistic_line(logit_N, y_N)
    return LogisticCalibration(slope, intercept, in_the_large)


def _logistic_line(x_N: Floats, y_N: Floats) -> tuple[float, float]:
    """Maximum-likelihood slope and intercept of y on x; NaN where the classes do not overlap."""
    from scipy.optimize import minimize

    positive, negative = x_N[y_N == 1.0], x_N[y_N == 0.0]
    if positive.min() >= negative.max() or positive.max() <= negative.min():
        return math.nan, math.nan
    # Standardised, so that the Newton steps are well conditioned whatever the spread of x.
    centre, spread = float(x_N.mean()), float(x_N.std())
    design_N2 = np.column_stack([(x_N - centre) / spread, np.ones_like(x_N)])

    def loss(line: Floats) -> float:
        z_N = design_N2 @ line
        return float(np.mean(np.logaddexp(0.0, z_N) - y_N * z_N))

    def gradient(line: Floats) -> Floats:
        return design_N2.T @ (expit(design_N2 @ line) - y_N) / y_N.size

    def curvature(line: Floats) -> Floats:
        share_N = expit(design_N2 @ line)
        return (design_N2 * (share_N * (1.0 - share_N))[:, None]).T @ design_N2 / y_N.size

    fit = minimize(
        loss,
        np.zeros(2),
        jac=gradient,
        hess=curvature,
        method="trust-exact",
        options={"gtol": 1e-9, "maxiter": 500},
    )
    # Past 1e-6 the slope is not the maximum's; at 1e-9 rounding may stop the search just short.
    if float(np.abs(gradient(fit.x)).max()) > 1e-6:
        return math.nan, math.nan
    slope = float(fit.x[0]) / spread
    return slope, float(fit.x[1]) - slope * centre


def _minimise(loss: Callable[[float], float]) -> float:
    """Find the temperature of least loss; the NLL is convex in 1/T, so log T has one valley."""
    from scipy.optimize import minimize_scalar

    low, high = TEMPERATURE_RANGE
    fit = minimize_scalar(
        lambda log_t: loss(math.exp(log_t)),
        bounds=(math.log(low), math.log(high)),
        method="bounded",
        options={"xatol": 1e-7},
    )
    # The bounded search never tries its own ends.
    inner = float(np.clip(math.exp(fit.x), low, high))
    return min((low, inner, high), key=loss)
