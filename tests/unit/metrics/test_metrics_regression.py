"""Errors and correlations of numbers, against scikit-learn and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from medray.metrics.regression import mae, pearson, r_squared, rmse, spearman

numbers = st.lists(st.integers(-50, 50), min_size=3, max_size=40)


@given(numbers, st.integers(0, 2**31))
def test_each_measure_is_that_of_the_libraries(values: list[int], seed: int) -> None:
    """Ties among the integers included."""
    truth = np.array(values, float)
    answer = truth + np.random.default_rng(seed).integers(-9, 9, len(truth))
    assert rmse(truth, answer) == pytest.approx(root_mean_squared_error(truth, answer))
    assert mae(truth, answer) == pytest.approx(mean_absolute_error(truth, answer))
    if len(set(values)) > 1:
        assert r_squared(truth, answer) == pytest.approx(r2_score(truth, answer))
    if len(set(values)) > 1 and len(set(answer.tolist())) > 1:
        assert pearson(truth, answer) == pytest.approx(stats.pearsonr(truth, answer)[0])
        assert spearman(truth, answer) == pytest.approx(stats.spearmanr(truth, answer)[0])


@pytest.mark.parametrize("measure", [rmse, mae, r_squared, pearson, spearman])
def test_nothing_measures_as_nan(measure) -> None:
    assert math.isnan(measure([], []))


@pytest.mark.parametrize("measure", [r_squared, pearson, spearman])
def test_without_spread_there_is_nothing_to_explain(measure) -> None:
    assert math.isnan(measure([2.0, 2.0], [1.0, 3.0]))


@pytest.mark.parametrize("measure", [rmse, mae, r_squared, pearson, spearman])
def test_what_is_missing_or_uneven_is_refused(measure) -> None:
    with pytest.raises(ValueError, match="truth"):
        measure([1.0, float("nan")], [1.0, 2.0])
    with pytest.raises(ValueError, match="answers"):
        measure([1.0], [1.0, 2.0])
