"""Nearest neighbours and diversity against RDKit and plain loops."""

import math

import numpy as np
import pytest
from combinatorial import MOLECULES
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rdkit import Chem
from rdkit.Chem.AllChem import GetMorganFingerprintAsBitVect
from rdkit.DataStructs import BulkTanimotoSimilarity

from medray.molecules.metrics.profile import fingerprint
from medray.molecules.metrics.similarity import internal_diversity, nearest

SETS = arrays(np.uint8, st.tuples(st.integers(1, 12), st.just(3)))


def tanimoto(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Every pair, from sets of bits."""
    left, right = np.unpackbits(one, axis=1) > 0, np.unpackbits(other, axis=1) > 0
    both = (left[:, None] & right[None]).sum(axis=2)
    either = (left[:, None] | right[None]).sum(axis=2)
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def packed(smiles: tuple[str, ...]) -> np.ndarray:
    rows = [np.frombuffer(fingerprint(Chem.MolFromSmiles(one)), np.uint8) for one in smiles]
    return np.stack(rows)


@pytest.fixture(scope="module")
def rdkit_similarities() -> np.ndarray:
    with Chem.rdBase.BlockLogs():  # RDKit announces the newer name of this function
        bits = [GetMorganFingerprintAsBitVect(Chem.MolFromSmiles(s), 2, 1024) for s in MOLECULES]
    return np.array([BulkTanimotoSimilarity(one, bits) for one in bits])


def test_nearest_is_rdkits(rdkit_similarities: np.ndarray) -> None:
    found = nearest(packed(MOLECULES[:30]), packed(MOLECULES[30:]))
    np.testing.assert_allclose(found, rdkit_similarities[:30, 30:].max(axis=1), rtol=1e-7)


def test_diversity_is_that_of_rdkits_similarities(rdkit_similarities: np.ndarray) -> None:
    one, two = internal_diversity(packed(MOLECULES))
    assert one == pytest.approx(1.0 - rdkit_similarities.mean(), abs=1e-7)
    root = np.sqrt((rdkit_similarities**2).mean(axis=1))
    assert two == pytest.approx(1.0 - root.mean(), abs=1e-7)


def test_more_than_a_block() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 256, (n, 2), np.uint8) for n in (2100, 2060))
    every = tanimoto(one, other)
    np.testing.assert_allclose(nearest(one, other), every.max(axis=1), rtol=1e-7)
    every = tanimoto(one, one)
    expected = 1 - every.mean(), 1 - np.sqrt((every**2).mean(axis=1)).mean()
    assert internal_diversity(one) == pytest.approx(expected, abs=1e-6)


@given(SETS, SETS)
def test_nearest_is_the_greatest(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(nearest(one, other), tanimoto(one, other).max(axis=1), rtol=1e-7)


@given(SETS, SETS, st.randoms())
def test_order_does_not_matter(one: np.ndarray, other: np.ndarray, random: object) -> None:
    rows, columns = list(range(len(one))), list(range(len(other)))
    random.shuffle(rows)  # type: ignore[attr-defined]
    random.shuffle(columns)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(nearest(one, other)[rows], nearest(one[rows], other[columns]))
    assert internal_diversity(one) == pytest.approx(internal_diversity(one[rows]), abs=1e-9)


@given(SETS, SETS)
def test_nearest_to_a_set_that_holds_it_is_1(one: np.ndarray, other: np.ndarray) -> None:
    assert (nearest(one, np.concatenate([other, one])) == 1.0).all()


@given(SETS)
def test_diversity_is_none_of_one_molecule_and_below_1(one: np.ndarray) -> None:
    assert internal_diversity(one[:1].repeat(5, axis=0)) == pytest.approx((0.0, 0.0), abs=1e-7)
    first, second = internal_diversity(one)
    assert -1e-7 <= second <= first + 1e-7 < 1.0


def test_nothing_is_not_zero() -> None:
    empty, some = np.empty((0, 4), np.uint8), np.ones((3, 4), np.uint8)
    assert np.isnan(nearest(some, empty)).all()
    assert nearest(empty, some).shape == (0,)
    assert all(math.isnan(value) for value in internal_diversity(empty))
