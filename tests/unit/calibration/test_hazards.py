"""Hazards → incidence, and their likelihood, against explicit loops."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medray.calibration import hazards
from medray.models.hazard import log_odds_by, negative_log_likelihood


def by_loop(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Cumulative incidence of one item (K, C) → (C, K + 1), written out."""
    alive, curve = 1.0, [[0.0] * logits.shape[1]]
    for z in logits:
        total = 1 + sum(np.exp(one) for one in z)
        rise = [alive * np.exp(one) / total for one in z]
        curve.append([past + one for past, one in zip(curve[-1], rise, strict=True)])
        alive /= total
    return np.array(curve).T


@pytest.mark.parametrize("causes", [1, 3])
def test_incidence_is_that_of_the_loop(causes: int) -> None:
    logits = np.random.default_rng(0).normal(-1, 2, (7, 5, causes))
    found = hazards.incidence(logits)
    assert found.shape == (7, causes, 6)
    np.testing.assert_allclose(found, [by_loop(one) for one in logits], rtol=1e-12)


def test_one_cause_is_a_logistic_hazard() -> None:
    logits = np.array([[[0.3], [-1.0]]])
    stay = 1 / (1 + np.exp(logits[0, :, 0]))
    np.testing.assert_allclose(hazards.incidence(logits)[0, 0], [0, 1 - stay[0], 1 - stay.prod()])


def test_great_logits_overflow_nothing_and_nan_stays_nan() -> None:
    found = hazards.incidence(np.array([[[800.0], [0.0]], [[np.nan], [0.0]]]))
    np.testing.assert_allclose(found[0, 0], [0, 1, 1])
    assert np.isnan(found[1, 0, 1:]).all()


def test_between_edges_is_linear_and_past_the_last_constant() -> None:
    curves, edges = np.array([[0, 0.1, 0.4]]), [0.0, 10.0, 40.0]
    times = [0, 5, 10, 25, 40, 99]
    expected = np.interp(times, edges, curves[0])
    np.testing.assert_allclose(hazards.at(curves, edges, times)[0], expected)


def test_edges_hold_like_numbers_of_outcomes() -> None:
    rng = np.random.default_rng(1)
    days, happened = rng.exponential(100, 4000), rng.random(4000) < 0.4
    edges = hazards.edges_of(days, happened, 8, np.ones(4000))
    counts = np.histogram(days[happened], edges)[0]
    assert edges[0] == 0
    assert edges[-1] == days.max()
    assert len(edges) == 9
    assert counts.max() - counts.min() <= 2


def test_edges_of_few_times_are_fewer_and_of_none_an_error() -> None:
    days = np.array([5.0, 5.0, 9.0])
    np.testing.assert_array_equal(
        hazards.edges_of(days, np.array([True, True, False]), 8, np.ones(3)), [0, 5, 9]
    )
    with pytest.raises(ValueError, match="no outcome"):
        hazards.edges_of(days, np.zeros(3, bool), 8, np.ones(3))


EDGES = [0.0, 10.0, 30.0, 60.0]


def loss_by_loop(z: np.ndarray[Any, Any], days: float, cause: float) -> float:
    """Survived intervals whole, the last one in part; then the cause, when one came."""
    if days > EDGES[-1]:
        cause = 0
    loss = 0.0
    for k, (start, end) in enumerate(pairwise(EDGES)):
        stay = np.log(1 + np.exp(z[k]).sum())
        if days > end:
            loss += stay
            continue
        if cause:
            return float(loss + stay - z[k, int(cause) - 1])
        return float(loss + stay * (days - start) / (end - start))
    return float(loss)


@given(st.integers(0, 2**31 - 1), st.floats(0.01, 80), st.integers(0, 2))
def test_likelihood_is_that_of_the_loop(seed: int, days: float, cause: int) -> None:
    z = np.random.default_rng(seed).normal(-1, 1.5, (3, 2))
    found = negative_log_likelihood(
        torch.tensor(z, dtype=torch.float64)[None],
        torch.tensor([days], dtype=torch.float32),
        torch.tensor([float(cause)]),
        torch.tensor(EDGES, dtype=torch.float32),
    )
    expected = loss_by_loop(z, float(np.float32(days)), cause)
    assert float(found[0]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_what_is_not_known_costs_nothing_and_gives_no_gradient() -> None:
    logits = torch.zeros(2, 3, 1, requires_grad=True)
    days, cause = torch.tensor([5.0, torch.nan]), torch.tensor([torch.nan, 1.0])
    loss = negative_log_likelihood(logits, days, cause, torch.tensor(EDGES))
    loss.sum().backward()
    assert loss.tolist() == [0, 0]
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("horizon", [5.0, 10.0, 47.0, 60.0])
def test_what_is_explained_is_the_log_odds_of_the_risk(horizon: float) -> None:
    logits = np.random.default_rng(2).normal(-1, 1, (6, 3, 2))
    risk = hazards.at(hazards.incidence(logits)[:, 0], EDGES, [horizon])[:, 0]
    found = log_odds_by(torch.tensor(logits), EDGES, horizon)
    np.testing.assert_allclose(found.numpy(), np.log(risk / (1 - risk)), rtol=1e-9)
