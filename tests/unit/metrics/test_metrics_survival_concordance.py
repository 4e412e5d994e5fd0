"""Concordance against scikit-survival, SurvivalEVAL, lifelines and all pairs one by one."""

import math
from functools import partial

import numpy as np
import pytest
from censored import SCENARIOS, incidences, outcomes, risks, scenario, surv
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.utils import concordance_index
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw
from SurvivalEVAL import concordance_cr_per_event, concordance_time_dependent

from medray.metrics.bootstrap import patient_bootstrap
from medray.metrics.survival.concordance import antolini_c, harrell_c, uno_c
from medray.metrics.survival.km import censoring_distribution

SEEDS = range(3)


@st.composite
def cases(draw, causes=1, unique_risks=False):
    rows = draw(st.integers(2, 25))
    time = np.array(draw(st.lists(st.integers(1, 8), min_size=rows, max_size=rows)), dtype=float)
    event = np.array(draw(st.lists(st.integers(0, causes), min_size=rows, max_size=rows)))
    if unique_risks:
        risk = np.array(draw(st.permutations(range(rows))), dtype=float)
    else:
        risk = np.array(draw(st.lists(st.integers(-3, 3), min_size=rows, max_size=rows))) / 2
    return time, event, risk


def all_pairs(time, event, wins, cause=1, weight=None, tau=math.inf):
    """Concordance as its definition says; `wins(i, j)` is 1, ½ or 0 and `weight` 1 / G."""
    weight = np.ones(time.size) if weight is None else weight
    top = bottom = 0.0
    for i in np.flatnonzero((event == cause) & (time < tau)):
        for j in range(time.size):
            followed = time[j] > time[i] or (time[j] == time[i] and event[j] == 0)
            competing = event[j] not in (0, cause) and time[j] <= time[i]
            if followed or competing:
                pair = weight[i] * (weight[i] if followed else weight[j])
                bottom += pair
                top += pair * wins(i, j)
    return top / bottom if bottom else math.nan


def by_risk(risk):
    return lambda i, j: 0.5 * (risk[i] >= risk[j]) + 0.5 * (risk[i] > risk[j])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_harrell_is_scikit_survivals(name, seed):
    time, event = scenario(name, seed)
    risk = risks(np.random.default_rng(seed), time)
    expected = concordance_index_censored(event > 0, time, risk)[0]
    assert harrell_c(time, event, risk) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_harrell_is_lifelines_without_tied_times(seed):
    time, event = scenario("no ties", seed)
    risk = risks(np.random.default_rng(seed), time)
    expected = concordance_index(time, -risk, event)
    assert harrell_c(time, event, risk) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("tau", [3.0, 6.0, 12.0])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["ties", "no ties", "all events", "many rows"])
def test_uno_is_scikit_survivals(name, seed, tau):
    train, (time, event) = scenario(name, seed + 100), scenario(name, seed)
    risk = risks(np.random.default_rng(seed), time)
    censoring = censoring_distribution(*train)
    assert censoring.last >= tau
    expected = concordance_index_ipcw(surv(*train), surv(time, event), risk, tau)[0]
    assert uno_c(time, event, risk, censoring=censoring, tau=tau) == pytest.approx(
        expected, abs=1e-12
    )


