"""Dynamic AUC and Brier score against scikit-survival, SurvivalEVAL and their invariants."""

import math

import numpy as np
import pytest
from censored import incidences, outcomes, risks, scenario, surv
from hypothesis import given, settings
from hypothesis import strategies as st
from sksurv import metrics as sk
from SurvivalEVAL import auc_cr_per_event
from SurvivalEVAL.evaluations.prediction_error import brier_multiple_points_cr_per_event

from medray.metrics.bootstrap import patient_bootstrap
from medray.metrics.discrimination import auroc
from medray.metrics.survival.brier import brier_score, integrated_brier_score
from medray.metrics.survival.dynamic_auc import dynamic_auc, mean_dynamic_auc
from medray.metrics.survival.km import aalen_johansen, censoring_distribution, kaplan_meier

SEEDS = range(3)
NAMES = ["ties", "no ties", "heavy censoring", "all events", "many rows"]
TIMES = np.array([1.0, 2.5, 4.0, 6.0])


def train_and_test(name, seed):
    """A training and a test sample; all times that are asked for lie within both."""
    train, (time, event) = scenario(name, seed + 100), scenario(name, seed)
    censoring = censoring_distribution(*train)
    # scikit-survival refuses rows past the training sample's last time.
    keep = time <= censoring.last
    assert time[keep].max() > TIMES[-1]
    return train, time[keep], event[keep], censoring


