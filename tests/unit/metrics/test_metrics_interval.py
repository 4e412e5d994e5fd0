"""The Wilson interval against published values and scipy, and what the checks refuse."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medray.metrics.interval import (
    binary_pair,
    critical_value,
    identifier_codes,
    probability_pair,
    wilson,
)


# Newcombe, Stat. Med. 1998;17:857, table I, method 3 (score without continuity correction).
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)],
)
def test_wilson_published(successes, trials, low, high):
    interval = wilson(successes, trials)
    assert round(interval.low, 4) == low
    assert round(interval.high, 4) == high


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.8, 0.9, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_wilson_is_scipys(trials, share, level):
    successes = round(share * trials)
    ours = wilson(successes, trials, level)
    theirs = stats.binomtest(successes, trials).proportion_ci(level, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0.0 <= ours.low <= ours.value <= ours.high <= 1.0


def test_wilson_without_trials_is_nan():
    interval = wilson(0, 0)
    assert math.isnan(interval.value)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


def test_wilson_refuses_more_successes_than_trials():
    with pytest.raises(ValueError, match="successes"):
        wilson(3, 2)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, math.nan])
def test_level_must_be_a_coverage(level):
    with pytest.raises(ValueError, match="level"):
        critical_value(level)


@pytest.mark.parametrize(
    ("y", "score", "message"),
    [
        ([0, 1, 2], [0.1, 0.2, 0.3], "only 0 and 1"),
        ([0, 1, math.nan], [0.1, 0.2, 0.3], "1 non-finite"),
        ([0, 1], [0.1, math.inf], "1 non-finite"),
        ([0, 1], [0.1], "length"),
        ([[0, 1]], [[0.1, 0.2]], "dimension"),
        (["a", "b"], [0.1, 0.2], "numeric"),
    ],
)
def test_binary_pair_refuses(y, score, message):
    with pytest.raises(ValueError, match=message):
        binary_pair(y, score)


def test_errors_do_not_repeat_values():
    with pytest.raises(ValueError, match="numeric") as caught:
        binary_pair(["SMITH^ANNA"], [0.5])
    assert "SMITH" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("p", [-0.01, 1.01])
def test_probabilities_lie_between_0_and_1(p):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        probability_pair([1], [p])


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32])
def test_label_dtypes(dtype):
    y, _ = binary_pair(np.array([0, 1], dtype=dtype), [0.1, 0.2])
    assert y.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "identifiers",
    [
        ["b", "a", "b"],
        np.array(["b", "a", "b"]),
        np.array(["b", "a", "b"], dtype=object),
        (7, 3, 7),
        np.array([7, 3, 7], dtype=object),
    ],
)
def test_identifier_codes_follow_sorted_order(identifiers):
    assert identifier_codes(identifiers, "ids").tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "identifiers",
    [["a", None], ["a", math.nan], ["a", ""], ["a", " "], np.array(["a", ""]), ["a", 1], [1.5]],
)
def test_identifiers_must_be_present_and_of_one_type(identifiers):
    with pytest.raises(ValueError, match="ids must be all strings or all integers"):
        identifier_codes(identifiers, "ids")


def test_identifiers_have_one_dimension():
    with pytest.raises(ValueError, match="dimension"):
        identifier_codes([["a"], ["b"]], "ids")