@pytest.mark.parametrize("cause", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_competing_causes_are_survivalevals(seed, cause):
    # SurvivalEVAL reads G just before a time: with events and censorings apart, that is the same.
    train = outcomes(np.random.default_rng(seed + 100), 300, causes=3, apart=True)
    time, event = outcomes(np.random.default_rng(seed), 300, causes=3, apart=True)
    risk = risks(np.random.default_rng(seed), time)
    tau = min(25.0, censoring_distribution(*train).last)
    naive = concordance_cr_per_event(risk, time, event, event_of_interest=cause)[0]
    assert harrell_c(time, event, risk, cause) == pytest.approx(naive, abs=1e-10)
    weighted = concordance_cr_per_event(
        risk, time, event, *train, method="IPCW", tau=tau, event_of_interest=cause
    )[0]
    found = uno_c(time, event, risk, censoring=censoring_distribution(*train), tau=tau, cause=cause)
    assert found == pytest.approx(weighted, abs=1e-10)


@given(cases(causes=3), st.integers(1, 3))
@settings(max_examples=120, deadline=None)
def test_every_pair(case, cause):
    time, event, risk = case
    expected = all_pairs(time, event, by_risk(risk), cause)
    assert harrell_c(time, event, risk, cause) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    train = outcomes(np.random.default_rng(0), 200)
    censoring = censoring_distribution(*train)
    weight = 1.0 / np.array([censoring.free[censoring.time <= t][-1] for t in time])
    expected = all_pairs(time, event, by_risk(risk), cause, weight, tau=6.5)
    found = uno_c(time, event, risk, censoring=censoring, tau=6.5, cause=cause)
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_many_rows_are_counted_as_few_are():
    time, event = outcomes(np.random.default_rng(8), 330, causes=2)
    risk = risks(np.random.default_rng(9), time)
    expected = all_pairs(time, event, by_risk(risk))
    assert harrell_c(time, event, risk) == pytest.approx(expected, abs=1e-13)


@given(cases(causes=2))
@settings(max_examples=80, deadline=None)
def test_order_alone_matters(case):
    time, event, risk = case
    censoring = censoring_distribution(*outcomes(np.random.default_rng(0), 200))
    for statistic in (harrell_c, partial(uno_c, censoring=censoring)):
        value = statistic(time, event, risk)
        np.testing.assert_equal(statistic(time, event, np.exp(risk) * 3 + 1), value)
        np.testing.assert_allclose(statistic(time[::-1], event[::-1], risk[::-1]), value)
        assert math.isnan(value) or 0.0 <= value <= 1.0
    same = harrell_c(time, event, np.zeros(time.size))
    assert math.isnan(same) or same == 0.5


@given(cases(causes=2, unique_risks=True))
@settings(max_examples=60, deadline=None)
def test_reversed_risks_give_the_rest(case):
    time, event, risk = case
    censoring = censoring_distribution(*outcomes(np.random.default_rng(0), 200))
    for statistic in (harrell_c, partial(uno_c, censoring=censoring)):
        forward, backward = statistic(time, event, risk), statistic(time, event, -risk)
        assert math.isnan(forward) == math.isnan(backward)
        assert math.isnan(forward) or forward + backward == pytest.approx(1.0, abs=1e-12)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_without_censoring_uno_is_harrell(case):
    time, _, risk = case
    event = np.ones(time.size, dtype=bool)
    censoring = censoring_distribution(time, event)
    np.testing.assert_equal(
        uno_c(time, event, risk, censoring=censoring), harrell_c(time, event, risk)
    )


def test_perfect_and_perfectly_wrong():
    time, event = outcomes(np.random.default_rng(2), 300, ties=False)
    censoring = censoring_distribution(time, event)
    for statistic in (harrell_c, partial(uno_c, censoring=censoring, tau=censoring.last)):
        assert statistic(time, event, -time) == 1.0
        assert statistic(time, event, time) == 0.0


@pytest.mark.parametrize(
    ("time", "event"),
    [
        ([], []),
        ([1.0], [1]),
        ([1.0, 2.0], [0, 0]),  # no events
        ([1.0, 2.0], [0, 1]),  # nobody followed past the event
        ([2.0, 2.0], [1, 1]),  # together
    ],
)
def test_no_pair_is_nan(time, event):
    risk = np.arange(len(time))
    censoring = censoring_distribution([1, 2, 3], [1, 0, 1])
    assert math.isnan(harrell_c(time, event, risk))
    assert math.isnan(uno_c(time, event, risk, censoring=censoring))
    assert math.isnan(antolini_c(time, event, np.zeros((len(time), 1)), [9.0]))


def test_two_rows():
    assert harrell_c([1, 2], [1, 0], [0.9, 0.1]) == 1.0
    assert harrell_c([1, 2], [1, 0], [0.1, 0.9]) == 0.0
    assert harrell_c([1, 2], [1, 1], [0.5, 0.5]) == 0.5
    assert harrell_c([2, 2], [1, 0], [0.9, 0.1]) == 1.0  # censored together with it: later
    assert harrell_c([2, 1], [1, 2], [0.9, 0.1]) == 1.0  # had the other cause before


def test_uno_needs_the_censoring_known():
    # Followed to 5 in training; an event at 6 with someone after it has no weight.
    censoring = censoring_distribution([1, 2, 5], [1, 0, 1])
    time, event, risk = [1, 6, 7], [1, 1, 0], [3, 2, 1]
    assert math.isnan(uno_c(time, event, risk, censoring=censoring))
    assert uno_c(time, event, risk, censoring=censoring, tau=censoring.last) == 1.0
    # The last event has nobody after it and needs none.
    assert uno_c([1, 6], [1, 1], [3, 2], censoring=censoring) == 1.0
    # A competing event past the known time, before an event, neither.
    assert math.isnan(uno_c([1, 6, 7, 8], [1, 2, 1, 0], np.arange(4), censoring=censoring))
    with pytest.raises(ValueError, match="tau"):
        uno_c(time, event, risk, censoring=censoring, tau=0.0)


@pytest.mark.parametrize(
    "risk", [[1.0], [1.0, math.nan], [1.0, math.inf], ["a", "b"], [[1.0, 2.0]]]
)
def test_risks_are_checked(risk):
    with pytest.raises(ValueError, match="risk"):
        harrell_c([1, 2], [1, 0], risk)
    with pytest.raises(ValueError, match="risk"):
        uno_c([1, 2], [1, 0], risk, censoring=censoring_distribution([1, 2], [1, 0]))


@pytest.mark.parametrize("points", [1, 4, 15, 60])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["ties", "heavy censoring", "all events", "few rows"])
def test_antolini_over_all_pairs(name, seed, points):
    time, event = scenario(name, seed, causes=2)
    times = np.linspace(0.5, 15.0, points) if points > 1 else np.array([4.0])
    curves = incidences(np.random.default_rng(seed), time, times)

    def wins(i, j):
        step = np.flatnonzero(times <= time[i])
        own, other = (curves[i, step[-1]], curves[j, step[-1]]) if step.size else (0.0, 0.0)
        return 0.5 * (own >= other) + 0.5 * (own > other)

    inside = np.nextafter(times[-1], math.inf)  # events at the last grid time count
    expected = all_pairs(time, event, wins, tau=inside)
    found = antolini_c(time, event, curves, times)
    assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["ties", "no ties", "all events", "many rows"])
