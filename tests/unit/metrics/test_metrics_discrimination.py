"""Ranking metrics against scikit-learn, a brute-force DeLong variance, and their invariants."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from medray.metrics.discrimination import (
    auroc,
    auroc_delong,
    average_precision,
    delong_test,
    pr_points,
    roc_points,
    weighted_auroc,
    weighted_average_precision,
)

Z95 = stats.norm.ppf(0.975)


@st.composite
def cases(draw, least=1):
    """Labels with at least `least` of each class, and scores on a coarse grid, so with ties."""
    positives, negatives = draw(st.integers(least, 15)), draw(st.integers(least, 15))
    y = np.array([1] * positives + [0] * negatives)
    grid = st.integers(-6, 6).map(lambda k: k / 4)
    return y, np.array(draw(st.lists(grid, min_size=y.size, max_size=y.size)))


def simulated(rows=300, seed=0, shift=1.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    return y, rng.normal(size=rows) + shift * y


def brute_components(y, score):
    """DeLong's structural components from all m·n pairs, as the 1988 paper writes them."""
    positive, negative = score[y == 1], score[y == 0]
    v10 = [np.mean([(x > z) + 0.5 * (x == z) for z in negative]) for x in positive]
    v01 = [np.mean([(x > z) + 0.5 * (x == z) for x in positive]) for z in negative]
    return np.array(v10), np.array(v01)


def brute_variance(v10, v01):
    m, n = len(v10), len(v01)
    s10 = sum((v - v10.mean()) ** 2 for v in v10) / (m - 1)
    s01 = sum((v - v01.mean()) ** 2 for v in v01) / (n - 1)
    return s10 / m + s01 / n


def test_worked_example():
    y, score = [0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]  # scikit-learn's documentation
    assert auroc(y, score) == 0.75
    assert average_precision(y, score) == pytest.approx(5 / 6)


@given(cases())
@settings(max_examples=80, deadline=None)
def test_areas_are_scikit_learns(case):
    y, score = case
    assert auroc(y, score) == pytest.approx(sk.roc_auc_score(y, score), abs=1e-12)
    expected = sk.average_precision_score(y, score)
    assert average_precision(y, score) == pytest.approx(expected, abs=1e-12)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_order_alone_matters(case):
    y, score = case
    area = auroc(y, score)
    assert auroc(y, np.exp(score) * 3 + 1) == area
    assert auroc(1 - y, score) == pytest.approx(1 - area, abs=1e-12)
    assert auroc(y, -score) == pytest.approx(1 - area, abs=1e-12)
    assert auroc(y[::-1], score[::-1]) == area


@given(cases(), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_a_weight_is_a_repeated_row(case, seed):
    y, score = case
    weights = np.random.default_rng(seed).integers(0, 4, (3, y.size))
    repeated = [np.repeat(np.arange(y.size), w) for w in weights]
    for weighted, plain in [
        (weighted_auroc, auroc),
        (weighted_average_precision, average_precision),
    ]:
        expected = [plain(y[rows], score[rows]) for rows in repeated]
        np.testing.assert_allclose(weighted(y, score, weights), expected, rtol=1e-12)


@pytest.mark.parametrize("weights", [[[1, 1]], [[1, -1, 1]], [1, 1, 1], [[1, math.nan, 1]]])
def test_weights_are_checked(weights):
    with pytest.raises(ValueError, match="weights"):
        weighted_auroc([0, 1, 1], [0.1, 0.2, 0.3], weights)


@pytest.mark.parametrize("y", [[], [1, 1], [0, 0]])
def test_one_class_has_no_area(y):
    score = np.linspace(0, 1, len(y))
    assert math.isnan(auroc(y, score))
    interval = auroc_delong(y, score)
    assert math.isnan(interval.value)
    assert math.isnan(interval.low)
    assert math.isnan(delong_test(y, score, score))
    if 1 not in y:
        assert math.isnan(average_precision(y, score))


@given(cases(least=2))
@settings(max_examples=60, deadline=None)
def test_delong_against_all_pairs(case):
    y, score = case
    v10, v01 = brute_components(y, score)
    area, variance = v10.mean(), brute_variance(v10, v01)
    interval = auroc_delong(y, score)
    assert interval.value == pytest.approx(area, abs=1e-12)
    assert 0.0 <= interval.low <= interval.value <= interval.high <= 1.0
    if variance > 1e-12:
        assert interval.method == "delong-logit"
        centre = math.log(area / (1 - area))
        half = Z95 * math.sqrt(variance) / (area * (1 - area))
        expected = [1 / (1 + math.exp(-bound)) for bound in (centre - half, centre + half)]
        assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-10)
    else:
        assert interval.method == "newcombe-5"


