"""Fréchet distance and cosine against numpy, scipy, fcd_torch and closed forms."""

import math

import numpy as np
import pytest
from fcd_torch.utils import calculate_frechet_distance
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cosine as cosine_distance

from medray.molecules.metrics.distributions import Moments, cosine, frechet_distance

VECTORS = arrays(np.float64, st.tuples(st.integers(2, 9), st.just(3)), elements=st.floats(-9, 9))
COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 1000), min_size=1)


def two_sets(seed: int, size: int = 40, dimensions: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(dimensions, dimensions))
    return rng.normal(size=(size, dimensions)), rng.normal(0.5, 2, (size, dimensions)) @ mix


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def test_distance_is_fcd_torchs(seed: int) -> None:
    one, other = two_sets(seed)
    expected = calculate_frechet_distance(
        one.mean(0), np.cov(one.T), other.mean(0), np.cov(other.T)
    )
    assert frechet_distance(Moments.of(one), Moments.of(other)) == pytest.approx(expected)


@given(VECTORS)
def test_moments_are_numpys(vectors: np.ndarray) -> None:
    found = Moments.of(vectors)
    np.testing.assert_allclose(found.mean, vectors.mean(0))
    np.testing.assert_allclose(found.covariance(), np.cov(vectors.T), atol=1e-9)


@given(VECTORS, VECTORS)
def test_parts_add_up(one: np.ndarray, other: np.ndarray) -> None:
    whole = Moments.of(np.concatenate([one, other]))
    for added in (Moments.of(one) + Moments.of(other), Moments.of(other) + Moments.of(one)):
        assert added.count == whole.count
        np.testing.assert_allclose(added.mean, whole.mean, atol=1e-9)
        np.testing.assert_allclose(added.scatter, whole.scatter, atol=1e-9)
    none = Moments.none(3)
    np.testing.assert_array_equal((none + whole).scatter, whole.scatter)
    assert (none + none).count == 0


@given(VECTORS, VECTORS)
def test_distance_is_one_and_never_negative(one: np.ndarray, other: np.ndarray) -> None:
    first, second = Moments.of(one), Moments.of(other)
    assert frechet_distance(first, first) == pytest.approx(0.0, abs=1e-5)
    there, back = frechet_distance(first, second), frechet_distance(second, first)
    assert there == pytest.approx(back, rel=1e-6, abs=1e-5)
    assert there > -1e-5


def test_closed_forms() -> None:
    vectors, _ = two_sets(7)
    shift = np.arange(6.0)
    here = Moments.of(vectors)
    assert frechet_distance(here, Moments.of(vectors + shift)) == pytest.approx(shift @ shift)
    centred = vectors - vectors.mean(0)
    wider = frechet_distance(Moments.of(centred), Moments.of(3.0 * centred))
    assert wider == pytest.approx(4.0 * np.trace(Moments.of(centred).covariance()))


@pytest.mark.parametrize("size", [0, 1])
def test_fewer_than_two_vectors_have_no_distance(size: int) -> None:
    one, other = two_sets(0)
    assert math.isnan(frechet_distance(Moments.of(one[:size]), Moments.of(other)))


@given(COUNTS, COUNTS)
def test_cosine_is_scipys(one: dict[str, int], other: dict[str, int]) -> None:
    left, right = ([counts.get(name, 0) for name in "abcdef"] for counts in (one, other))
    assert cosine(one, other) == pytest.approx(1.0 - cosine_distance(left, right))
    assert cosine(one, {name: 3 * count for name, count in one.items()}) == pytest.approx(1.0)


def test_nothing_in_common_is_0_and_nothing_at_all_is_nan() -> None:
    assert cosine({"a": 2}, {"b": 3}) == 0.0
    assert math.isnan(cosine({}, {"b": 3}))
