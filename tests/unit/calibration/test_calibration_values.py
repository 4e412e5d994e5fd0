"""Single numbers and the domain: what `tuning` teaches, and what is said of an item."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medray.calibration import Calibration, fit_calibration
from medray.records.scale import Scale
from medray.workload import Target

SCALE = Scale(mean=-3.0, std=2.0)
SOLUBLE = Target("logs", "value", levels=(0.1, 0.9), scale=SCALE)
NEAR = Target("near", "domain")


def _fitted(target: Target, logits: np.ndarray, truth: np.ndarray) -> Calibration:
    return fit_calibration([target], {target.name: logits}, {target.name: truth}, "youden")


@given(st.integers(0, 10_000), st.integers(40, 200))
def test_the_interval_holds_its_share_of_those_it_was_learned_from(seed: int, count: int) -> None:
    """At least 80 %, and by no more than two items (split conformal prediction)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=count)
    truth = SCALE.back(logits + rng.standard_t(3, count))
    fitted = _fitted(SOLUBLE, logits, truth)
    ends = fitted.interval("logs", logits)
    assert ends is not None
    inside = ((ends[:, 0] <= truth + 1e-9) & (truth - 1e-9 <= ends[:, 1])).sum()
    assert 0.8 * count <= inside <= 0.8 * (count + 1) + 2


def test_on_new_items_the_interval_holds_its_share_on_average() -> None:
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(300):
        logits = rng.normal(size=60)
        truth = SCALE.back(logits + rng.normal(size=60))
        fitted = _fitted(SOLUBLE, logits[:40], truth[:40])
        ends = fitted.interval("logs", logits[40:])
        assert ends is not None
        inside.append(((ends[:, 0] <= truth[40:]) & (truth[40:] <= ends[:, 1])).mean())
    assert 0.79 < np.mean(inside) < 0.83


def test_a_number_is_said_with_its_interval_in_the_unit_of_the_source() -> None:
    logits = np.zeros(40)
    fitted = _fitted(SOLUBLE, logits, SCALE.back(np.linspace(-1, 1, 40)))
    value, low, high = fitted.answers("logs", np.array([0.5]))
    assert (value.name, value.text_value, low.text_value, high.text_value) == (
        "logs",
        None,
        "q0.1",
        "q0.9",
    )
    assert value.values == pytest.approx([-2.0])
    assert value.decisions is None
    reach = np.sort(np.abs(np.linspace(-1, 1, 40)))[32]  # the 33rd of 40 residuals: 0.8 · 41
    assert low.values == pytest.approx([-3 + 2 * (0.5 - reach)])
    assert high.values == pytest.approx([-3 + 2 * (0.5 + reach)])


def test_missing_values_are_left_out_and_too_few_give_no_interval() -> None:
    truth = np.full(100, np.nan)
    truth[:19] = 1.0
    fitted = _fitted(SOLUBLE, np.zeros(100), truth)
    assert fitted.targets["logs"].items == 19
    assert "no interval" in fitted.targets["logs"].note
    assert fitted.interval("logs", np.zeros(1)) is None
    (only,) = fitted.answers("logs", np.zeros(1))
    assert only.values == pytest.approx([-3.0])


def test_a_logarithm_makes_the_interval_lopsided() -> None:
    scale = Scale(transform="log", mean=1.0, std=1.0)
    target = Target("dose", "value", levels=(0.1, 0.9), scale=scale)
    logits = np.zeros(50)
    fitted = _fitted(target, logits, scale.back(np.linspace(-0.5, 0.5, 50)))
    ends = fitted.interval("dose", np.array([1.0]))
    assert ends is not None
    middle = fitted.apply("dose", np.array([1.0]))[0]
    assert ends[0, 1] - middle > middle - ends[0, 0] > 0


def test_the_domain_ends_where_a_twentieth_of_tuning_lies_beyond() -> None:
    near = np.arange(101) / 100
    fitted = _fitted(NEAR, near, np.full(101, np.nan))
    assert fitted.targets["near"].threshold == pytest.approx(0.05)
    (said,) = fitted.answers("near", np.array([0.04, 0.06, np.nan]))
    assert said.decisions is not None
    assert said.decisions.tolist() == [False, True, False]
    assert said.values[:2] == pytest.approx([0.04, 0.06])