@pytest.mark.parametrize(
    ("y", "score"),
    [
        ([0] * 30 + [1] * 20, np.arange(50.0)),  # perfect
        ([1] * 30 + [0] * 20, np.arange(50.0)),  # perfectly wrong
        ([0, 1] * 10, np.zeros(20)),  # constant
        ([0] * 20 + [1], np.r_[np.arange(20.0), 12.5]),  # one positive
    ],
)
def test_degenerate_interval_is_newcombes(y, score):
    interval = auroc_delong(y, score)
    positives, negatives = np.sum(y), len(y) - np.sum(y)
    area, half_size = sk.roc_auc_score(y, score), (positives + negatives) / 2 - 1
    # Every area that a score test keeps, on a fine grid.
    t = np.linspace(0, 1, 200_001)
    spread = 1 + half_size * (1 - t) / (2 - t) + half_size * t / (1 + t)
    kept = t[(t - area) ** 2 <= Z95**2 * t * (1 - t) * spread / (positives * negatives)]
    assert interval.method == "newcombe-5"
    assert interval.value == pytest.approx(area)
    assert (interval.low, interval.high) == pytest.approx((kept.min(), kept.max()), abs=1e-5)
    assert interval.high - interval.low > 0.05


def test_higher_level_is_wider_and_more_rows_are_narrower():
    y, score = simulated()
    narrow, wide = auroc_delong(y, score, 0.8), auroc_delong(y, score, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high
    many = auroc_delong(*simulated(rows=3000))
    assert many.high - many.low < narrow.high - narrow.low


def test_delong_covers():
    truth = stats.norm.cdf(1 / math.sqrt(2))  # two unit normals one apart
    intervals = [auroc_delong(*simulated(rows=100, seed=seed)) for seed in range(400)]
    covered = np.mean([i.low <= truth <= i.high for i in intervals])
    assert 0.92 <= covered <= 0.98


@given(cases(least=2), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_delong_test_against_all_pairs(case, seed):
    y, a = case
    b = np.round(a + np.random.default_rng(seed).normal(size=y.size), 1)
    (a10, a01), (b10, b01) = brute_components(y, a), brute_components(y, b)
    variance = brute_variance(a10 - b10, a01 - b01)
    p = delong_test(y, a, b)
    if variance > 1e-12:
        z = (a10.mean() - b10.mean()) / math.sqrt(variance)
        assert p == pytest.approx(2 * stats.norm.sf(abs(z)), abs=1e-10)
        assert p == delong_test(y, b, a)
    assert delong_test(y, a, a) == 1.0
    assert delong_test(y, a, 2 * a + 1) == 1.0


def test_delong_test_without_variance_is_nan():
    y = [0, 0, 1, 1]
    assert math.isnan(delong_test(y, [1, 2, 3, 4], [4, 3, 2, 1]))
    assert math.isnan(delong_test([0, 1, 1], [1, 2, 3], [1, 3, 2]))


def test_delong_test_keeps_its_level():
    rng = np.random.default_rng(5)
    rejected = 0
    for _ in range(400):
        y = rng.integers(0, 2, 120)
        shared = rng.normal(size=120) + y
        a, b = shared + rng.normal(size=120), shared + rng.normal(size=120)
        rejected += delong_test(y, a, b) < 0.05
    assert 0.02 <= rejected / 400 <= 0.085


@given(cases())
@settings(max_examples=40, deadline=None)
def test_roc_points_are_scikit_learns(case):
    y, score = case
    fpr, tpr, threshold = sk.roc_curve(y, score, drop_intermediate=False)
    points = roc_points(y, score)
    np.testing.assert_allclose(points.threshold, threshold)
    np.testing.assert_allclose(points.false_positive_rate, fpr)
    np.testing.assert_allclose(points.true_positive_rate, tpr)


@given(cases())
@settings(max_examples=40, deadline=None)
def test_pr_points_are_scikit_learns(case):
    y, score = case
    precision, recall, threshold = sk.precision_recall_curve(y, score)
    points = pr_points(y, score)
    # scikit-learn rises in threshold, and adds a point at recall 0.
    np.testing.assert_allclose(points.threshold, threshold[::-1])
    np.testing.assert_allclose(points.precision, precision[:-1][::-1])
    np.testing.assert_allclose(points.recall, recall[:-1][::-1])


def test_curves_of_one_class():
    points = roc_points([1, 1], [0.2, 0.7])
    assert np.isnan(points.false_positive_rate).all()
    assert points.true_positive_rate.tolist() == [0.0, 0.5, 1.0]
    assert np.isnan(pr_points([0, 0], [0.2, 0.7]).recall).all()
    assert pr_points([], []).threshold.size == 0