@st.composite
def cases(draw):
    rows = draw(st.integers(2, 25))
    time = np.array(draw(st.lists(st.integers(1, 8), min_size=rows, max_size=rows)), dtype=float)
    event = np.array(draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows)))
    risk = np.array(draw(st.lists(st.integers(-3, 3), min_size=rows, max_size=rows))) / 2
    return time, event, risk


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_areas_are_scikit_survivals(name, seed):
    train, time, event, censoring = train_and_test(name, seed)
    rng = np.random.default_rng(seed)
    for risk in (risks(rng, time), incidences(rng, time, TIMES)):
        found = dynamic_auc(time, event, risk, TIMES, censoring=censoring)
        mean = mean_dynamic_auc(time, event, risk, TIMES, censoring=censoring)
        # Without a case by a time scikit-survival divides 0 by 0.
        with np.errstate(invalid="ignore"):
            expected, expected_mean = sk.cumulative_dynamic_auc(
                surv(*train), surv(time, event), risk, TIMES
            )
        np.testing.assert_allclose(found, expected, atol=1e-12)
        if np.isfinite(expected).all():
            assert mean == pytest.approx(expected_mean, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_scores_are_scikit_survivals(name, seed):
    train, time, event, censoring = train_and_test(name, seed)
    curves = incidences(np.random.default_rng(seed), time, TIMES)
    arguments = (surv(*train), surv(time, event), 1.0 - curves, TIMES)
    found = brier_score(time, event, curves, TIMES, censoring=censoring)
    np.testing.assert_allclose(found, sk.brier_score(*arguments)[1], atol=1e-12)
    integral = integrated_brier_score(time, event, curves, TIMES, censoring=censoring)
    assert integral == pytest.approx(sk.integrated_brier_score(*arguments), abs=1e-12)


@pytest.mark.parametrize("cause", [1, 2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_competing_causes_are_survivalevals(seed, cause):
    # SurvivalEVAL reads G just before a time, and a row censored at t as event-free: events at odd
    # times, censorings at even ones and horizons between make both the same.
    train = outcomes(np.random.default_rng(seed + 100), 250, causes=3, apart=True)
    time, event = outcomes(np.random.default_rng(seed), 250, causes=3, apart=True)
    censoring = censoring_distribution(*train)
    times = np.array([4.5, 8.5, 14.5])
    assert censoring.last > times[-1]
    curves = incidences(np.random.default_rng(seed), time, times)
    areas = [
        auc_cr_per_event(
            curves[:, k], time, event, t, *train, method="IPCW", event_of_interest=cause
        )
        for k, t in enumerate(times)
    ]
    found = dynamic_auc(time, event, curves, times, censoring=censoring, cause=cause)
    np.testing.assert_allclose(found, areas, atol=1e-10)
    scores = brier_multiple_points_cr_per_event(
        curves, time, event, *train, times, event_of_interest=cause
    )
    found = brier_score(time, event, curves, times, censoring=censoring, cause=cause)
    np.testing.assert_allclose(found, scores, atol=1e-10)


@pytest.mark.parametrize("cause", [1, 2])
def test_competing_mean_is_weighted_by_its_incidence(cause):
    time, event = outcomes(np.random.default_rng(4), 200, causes=2)
    risk = risks(np.random.default_rng(5), time)
    censoring = censoring_distribution(time, event)
    area = dynamic_auc(time, event, risk, TIMES, censoring=censoring, cause=cause)
    incidence = aalen_johansen(time, event, cause).at(TIMES)
    expected = np.average(area, weights=np.diff(np.r_[0.0, incidence]))
    found = mean_dynamic_auc(time, event, risk, TIMES, censoring=censoring, cause=cause)
    assert found == pytest.approx(expected, abs=1e-12)


@given(cases(), st.integers(1, 2))
@settings(max_examples=80, deadline=None)
def test_without_censoring_they_are_the_plain_metrics(case, cause):
    time, event, risk = case
    event = np.maximum(event, 1)
    censoring = censoring_distribution(time, event)
    times = np.array([1.0, 3.0, 5.5, 7.0])
    happened = [(time <= t) & (event == cause) for t in times]
    found = dynamic_auc(time, event, risk, times, censoring=censoring, cause=cause)
    np.testing.assert_allclose(found, [auroc(y, risk) for y in happened], atol=1e-12)
    curves = incidences(np.random.default_rng(0), time, times)
    expected = [np.mean((y - curves[:, k]) ** 2) for k, y in enumerate(happened)]
    found = brier_score(time, event, curves, times, censoring=censoring, cause=cause)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_order_alone_matters_to_the_area(case):
    time, event, risk = case
    censoring = censoring_distribution(*outcomes(np.random.default_rng(0), 200))
    area = dynamic_auc(time, event, risk, TIMES, censoring=censoring)
    moved = dynamic_auc(time, event, np.exp(risk) + 2, TIMES, censoring=censoring)
    np.testing.assert_array_equal(moved, area)
    turned = dynamic_auc(time, event, -risk, TIMES, censoring=censoring)
    np.testing.assert_allclose(turned, 1.0 - area, atol=1e-12)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_the_perfect_forecast(case):
    time, event, _ = case
    censoring = censoring_distribution(*outcomes(np.random.default_rng(0), 200))
    truth = ((time[:, None] <= TIMES) & (event == 1)[:, None]).astype(float)
    score = brier_score(time, event, truth, TIMES, censoring=censoring)
    assert (score == 0.0).all()
    assert integrated_brier_score(time, event, truth, TIMES, censoring=censoring) == 0.0
    area = dynamic_auc(time, event, truth, TIMES, censoring=censoring)
    assert set(area[np.isfinite(area)]) <= {1.0}
    wrong = np.zeros((time.size, 1))
    assert brier_score(time, event, wrong, [8.0], censoring=censoring)[0] >= 0.0


def test_the_marginal_forecast_scores_its_variance():
    # Weighted by G of the same rows, the mean outcome is 1 − Kaplan-Meier: the score is S (1 − S).
    time, event = outcomes(np.random.default_rng(1), 300, ties=False)
    survival = kaplan_meier(time, event).at(TIMES)
    curves = np.tile(1.0 - survival, (time.size, 1))
    found = brier_score(time, event, curves, TIMES, censoring=censoring_distribution(time, event))
    np.testing.assert_allclose(found, survival * (1.0 - survival), atol=1e-12)


def test_the_integral_is_a_mean_over_time():
    time, event = outcomes(np.random.default_rng(1), 100)
    censoring = censoring_distribution(time, event)
    curves = incidences(np.random.default_rng(2), time, [1.0, 2.0, 5.0])
    score = brier_score(time, event, curves, [1.0, 2.0, 5.0], censoring=censoring)
    expected = ((score[0] + score[1]) / 2 * 1 + (score[1] + score[2]) / 2 * 3) / 4
    found = integrated_brier_score(time, event, curves, [1.0, 2.0, 5.0], censoring=censoring)
    assert found == pytest.approx(expected, abs=1e-14)
    with pytest.raises(ValueError, match="two times"):
        integrated_brier_score(time, event, curves[:, :1], [1.0], censoring=censoring)


def test_undefined_is_nan():
    censoring = censoring_distribution([1, 2, 5], [1, 0, 1])
    time, event, risk = [2, 4, 6], [1, 0, 0], [3.0, 1.0, 2.0]
    area = dynamic_auc(time, event, risk, [1, 2, 6], censoring=censoring)
    assert math.isnan(area[0])  # no case yet
    assert area[1] == 1.0
    assert math.isnan(area[2])  # no control left
    assert math.isnan(mean_dynamic_auc(time, [0, 0, 0], risk, [1, 2], censoring=censoring))
    # By 6 no event has come since 2, so that the undefined area there has no weight.
    assert mean_dynamic_auc(time, event, risk, [2, 6], censoring=censoring) == 1.0
    score = brier_score(time, event, np.full((3, 2), 0.5), [2, 5.5], censoring=censoring)
    assert np.isfinite(score[0])
    assert math.isnan(score[1])  # a row followed past what is known of the censoring
    integral = integrated_brier_score(
        time, event, np.full((3, 2), 0.5), [2, 5.5], censoring=censoring
    )
    assert math.isnan(integral)
    assert np.isnan(brier_score([], [], np.empty((0, 2)), [1, 2], censoring=censoring)).all()
    assert np.isnan(dynamic_auc([], [], [], [1, 2], censoring=censoring)).all()


def test_an_event_past_the_known_censoring_is_nan():
    censoring = censoring_distribution([1, 2, 3], [1, 1, 0])  # G falls to 0 at 3
    assert censoring.free.tolist() == [1.0, 1.0, 0.0]
    time, event = [1, 3, 9], [1, 1, 0]
    area = dynamic_auc(time, event, [3, 2, 1], [2, 4], censoring=censoring)
    assert area[0] == 1.0
    assert math.isnan(area[1])
    score = brier_score(time, event, np.zeros((3, 2)), [2, 4], censoring=censoring)
    assert score[0] == pytest.approx(1 / 3)
    assert math.isnan(score[1])


def test_competing_controls_need_the_censoring_at_the_time():
    censoring = censoring_distribution([1, 2, 3], [1, 1, 0])
    time, event = [1, 2, 9], [1, 2, 0]
    area = dynamic_auc(time, event, [3, 2, 1], [2.5, 4], censoring=censoring)
    assert area[0] == 1.0
    assert math.isnan(area[1])
    assert dynamic_auc(time, [1, 1, 0], [3, 2, 1], [4], censoring=censoring)[0] == 1.0


@pytest.mark.parametrize(
    ("risk", "times", "message"),
    [
        ([1.0], [1], "risk"),
        ([1.0, math.nan], [1], "risk"),
        ([[1.0, 2.0], [1.0, 2.0]], [1], "risk"),
        ([1.0, 2.0], [2, 1], "times"),
        ([1.0, 2.0], [], "times"),
        ([1.0, 2.0], [math.nan], "times"),
    ],
)
def test_inputs_are_checked(risk, times, message):
    with pytest.raises(ValueError, match=message):
        dynamic_auc([1, 2], [1, 0], risk, times, censoring=censoring_distribution([1, 2], [1, 0]))


def test_interval_by_patients():
    rng = np.random.default_rng(0)
    time, event = outcomes(rng, 150)
    curves = incidences(rng, time, TIMES)
    censoring = censoring_distribution(time, event)
    patient = np.arange(150) // 3

    def integral(time, event, curves):
        return integrated_brier_score(time, event, curves, TIMES, censoring=censoring)

    interval = patient_bootstrap(integral, patient, [time, event, curves], replicates=200, seed=1)
    assert interval.low < interval.value < interval.high
    assert interval.value == integral(time, event, curves)
    assert interval.dropped == 0
