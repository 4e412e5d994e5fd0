"""Forecast metrics against scikit-learn and by hand, missing truth included."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from medray.metrics.survival.quantiles import (
    interval_coverage,
    interval_width,
    mean_absolute_error,
    pinball_loss,
)

LEVELS = [0.1, 0.5, 0.9]


def forecasts(seed, rows=60, horizons=4):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(rows, horizons)) * 3.0
    forecast = np.sort(rng.normal(size=(rows, horizons, 3)) * 3.0, axis=-1)
    truth[rng.random(truth.shape) < 0.3] = math.nan
    return truth, forecast


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_scikit_learn_on_the_present(seed):
    truth, forecast = forecasts(seed)
    forecast[np.isnan(truth)] = math.nan  # what is forecast for a missing truth does not matter
    present = ~np.isnan(truth)
    expected = [
        sk.mean_pinball_loss(truth[present], forecast[present][:, k], alpha=level)
        for k, level in enumerate(LEVELS)
    ]
    assert pinball_loss(truth, forecast, LEVELS) == pytest.approx(np.mean(expected), abs=1e-12)
    error = sk.mean_absolute_error(truth[present], forecast[present][:, 1])
    assert mean_absolute_error(truth, forecast[..., 1]) == pytest.approx(error, abs=1e-12)
    median = pinball_loss(truth, forecast[..., 1:2], [0.5])
    assert median == pytest.approx(error / 2, abs=1e-12)


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_sample_quantile_loses_least(seed):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=101)
    for level in LEVELS:
        best = np.quantile(truth, level, method="inverted_cdf")
        least = pinball_loss(truth, np.full((101, 1), best), [level])
        other = pinball_loss(truth, np.full((101, 1), rng.normal()), [level])
        assert least <= other + 1e-12


def test_coverage_and_width():
    truth = [1.0, 2.0, math.nan, 4.0, 5.0]
    low = [1.0, 0.0, 0.0, 5.0, 6.0]
    high = [2.0, 2.0, 9.0, 6.0, 4.0]  # the last one crossed: it covers nothing
    assert interval_coverage(truth, low, high) == 0.5
    assert interval_width(truth, low, high) == pytest.approx((1 + 2 + 1 - 2) / 4)


def test_the_true_quantiles_cover_their_share():
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=20_000)
    shape = truth.shape
    assert interval_coverage(truth, np.full(shape, 0.1), np.full(shape, 0.9)) == pytest.approx(
        0.8, abs=0.01
    )


def test_a_perfect_forecast_loses_nothing():
    truth, _ = forecasts(1)
    assert pinball_loss(truth, np.repeat(truth[..., None], 3, axis=-1), LEVELS) == 0.0
    assert mean_absolute_error(truth, truth) == 0.0
    assert interval_coverage(truth, truth, truth) == 1.0


@pytest.mark.parametrize("truth", [[], [math.nan, math.nan]])
def test_no_truth_is_nan(truth):
    size = len(truth)
    assert math.isnan(pinball_loss(truth, np.zeros((size, 3)), LEVELS))
    assert math.isnan(mean_absolute_error(truth, np.zeros(size)))
    assert math.isnan(interval_coverage(truth, np.zeros(size), np.zeros(size)))
    assert math.isnan(interval_width(truth, np.zeros(size), np.zeros(size)))


@pytest.mark.parametrize(
    ("truth", "forecast", "levels", "message"),
    [
        ([1.0], [[1.0, 2.0]], [0.5], "forecast"),
        ([1.0], [1.0], [0.5], "forecast"),
        ([1.0, 2.0], [[1.0]], [0.5], "forecast"),
        ([1.0], [[math.nan]], [0.5], "forecast"),
        ([math.inf], [[1.0]], [0.5], "truth"),
        (["a"], [[1.0]], [0.5], "numeric"),
        ([1.0], [[1.0, 2.0]], [0.5, 0.5], "rise"),
        ([1.0], [[1.0, 2.0]], [0.5, 1.0], r"\(0, 1\)"),
        ([1.0], [[1.0, 2.0]], [0.0, 0.5], r"\(0, 1\)"),
        ([1.0], [[]], [], "levels"),
    ],
)
def test_forecasts_are_checked(truth, forecast, levels, message):
    with pytest.raises(ValueError, match=message):
        pinball_loss(truth, forecast, levels)


def test_bounds_must_match():
    with pytest.raises(ValueError, match="shape"):
        interval_coverage([1.0, 2.0], [0.0, 0.0], [3.0])
    with pytest.raises(ValueError, match="forecast"):
        mean_absolute_error([1.0, 2.0], [1.0])
