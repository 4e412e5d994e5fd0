"""Risk groups, the log-rank test and calibration at a horizon against their oracles."""

import math
from itertools import pairwise

import numpy as np
import pytest
from censored import SCENARIOS, outcomes, risks, scenario, surv
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test
from sksurv.compare import compare_survival
from SurvivalEVAL import one_calibration, one_calibration_cr

from medray.metrics.survival.calibration import horizon_calibration
from medray.metrics.survival.groups import curves_by_risk, logrank_test, quantile_groups
from medray.metrics.survival.km import aalen_johansen

SEEDS = range(3)


# lifelines calls pandas in a way that pandas 4 will refuse.
@pytest.mark.filterwarnings("ignore:.*will be keyword-only")
@pytest.mark.parametrize("groups", [2, 3, 5])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["ties", "no ties", "all events", "many rows"])
def test_logrank_is_the_oracles(name, seed, groups):
    time, event = scenario(name, seed)
    group = quantile_groups(risks(np.random.default_rng(seed), time, 6), groups)
    found = logrank_test(time, event, group)
    statistic, p = compare_survival(surv(time, event), group)
    assert found.statistic == pytest.approx(statistic, rel=1e-9)
    assert found.p == pytest.approx(p, rel=1e-9, abs=1e-12)
    assert found.degrees == groups - 1
    fitted = multivariate_logrank_test(time, group, event)
    assert found.statistic == pytest.approx(fitted.test_statistic, rel=1e-9)
    assert found.p == pytest.approx(fitted.p_value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_logrank_of_one_cause_takes_the_others_as_censored(seed):
    time, event = scenario("many rows", seed, causes=2)
    names = np.array(["a", "b", "c"])[np.random.default_rng(seed).integers(0, 3, time.size)]
    found = logrank_test(time, event, names, cause=2)
    assert found.statistic == pytest.approx(
        compare_survival(surv(time, event == 2), names)[0], rel=1e-9
    )


def test_logrank_keeps_its_level():
    rng = np.random.default_rng(7)
    rejected = 0
    for _ in range(400):
        time, event = outcomes(rng, 80, ties=False)
        rejected += logrank_test(time, event, rng.integers(0, 3, 80)).p < 0.05
    assert 0.025 <= rejected / 400 <= 0.08


@pytest.mark.parametrize(
    ("time", "event", "group"),
    [
        ([], [], []),
        ([1, 2, 3], [1, 1, 0], [0, 0, 0]),  # one group
        ([1, 2, 3], [0, 0, 0], [0, 1, 1]),  # no events
        ([1, 2, 2], [0, 1, 1], [0, 1, 1]),  # nobody of the other group at risk
        ([1, 1], [1, 1], [0, 1]),  # all end at once: no variance
    ],
)
def test_logrank_without_a_comparison_is_nan(time, event, group):
    found = logrank_test(time, event, np.array(group, dtype=int))
    assert math.isnan(found.statistic)
    assert math.isnan(found.p)


def test_logrank_leaves_out_a_group_nobody_of_whom_was_at_risk():
    time, event = np.array([1, 2, 3, 4, 5, 6.0]), np.array([0, 1, 1, 1, 0, 1])
    found = logrank_test(time, event, ["early", "a", "b", "a", "b", "b"])
    without = logrank_test(time[1:], event[1:], ["a", "b", "a", "b", "b"])
    assert found.degrees == without.degrees == 1
    assert found.statistic == pytest.approx(without.statistic, rel=1e-12)


def test_logrank_checks_its_groups():
    with pytest.raises(ValueError, match="group"):
        logrank_test([1, 2], [1, 0], [0])
    with pytest.raises(ValueError, match="group"):
        logrank_test([1, 2], [1, 0], ["a", None])


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=40), st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_groups_rise_with_risk_and_keep_equal_risks_together(risk, groups):
    group = quantile_groups(risk, groups)
    assert sorted(set(group)) == list(range(group.max() + 1))
    assert group.max() < groups
    for a, b in zip(risk, group, strict=True):
        for c, d in zip(risk, group, strict=True):
            assert (b <= d) if a <= c else (b >= d)
            assert (b == d) or (a != c)


def test_groups_are_of_equal_size_without_ties():
    group = quantile_groups(np.random.default_rng(0).permutation(90), 3)
    assert np.bincount(group).tolist() == [30, 30, 30]
    with pytest.raises(ValueError, match="groups"):
        quantile_groups([1, 2], 0)
    assert quantile_groups([], 3).size == 0


@pytest.mark.parametrize("name", SCENARIOS)
def test_curves_by_tertile(name):
    time, event = scenario(name, 2)
    risk = risks(np.random.default_rng(2), time, 6)
    groups = curves_by_risk(time, event, risk)
    assert sum(group.rows for group in groups) == time.size
    assert sum(group.events for group in groups) == np.count_nonzero(event)
    assert len(groups) == 3
    for low, high in pairwise(groups):
        assert low.highest_risk < high.lowest_risk
    for group in groups:
        rows = (risk >= group.lowest_risk) & (risk <= group.highest_risk)
        fitted = KaplanMeierFitter().fit(time[rows], event[rows])
        np.testing.assert_allclose(group.curve.estimate, fitted.predict(group.curve.time))
        at = [0.0, 1.0, 3.5]
        assert group.curve.at_risk_at(at).tolist() == [(time[rows] >= t).sum() for t in at]


