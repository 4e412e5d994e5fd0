"""Calibration against scikit-learn, scipy and data whose miscalibration is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy.special import expit, log_expit, log_softmax, logit
from sklearn import calibration as sk_calibration
from sklearn import metrics as sk

from medray.metrics.calibration import (
    brier,
    calibration_curve,
    expected_calibration_error,
    fit_temperature,
    fit_temperature_multiclass,
    logistic_calibration,
)


def calibrated(rows=2000, seed=0):
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=rows) - 0.5
    return logits, (rng.random(rows) < expit(logits)).astype(int)


def binary_nll(logits, y, temperature):
    """Log loss, as the mean of −log of the probability given to the label that holds."""
    return -np.mean(log_expit(np.where(y == 1, logits, -logits) / temperature))


@pytest.mark.parametrize("stretch", [0.5, 1.0, 3.0])
def test_temperature_undoes_a_stretch(stretch):
    logits, y = calibrated(rows=20_000)
    assert fit_temperature(stretch * logits, y) == pytest.approx(stretch, rel=0.05)


@given(st.integers(0, 2**31), st.floats(0.3, 4))
@settings(max_examples=20, deadline=None)
def test_temperature_has_the_least_nll(seed, stretch):
    logits, y = calibrated(rows=300, seed=seed)
    logits = stretch * logits
    best = binary_nll(logits, y, fit_temperature(logits, y))
    assert all(best <= binary_nll(logits, y, t) + 1e-9 for t in np.geomspace(0.05, 20, 200))


def test_temperature_keeps_within_its_range():
    y = [0, 0, 1, 1]
    assert fit_temperature([-2, -1, 1, 2], y) == 0.05
    assert fit_temperature([2, 1, -1, -2], y) == 20.0
    assert fit_temperature([0, 0, 0, 0], y) in (0.05, pytest.approx(1.0), 20.0)


def test_two_classes_are_the_binary_case():
    logits, y = calibrated(rows=500)
    pair = np.column_stack([np.full_like(logits, 0.7), logits + 0.7])
    expected = fit_temperature(logits, y)
    assert fit_temperature_multiclass(pair, y) == pytest.approx(expected, rel=1e-5)


def test_multiclass_temperature_has_the_least_nll_and_skips_missing_labels():
    rng = np.random.default_rng(2)
    logits = 2 * rng.normal(size=(800, 4))
    y = np.array([rng.choice(4, p=np.exp(log_softmax(row / 2.5))) for row in logits])
    found = fit_temperature_multiclass(logits, y)
    best = optimize.minimize_scalar(
        lambda t: -log_softmax(logits / t, axis=1)[np.arange(800), y].mean(),
        bracket=(1, 2),
    ).x
    assert found == pytest.approx(best, rel=1e-4)
    assert found == pytest.approx(2.5, rel=0.15)
    more_logits = np.vstack([logits, np.full((2, 4), np.nan)])
    assert fit_temperature_multiclass(more_logits, np.r_[y, -1, np.nan]) == found


def test_temperature_refuses():
    with pytest.raises(ValueError, match="both classes"):
        fit_temperature([0.1, 0.2], [1, 1])
    with pytest.raises(ValueError, match="two classes"):
        fit_temperature_multiclass(np.zeros((3, 2)), [1, 1, -1])
    with pytest.raises(ValueError, match="non-finite"):
        fit_temperature([0.1, math.nan], [0, 1])
    with pytest.raises(ValueError, match="length"):
        fit_temperature_multiclass(np.zeros((3, 2)), [0, 1])
    with pytest.raises(ValueError, match="dimension"):
        fit_temperature_multiclass([0.1, 0.2], [0, 1])


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("bins", [1, 5, 10])
def test_curve_is_scikit_learns(strategy, bins):
    logits, y = calibrated()
    p = np.round(expit(logits), 2)
    observed, predicted = sk_calibration.calibration_curve(y, p, n_bins=bins, strategy=strategy)
    curve = calibration_curve(y, p, bins, strategy)
    filled = curve.count > 0
    np.testing.assert_allclose(curve.observed[filled], observed)
    np.testing.assert_allclose(curve.mean_predicted[filled], predicted)
    assert curve.count.sum() == y.size
    assert len(curve.edges) == bins + 1
    assert (curve.low[filled] <= observed).all()
    assert (observed <= curve.high[filled]).all()


def test_empty_bins_are_nan_not_zero():
    curve = calibration_curve([0, 1, 1], [0.0, 0.95, 1.0])
    assert curve.count.tolist() == [1] + [0] * 8 + [2]
    assert np.isnan(curve.observed[1:9]).all()
    assert np.isnan(curve.mean_predicted[1:9]).all()
    assert np.isnan(curve.low[1:9]).all()


def test_bins_are_closed_on_the_right():
    assert calibration_curve([0, 1], [0.5, 0.51], bins=2).count.tolist() == [1, 1]


def test_ece_by_hand():
    # Bin (0, 0.5]: 2 rows, mean 0.3, observed 0.5. Bin (0.5, 1]: 2 rows, mean 0.8, observed 1.
    ece = expected_calibration_error([0, 1, 1, 1], [0.2, 0.4, 0.7, 0.9], bins=2)
    assert ece == pytest.approx(0.5 * 0.2 + 0.5 * 0.2)


@given(st.integers(0, 2**31), st.sampled_from(["uniform", "quantile"]))
@settings(max_examples=20, deadline=None)
def test_ece_is_a_share_and_one_bin_is_the_mean_gap(seed, strategy):
    logits, y = calibrated(rows=50, seed=seed)
    p = expit(logits)
    assert 0.0 <= expected_calibration_error(y, p, 7, strategy) <= 1.0
    one = expected_calibration_error(y, p, 1, strategy)
    assert one == pytest.approx(abs(y.mean() - p.mean()))


def test_brier():
    logits, y = calibrated()
    p = expit(logits)
    assert brier(y, p) == pytest.approx(sk.brier_score_loss(y, p))
    assert brier([1, 1], [1, 1]) == 0.0
    assert math.isnan(brier([], []))


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, -0.4), (2.0, 1.0)])
def test_logistic_calibration_finds_what_was_done(slope, intercept):
    logits, y = calibrated(rows=50_000)
    fit = logistic_calibration(y, expit((logits - intercept) / slope))
    assert fit.slope == pytest.approx(slope, rel=0.05)
    assert fit.intercept == pytest.approx(intercept, abs=0.05)


@given(st.integers(0, 2**31), st.floats(0.2, 5), st.floats(-2, 2))
@settings(max_examples=20, deadline=None)
def test_logistic_calibration_solves_the_score_equations(seed, stretch, shift):
    logits, y = calibrated(rows=200, seed=seed)
    p = expit(stretch * logits + shift)
    x = logit(np.clip(p, 1e-7, 1 - 1e-7))
    fit = logistic_calibration(y, p)
    residual = y - expit(fit.slope * x + fit.intercept)
    assert residual.mean() == pytest.approx(0.0, abs=1e-6)
    assert (residual * x).mean() == pytest.approx(0.0, abs=1e-4)
    assert expit(x + fit.in_the_large).mean() == pytest.approx(y.mean(), abs=1e-8)


def test_logistic_calibration_where_no_fit_exists():
    one_class = logistic_calibration([1, 1], [0.2, 0.3])
    assert math.isnan(one_class.slope)
    assert math.isnan(one_class.in_the_large)
    for p in ([0.1, 0.2, 0.2, 1.0], [0.9, 0.8, 0.3, 0.0], [0.25] * 4):
        fit = logistic_calibration([0, 0, 1, 1], p)
        assert math.isnan(fit.slope)
        assert math.isnan(fit.intercept)
        assert math.isfinite(fit.in_the_large)
    assert fit.in_the_large == pytest.approx(math.log(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0.1, 1.1]), r"\[0, 1\]"),
        (([], []), "at least one row"),
        (([0, 1], [0.1, 0.2], 0), "bins"),
        (([0, 1], [0.1, 0.2], 5, "equal"), "strategy"),
    ],
)
def test_curve_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        calibration_curve(*arguments)