def test_antolini_is_survivalevals(name, seed):
    time, event = scenario(name, seed)
    times = np.linspace(0.5, time.max(), 25)
    curves = incidences(np.random.default_rng(seed), time, times)
    step = np.searchsorted(times, time[event > 0], side="right")
    at_events = np.pad(curves, ((0, 0), (1, 0)))[:, step]
    expected = concordance_time_dependent(at_events, time, event)[0]
    assert antolini_c(time, event, curves, times) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_antolini_of_curves_that_never_cross_is_harrell(seed):
    time, event = scenario("many rows", seed, causes=2)
    risk = risks(np.random.default_rng(seed), time)
    times = np.linspace(0.01, time.max(), 30)
    curves = 1.0 - np.exp(-0.01 * np.exp(risk)[:, None] * times)
    assert antolini_c(time, event, curves, times) == harrell_c(time, event, risk)


def test_interval_by_patients():
    rng = np.random.default_rng(0)
    time, event = outcomes(rng, 200, ties=False)
    risk = risks(rng, time)
    visits = np.repeat(np.arange(200), 5)  # each patient's five visits say the same
    censoring = censoring_distribution(time, event)
    uno = partial(uno_c, censoring=censoring, tau=10.0)
    arrays = [time[visits], event[visits], risk[visits]]
    clustered = patient_bootstrap(uno, visits, arrays, replicates=200, seed=1)
    single = patient_bootstrap(uno, np.arange(200), [time, event, risk], replicates=200, seed=1)
    rows = patient_bootstrap(uno, np.arange(1000), arrays, replicates=200, seed=1)
    assert clustered.low < clustered.value < clustered.high
    assert (clustered.low, clustered.high) == pytest.approx((single.low, single.high), abs=1e-12)
    assert rows.high - rows.low < 0.7 * (clustered.high - clustered.low)