def test_curves_of_a_competing_cause_are_its_incidence():
    time, event = scenario("many rows", 0, causes=2)
    risk = risks(np.random.default_rng(0), time)
    group = curves_by_risk(time, event, risk, 2, cause=2)[1]
    rows = risk >= group.lowest_risk
    expected = aalen_johansen(time[rows], event[rows], 2)
    np.testing.assert_array_equal(group.curve.estimate, expected.estimate)
    assert group.events == np.count_nonzero(event[rows] == 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cause", [None, 1, 2])
def test_calibration_is_survivalevals(seed, cause):
    rng = np.random.default_rng(seed)
    time, event = outcomes(rng, 300, causes=2 if cause else 1)
    predicted = rng.permutation(300) / 300  # no ties: the groups are then the same
    found = horizon_calibration(time, event, predicted, 5.0, groups=10, cause=cause or 1)
    if cause is None:
        details = one_calibration(predicted, time, event, 5.0, return_details=True)[1]
    else:
        details = one_calibration_cr(
            predicted, time, event, 5.0, event_of_interest=cause, return_details=True
        )[1]
    np.testing.assert_array_equal(found.count, details["bin_sizes"][::-1])
    np.testing.assert_allclose(found.predicted, details["expected_probabilities"][::-1])
    np.testing.assert_allclose(found.observed, details["observed_probabilities"][::-1], atol=1e-12)
    gap = np.abs(found.predicted - found.observed)
    assert found.mean_difference == pytest.approx(np.average(gap, weights=found.count))
    assert found.bias == pytest.approx(np.average(found.predicted - found.observed))
    assert found.left_out == 0


def test_calibration_bounds_hold_the_truth():
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(60):
        rate = rng.uniform(0.02, 0.3, 400)
        event_time, end = rng.exponential(1 / rate), rng.exponential(15.0, 400)
        time, event = np.minimum(event_time, end), event_time <= end
        truth = 1.0 - np.exp(-rate * 5.0)
        found = horizon_calibration(time, event, truth, 5.0, groups=5)
        inside.extend((found.low <= found.predicted) & (found.predicted <= found.high))
        assert found.mean_difference < 0.12
        doubled = horizon_calibration(time, event, np.minimum(1.0, truth + 0.2), 5.0, groups=5)
        assert doubled.bias == pytest.approx(found.bias + 0.2, abs=0.05)
    assert 0.92 <= np.mean(inside) <= 0.98


def test_few_rows_make_fewer_groups():
    time, event = outcomes(np.random.default_rng(0), 65)
    risk = np.linspace(0.1, 0.9, 65)
    found = horizon_calibration(time, event, risk, 3.0)
    assert found.count.tolist() == [22, 21, 22]
    gap = found.predicted - found.observed
    assert found.bias == pytest.approx((22 * gap[0] + 21 * gap[1] + 22 * gap[2]) / 65, abs=1e-12)
    assert horizon_calibration(time[:10], event[:10], risk[:10], 3.0).count.tolist() == [10]
    assert horizon_calibration(time, event, risk, 3.0, least=5).count.size == 10
    assert horizon_calibration(time, event, np.full(65, 0.3), 3.0).count.tolist() == [65]


def test_a_group_not_followed_to_the_horizon_is_left_out():
    time = np.array([1.0, 2.0, 3.0, 9.0])
    found = horizon_calibration(time, [1, 0, 1, 0], [0.1, 0.2, 0.8, 0.9], 5.0, groups=2, least=2)
    assert math.isnan(found.observed[0])
    assert math.isnan(found.low[0])
    assert found.observed[1] == 0.5
    assert found.left_out == 2
    assert found.mean_difference == pytest.approx(0.35)
    nowhere = horizon_calibration(time, [1, 0, 1, 0], [0.1, 0.2, 0.8, 0.9], 50.0)
    assert math.isnan(nowhere.mean_difference)
    assert math.isnan(nowhere.bias)
    assert nowhere.left_out == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"risk": [0.1, 1.2]}, r"\[0, 1\]"),
        ({"risk": [0.1]}, "risk"),
        ({"horizon": 0.0}, "horizon"),
        ({"horizon": math.inf}, "horizon"),
        ({"horizon": math.nan}, "horizon"),
        ({"groups": 0}, "groups"),
        ({"least": 0}, "least"),
        ({"time": [], "event": [], "risk": []}, "at least one row"),
    ],
)
def test_calibration_inputs_are_checked(changed, message):
    given = {"time": [1, 2], "event": [1, 0], "risk": [0.1, 0.2], "horizon": 1.0}
    with pytest.raises(ValueError, match=message):
        horizon_calibration(**(given | changed))
