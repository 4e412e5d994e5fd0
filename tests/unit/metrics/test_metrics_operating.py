"""Thresholds against a search of every cut, and the table of four against scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from medray.metrics.operating import at_threshold, choose_threshold, predictive_values


@st.composite
def cases(draw):
    y = np.array([0, 1, *draw(st.lists(st.integers(0, 1), max_size=25))])
    p = draw(st.lists(st.integers(0, 10), min_size=y.size, max_size=y.size))
    return y, np.array(p) / 10


def every_cut(y, p):
    """(threshold, sensitivity, specificity) of each distinct score, rising."""
    cuts = sorted(set(p.tolist()))
    return [(t, np.mean(p[y == 1] >= t), np.mean(p[y == 0] < t)) for t in cuts]


@given(cases())
@settings(max_examples=80, deadline=None)
def test_youden_is_the_lowest_of_the_best_cuts(case):
    y, p = case
    cuts = every_cut(y, p)
    best = max(round(sens + spec, 9) for _, sens, spec in cuts)
    expected = min(t for t, sens, spec in cuts if round(sens + spec, 9) == best)
    assert choose_threshold(y, p, "youden") == expected


@given(cases(), st.sampled_from([0.5, 0.8, 0.9, 1.0]))
@settings(max_examples=80, deadline=None)
def test_targets_are_reached_and_no_further(case, target):
    y, p = case
    cuts = every_cut(y, p)
    reached = [t for t, sens, _ in cuts if sens >= target - 1e-9]
    assert choose_threshold(y, p, {"sensitivity": target}) == max(reached)
    specific = [t for t, _, spec in cuts if spec >= target - 1e-9]
    if specific:
        assert choose_threshold(y, p, {"specificity": target}) == min(specific)
    else:
        with pytest.raises(ValueError, match="no score reaches"):
            choose_threshold(y, p, {"specificity": target})


@pytest.mark.parametrize("target", [0.07, 0.55, 0.9])  # 0.55 * 100 is 55.00000000000001
def test_targets_are_counted_not_rounded(target):
    y, p = [1] * 100 + [0], [*range(1, 101), 0]
    threshold = choose_threshold(y, p, {"sensitivity": target})
    assert at_threshold(y, p, threshold).tp == round(100 * target)


def test_float32_scores_stand_on_their_side_of_the_cut():
    y = np.array([0, 0, 1, 1])
    p = np.array([0.1, 0.3, 0.3, 0.7], dtype=np.float32)
    threshold = choose_threshold(y, p, {"sensitivity": 1.0})
    assert np.count_nonzero(p >= threshold) == 3


@pytest.mark.parametrize(
    "rule",
    [
        "best",
        {},
        {"recall": 0.9},
        {"sensitivity": 0.9, "specificity": 0.9},
        {"sensitivity": 0.0},
        {"sensitivity": 90},
        {"specificity": math.nan},
    ],
)
def test_unknown_rules_are_refused(rule):
    with pytest.raises(ValueError, match=r"rule must be|aimed at"):
        choose_threshold([0, 1], [0.1, 0.9], rule)


@pytest.mark.parametrize("y", [[], [1, 1], [0, 0]])
def test_no_threshold_from_one_class(y):
    with pytest.raises(ValueError, match="both classes"):
        choose_threshold(y, [0.5] * len(y), "youden")


@given(cases(), st.integers(0, 10))
@settings(max_examples=60, deadline=None)
def test_table_of_four(case, tenths):
    y, p = case
    point = at_threshold(y, p, tenths / 10)
    called = (p >= tenths / 10).astype(int)
    (tn, fp), (fn, tp) = sk.confusion_matrix(y, called, labels=[0, 1])
    assert (point.tp, point.fp, point.tn, point.fn) == (tp, fp, tn, fn)
    for interval, successes, trials in [
        (point.sensitivity, tp, tp + fn),
        (point.specificity, tn, tn + fp),
        (point.ppv, tp, tp + fp),
        (point.npv, tn, tn + fn),
        (point.accuracy, tp + tn, y.size),
    ]:
        if trials == 0:
            assert math.isnan(interval.value)
            assert math.isnan(interval.low)
            assert math.isnan(interval.high)
        else:
            assert interval.value == successes / trials
            expected = stats.binomtest(int(successes), int(trials)).proportion_ci(method="wilson")
            bounds = (interval.low, interval.high)
            assert bounds == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_nothing_called_has_no_ppv():
    point = at_threshold([0, 1], [0.1, 0.2], 0.9)
    assert math.isnan(point.ppv.value)
    assert point.sensitivity.value == 0.0
    assert point.npv.value == 0.5


def test_threshold_must_be_a_number():
    with pytest.raises(ValueError, match="NaN"):
        at_threshold([0, 1], [0.1, 0.2], math.nan)


def test_predictive_values_of_the_screening_example():
    # 1,000 people, 10 ill: 9 found; of 990 healthy 99 are called: 9 / 108 and 891 / 892.
    ppv, npv = predictive_values(0.9, 0.9, 0.01)
    assert ppv == pytest.approx(9 / 108)
    assert npv == pytest.approx(891 / 892)


@given(cases(), st.integers(0, 10))
@settings(max_examples=40, deadline=None)
def test_own_prevalence_gives_the_observed_values(case, tenths):
    y, p = case
    point = at_threshold(y, p, tenths / 10)
    ppv, npv = predictive_values(point.sensitivity.value, point.specificity.value, y.mean())
    assert ppv == pytest.approx(point.ppv.value, nan_ok=True)
    assert npv == pytest.approx(point.npv.value, nan_ok=True)


def test_predictive_values_undefined():
    assert math.isnan(predictive_values(0.0, 1.0, 0.5).ppv)
    assert predictive_values(0.0, 1.0, 0.5).npv == 0.5
    assert all(math.isnan(value) for value in predictive_values(math.nan, 0.9, 0.1))
    with pytest.raises(ValueError, match="prevalence"):
        predictive_values(0.9, 0.9, 1.5)
