import math

import numpy as np
import pytest

from medray.calibration import Calibration, TargetCalibration, fit_calibration
from medray.errors import DataError
from medray.spec.models import WantedSensitivity
from medray.workload import Target

BINARY = Target("ill", "binary")
MULTI = Target("kind", "multiclass", ("a", "b", "c"))


def _binary(rng: np.random.Generator, n: int, temperature: float):
    """Logits that are `temperature` times too confident."""
    true = rng.normal(size=n) * 2
    y = (rng.random(n) < 1 / (1 + np.exp(-true))).astype(float)
    return true * temperature, y


def test_temperature_undoes_overconfidence():
    logits, y = _binary(np.random.default_rng(0), 20_000, 3.0)
    fitted = fit_calibration((BINARY,), {"ill": logits}, {"ill": y}, "youden")
    entry = fitted.targets["ill"]
    assert entry.temperature == pytest.approx(3.0, rel=0.1)
    assert entry.items == 20_000
    assert entry.rule == "youden"
    p = fitted.apply("ill", logits)
    assert p.dtype == np.float64
    expected = [1 / (1 + math.exp(-x / entry.temperature)) for x in logits[:50]]
    np.testing.assert_allclose(p[:50], expected, rtol=1e-12)
    for low in np.arange(0.1, 0.9, 0.2):  # what it says is what happens
        chosen = (p >= low) & (p < low + 0.2)
        assert y[chosen].mean() == pytest.approx(p[chosen].mean(), abs=0.03)


def test_wanted_sensitivity_is_reached_by_decide():
    logits, y = _binary(np.random.default_rng(1), 2_000, 1.0)
    rule = WantedSensitivity(sensitivity=0.9)
    fitted = fit_calibration((BINARY,), {"ill": logits}, {"ill": y}, rule)
    decided = fitted.decide("ill", fitted.apply("ill", logits))
    assert decided.dtype == bool
    sensitivity = decided[y == 1].mean()
    assert 0.9 <= sensitivity < 0.905


def test_multiclass_probabilities_sum_to_one_and_the_first_of_equals_wins():
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 500).astype(float)
    logits = np.eye(3)[y.astype(int)] * 2 + rng.normal(size=(500, 3))
    fitted = fit_calibration((MULTI,), {"kind": logits}, {"kind": y}, "youden")
    assert fitted.targets["kind"].threshold is None
    p = fitted.apply("kind", logits)
    np.testing.assert_allclose(p.sum(1), 1.0, atol=1e-12)
    decided = fitted.decide("kind", p)
    assert (decided.sum(1) == 1).all()
    assert (decided.argmax(1) == logits.argmax(1)).all()
    tie = fitted.decide("kind", np.array([[0.4, 0.4, 0.2]]))
    assert tie.tolist() == [[True, False, False]]


@pytest.mark.parametrize("missing", [np.nan, -1.0])
def test_missing_truth_is_left_out(missing: float):
    logits, y = _binary(np.random.default_rng(3), 400, 2.0)
    with_gaps, extra = np.concatenate([y, np.full(100, missing)]), np.full(100, 50.0)
    clean = fit_calibration((BINARY,), {"ill": logits}, {"ill": y}, "youden")
    gaps = fit_calibration(
        (BINARY,), {"ill": np.concatenate([logits, extra])}, {"ill": with_gaps}, "youden"
    )
    assert gaps == clean


@pytest.mark.parametrize(
    ("truth", "note"),
    [(np.ones(5), "only one class"), (np.full(5, np.nan), "no label")],
)
def test_one_class_stays_uncalibrated_and_says_so(truth: np.ndarray, note: str):
    fitted = fit_calibration((BINARY,), {"ill": np.arange(5.0)}, {"ill": truth}, "youden")
    entry = fitted.targets["ill"]
    assert (entry.temperature, entry.threshold) == (1.0, 0.5)
    assert note in entry.note


def test_extremes_and_nan():
    calibration = Calibration(targets={"ill": TargetCalibration(kind="binary", threshold=0.5)})
    p = calibration.apply("ill", np.array([1e4, -1e4, np.nan, 0.0]))
    assert p[0] == 1.0
    assert p[1] == 0.0
    assert np.isnan(p[2])
    assert calibration.decide("ill", p).tolist() == [True, False, False, True]


def test_nan_row_of_a_multiclass_target_decides_nothing():
    calibration = Calibration(targets={"kind": TargetCalibration(kind="multiclass")})
    p = calibration.apply("kind", np.array([[0.0, np.nan, 1.0], [3.0, 1.0, 0.0]]))
    assert np.isnan(p[0]).all()
    assert calibration.decide("kind", p).tolist() == [[False] * 3, [True, False, False]]


def test_survives_json():
    logits, y = _binary(np.random.default_rng(4), 200, 2.0)
    rule = WantedSensitivity(sensitivity=0.8)
    fitted = fit_calibration((BINARY,), {"ill": logits}, {"ill": y}, rule)
    assert Calibration.model_validate_json(fitted.model_dump_json()) == fitted


def test_errors_name_the_target():
    with pytest.raises(DataError, match="ill"):
        fit_calibration((BINARY,), {}, {}, "youden")
    with pytest.raises(DataError, match="3 logits but 2 labels"):
        fit_calibration((BINARY,), {"ill": np.zeros(3)}, {"ill": np.zeros(2)}, "youden")
    with pytest.raises(DataError, match="no calibration for the target 'other'"):
        Calibration(targets={}).apply("other", np.zeros(1))
