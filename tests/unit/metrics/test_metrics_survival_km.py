"""Step curves against lifelines, scikit-survival and SurvivalEVAL, and their invariants."""

import math

import numpy as np
import pytest
from censored import SCENARIOS, outcomes, scenario
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import AalenJohansenFitter, KaplanMeierFitter
from sksurv import nonparametric as sk
from SurvivalEVAL.nonparametric_estimator.competing_risks.aalen_johansen import (
    AalenJohansenCompetingRisks,
)

from medray.metrics.survival.inputs import incidence_grid
from medray.metrics.survival.km import aalen_johansen, censoring_distribution, kaplan_meier

SEEDS = range(3)


@st.composite
def small_outcomes(draw, causes=2):
    rows = draw(st.integers(1, 25))
    time = np.array(draw(st.lists(st.integers(1, 8), min_size=rows, max_size=rows)), dtype=float)
    event = draw(st.lists(st.integers(0, causes), min_size=rows, max_size=rows))
    return time, np.array(event)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_survival_and_its_interval(name, seed):
    time, event = scenario(name, seed)
    curve = kaplan_meier(time, event)
    distinct, survival, (low, high) = sk.kaplan_meier_estimator(
        event > 0, time, conf_type="log-log"
    )
    np.testing.assert_array_equal(curve.time, distinct)
    np.testing.assert_allclose(curve.estimate, survival, atol=1e-12)
    inside = (survival > 0.0) & (survival < 1.0)
    np.testing.assert_allclose(curve.low[inside], low[inside], atol=1e-12)
    np.testing.assert_allclose(curve.high[inside], high[inside], atol=1e-12)
    assert np.isnan(curve.low[~inside]).all()
    assert np.isnan(curve.high[~inside]).all()


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("name", SCENARIOS)
def test_survival_is_lifelines(name, level):
    time, event = scenario(name, 1)
    curve = kaplan_meier(time, event > 0, level)
    fitted = KaplanMeierFitter(alpha=1.0 - level).fit(time, event > 0)
    np.testing.assert_allclose(curve.estimate, fitted.predict(curve.time), atol=1e-12)
    table = fitted.event_table.loc[curve.time]
    np.testing.assert_array_equal(curve.at_risk, table["at_risk"])
    np.testing.assert_array_equal(curve.events, table["observed"])
    np.testing.assert_array_equal(curve.censored, table["censored"])
    bounds = fitted.confidence_interval_.loc[curve.time].to_numpy()
    inside = (curve.estimate > 0.0) & (curve.estimate < 1.0)
    np.testing.assert_allclose(curve.low[inside], bounds[inside, 0], atol=1e-10)
    np.testing.assert_allclose(curve.high[inside], bounds[inside, 1], atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_censoring_is_scikit_survivals(name, seed):
    time, event = scenario(name, seed, causes=2)
    censoring = censoring_distribution(time, event)
    distinct, free = sk.kaplan_meier_estimator(event > 0, time, reverse=True)
    np.testing.assert_array_equal(censoring.time, distinct)
    np.testing.assert_allclose(censoring.free, free, atol=1e-12)
    weight = censoring.weight(time)
    assert np.isnan(weight[time > censoring.last]).all()
    assert np.isfinite(weight[time <= censoring.last]).all()


@pytest.mark.parametrize("cause", [1, 2, 3])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_incidence_and_its_variance(name, seed, cause):
    time, event = scenario(name, seed, causes=3)
    curve = aalen_johansen(time, event, cause)
    fitted = AalenJohansenCompetingRisks(3).fit(time, event)
    expected = fitted.predict_cif(curve.time)[:, cause - 1]
    variance = fitted.predict_cif_variance(curve.time)[:, cause - 1]
    np.testing.assert_allclose(curve.estimate, expected, atol=1e-12)
    np.testing.assert_allclose(curve.std_error**2, variance, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_incidence_is_lifelines(seed):
    time, event = scenario("no ties", seed, causes=2)
    curve = aalen_johansen(time, event, 2)
    fitted = AalenJohansenFitter().fit(time, event, 2)
    expected = fitted.cumulative_density_.loc[curve.time].to_numpy().ravel()
    np.testing.assert_allclose(curve.estimate, expected, atol=1e-12)
    variance = fitted.variance_.loc[curve.time].to_numpy().ravel()
    np.testing.assert_allclose(curve.std_error**2, variance, atol=1e-12)


@given(small_outcomes())
@settings(max_examples=80, deadline=None)
def test_incidences_and_survival_share_one(case):
    time, event = case
    survival = kaplan_meier(time, event)
    first, second = (aalen_johansen(time, event, cause) for cause in (1, 2))
    total = survival.estimate + first.estimate + second.estimate
    np.testing.assert_allclose(total, 1.0, atol=1e-12)
    assert (np.diff(survival.estimate) <= 0.0).all()
    assert (np.diff(first.estimate) >= 0.0).all()
    assert first.complete == second.complete == survival.complete


@given(small_outcomes(causes=1))
@settings(max_examples=80, deadline=None)
def test_one_cause_is_one_minus_survival(case):
    time, event = case
    survival, incidence = kaplan_meier(time, event), aalen_johansen(time, event)
    np.testing.assert_allclose(incidence.estimate, 1.0 - survival.estimate, atol=1e-12)
    np.testing.assert_allclose(incidence.low, 1.0 - survival.high, atol=1e-9)
    np.testing.assert_allclose(incidence.high, 1.0 - survival.low, atol=1e-9)


@given(small_outcomes())
@settings(max_examples=60, deadline=None)
def test_survival_times_censoring_is_the_share_still_followed(case):
    time, event = case
    survival, censoring = kaplan_meier(time, event), censoring_distribution(time, event)
    followed = [np.mean(time > t) for t in survival.time]
    np.testing.assert_allclose(survival.estimate * censoring.free, followed, atol=1e-12)


def test_reading_between_and_past_the_times():
    curve = kaplan_meier([2, 4, 4, 7], [1, 1, 0, 0])
    assert curve.at([0, 1.9, 2, 3.9, 4, 7]).tolist() == [1, 1, 0.75, 0.75, 0.5, 0.5]
    assert math.isnan(curve.at([7.1])[0])
    assert curve.at_risk_at([0, 2, 2.1, 4, 5, 7, 8]).tolist() == [4, 4, 3, 3, 1, 1, 0]
    assert not curve.complete
    ended = kaplan_meier([2, 4], [1, 1])
    assert ended.complete
    assert ended.at([100.0])[0] == 0.0
    interval = curve.interval_at(2)
    assert 0.0 < interval.low < interval.value == 0.75 < interval.high < 1.0
    assert math.isnan(curve.interval_at(1).low)
    assert curve.interval_at(1).value == 1.0
    assert math.isnan(curve.interval_at(8).value)


def test_nobody():
    curve = kaplan_meier([], [])
    assert np.isnan(curve.at([1.0])).all()
    assert curve.at_risk_at([1.0]).tolist() == [0]
    with pytest.raises(ValueError, match="at least one row"):
        censoring_distribution([], [])


def test_only_censored_and_only_events():
    assert kaplan_meier([1, 2], [0, 0]).estimate.tolist() == [1.0, 1.0]
    assert censoring_distribution([1, 2], [1, 1]).free.tolist() == [1.0, 1.0]
    none_left = censoring_distribution([1, 2], [0, 0])
    assert none_left.free.tolist() == [0.5, 0.0]
    assert none_left.last == 1.0
    assert math.isnan(censoring_distribution([1], [0]).last)


def test_the_interval_covers():
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(300):
        time, event = outcomes(rng, 100, 0.4, ties=False)
        interval = kaplan_meier(time, event).interval_at(4.05)
        covered.append(interval.low <= _true_survival(4.0) <= interval.high)
    assert 0.92 <= np.mean(covered) <= 0.98


def _true_survival(t):
    """Whether a row is censored is drawn apart from its time: the hazard is .6 of the whole."""
    return math.exp(-0.6 * t / 6.0)


@pytest.mark.parametrize(
    ("time", "event", "message"),
    [
        ([1, 0], [1, 0], "above 0"),
        ([1, -2], [1, 0], "above 0"),
        ([1, math.nan], [1, 0], "non-finite"),
        ([1, math.inf], [1, 0], "non-finite"),
        ([1, 2], [1, math.nan], "non-finite"),
        ([1, 2], [1, 0.5], "causes"),
        ([1, 2], [1, -1], "causes"),
        ([1, 2], [1], "length"),
        (["a", "b"], [1, 0], "numeric"),
    ],
)
@pytest.mark.parametrize("estimate", [kaplan_meier, censoring_distribution, aalen_johansen])
def test_outcomes_are_checked(estimate, time, event, message):
    with pytest.raises(ValueError, match=message):
        estimate(time, event)


def test_cause_and_level_are_checked():
    with pytest.raises(ValueError, match="cause"):
        aalen_johansen([1], [1], cause=0)
    with pytest.raises(ValueError, match="level"):
        kaplan_meier([1], [1], level=1.0)


def test_rounding_is_cut_off():
    summed = np.cumsum(np.full((1, 10), 0.1, dtype=np.float32), axis=1) + np.float32(1e-6)
    assert summed[0, -1] > 1.0
    read, _ = incidence_grid(summed, np.arange(1, 11), 1)
    assert read[0, [4, 9]].tolist() == [float(summed[0, 4]), 1.0]


@pytest.mark.parametrize(
    ("incidence", "times", "message"),
    [
        ([[0.9, 0.5]], [1, 2], "must not fall"),  # a survival curve
        ([[0.1, 1.1]], [1, 2], r"\[0, 1\]"),
        ([[0.1, math.nan]], [1, 2], "non-finite"),
        ([[0.1]], [1, 2], "shape"),
        ([[0.1, 0.2]], [2, 1], "rise"),
        ([[0.1, 0.2]], [-1, 1], "at least 0"),
        ([[]], [], "at least one"),
    ],
)
def test_a_grid_is_checked(incidence, times, message):
    with pytest.raises(ValueError, match=message):
        incidence_grid(incidence, times, 1)
