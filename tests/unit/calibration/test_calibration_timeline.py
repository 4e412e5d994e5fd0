"""How logits of survival and quantile targets are read."""

import numpy as np
import pytest

from medray.calibration import Calibration, fit_calibration, hazards
from medray.records.scale import Scale
from medray.workload import Target

SURVIVAL = Target(
    "outcome",
    "survival",
    classes=("death", "transplant"),
    edges_days=(0.0, 100.0, 400.0),
    horizons_days=(50.0, 365.0),
)
FORECAST = Target(
    "creatinine",
    "quantiles",
    horizons_days=(30.0,),
    levels=(0.1, 0.5, 0.9),
    scale=Scale(transform="log", mean=0.5, std=0.4),
)


def test_risks_are_named_by_cause_and_horizon_and_decide_nothing() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 2, 2))
    truth = np.array([[1, 20.0], [0, 300], [2, 90], [np.nan, np.nan]])
    fitted = fit_calibration((SURVIVAL,), {"outcome": logits}, {"outcome": truth}, "youden")
    assert fitted.targets["outcome"].items == 3
    answers = fitted.answers("outcome", logits)
    assert [one.name for one in answers] == [
        "death within 50 days",
        "death within 365 days",
        "transplant within 50 days",
        "transplant within 365 days",
    ]
    curves = fitted.apply("outcome", logits)
    np.testing.assert_array_equal(curves, hazards.incidence(logits))
    np.testing.assert_allclose(answers[0].values, curves[:, 0, 1] / 2)
    assert all(one.decisions is None and one.text_value is None for one in answers)


def test_intervals_hold_the_wanted_share_of_tuning() -> None:
    rng = np.random.default_rng(1)
    middle = rng.normal(0, 1, 400)
    value = np.expm1((middle + rng.normal(0, 1.5, 400)) * 0.4 + 0.5)
    value = np.maximum(value, 0.01)
    logits = np.stack([middle - 0.1, middle, middle + 0.1], axis=1)[:, None]
    truth = value[:, None]
    fitted = fit_calibration((FORECAST,), {"creatinine": logits}, {"creatinine": truth}, "youden")
    low, middle_out, high = fitted.apply("creatinine", logits)[:, 0].T
    inside = ((low <= value) & (value <= high)).mean()
    assert 0.8 <= inside < 0.84
    np.testing.assert_allclose(middle_out, np.maximum(np.expm1(middle * 0.4 + 0.5), 0))
    said = [one.text_value for one in fitted.answers("creatinine", logits)]
    assert said == ["q0.1", "q0.5", "q0.9"]


def test_too_wide_intervals_shrink_but_never_cross_the_middle() -> None:
    middle = np.random.default_rng(2).normal(0, 1, 100)
    logits = np.stack([middle - 3, middle, middle + 3], axis=1)[:, None]
    truth = np.expm1(middle * 0.4 + 0.5)[:, None]
    fitted = fit_calibration((FORECAST,), {"creatinine": logits}, {"creatinine": truth}, "youden")
    assert fitted.targets["creatinine"].widths[0] < 0
    assert (np.diff(fitted.apply("creatinine", logits), axis=2) >= 0).all()


def test_few_values_move_nothing_and_are_told() -> None:
    logits = np.zeros((5, 1, 3))
    truth = np.full((5, 1), 2.0)
    fitted = fit_calibration((FORECAST,), {"creatinine": logits}, {"creatinine": truth}, "youden")
    assert fitted.targets["creatinine"].widths == (0.0,)
    assert "fewer than 20" in fitted.targets["creatinine"].note


@pytest.mark.parametrize("target", [SURVIVAL, FORECAST])
def test_it_reads_back_from_json(target: Target) -> None:
    shape = (30, 2, 2) if target is SURVIVAL else (30, 1, 3)
    truth = np.ones((30, 2)) if target is SURVIVAL else np.ones((30, 1))
    logits = np.random.default_rng(3).normal(size=shape)
    fitted = fit_calibration((target,), {target.name: logits}, {target.name: truth}, "youden")
    again = Calibration.model_validate_json(fitted.model_dump_json())
    np.testing.assert_array_equal(
        again.apply(target.name, logits), fitted.apply(target.name, logits)
    )
