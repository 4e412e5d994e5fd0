"""Nearest neighbours, against RDKit's own similarities."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rdkit import DataStructs
from rdkit.Chem import MolFromSmiles
from tiny_molecules import SMILES

from medray.molecules.metrics.profile import fingerprint
from medray.molecules.neighbours import by_bits, neighbours

PRINTS = np.stack([np.frombuffer(fingerprint(MolFromSmiles(one)), np.uint8) for one in SMILES])


def _rdkit(packed: np.ndarray) -> list[DataStructs.ExplicitBitVect]:
    return [DataStructs.CreateFromBinaryText(row.tobytes()) for row in packed]


def test_molecules_are_as_similar_as_rdkit_says():
    asked, references = PRINTS[:12], PRINTS[12:][by_bits(PRINTS[12:])]
    similar, rows = neighbours(asked, references)
    for at, one in enumerate(_rdkit(asked)):
        all_of_them = DataStructs.BulkTanimotoSimilarity(one, _rdkit(references))
        assert similar[at] == max(all_of_them)
        assert rows[at] == int(np.argmax(all_of_them))


@given(st.integers(0, 2**32 - 1), st.integers(1, 9000), st.floats(0, 1), st.booleans())
def test_blocks_and_what_is_ruled_out_change_nothing(
    seed: int, count: int, density: float, ordered: bool
):
    rng = np.random.default_rng(seed)
    shares = rng.random((count, 1)) * density
    references = np.packbits(rng.random((count, 64)) < shares, axis=1)
    if ordered:
        references = references[by_bits(references)]
    asked = np.packbits(rng.random((5, 64)) < density, axis=1)
    similar, rows = neighbours(asked, references)
    bits, own = np.unpackbits(references, axis=1), np.unpackbits(asked, axis=1)
    for at in range(len(asked)):
        both = (bits & own[at]).sum(1)
        either = (bits | own[at]).sum(1)
        truth = np.where(either > 0, both / np.maximum(either, 1), 1.0)
        assert similar[at] == truth.max()
        assert truth[rows[at]] == truth.max()


def test_without_references_nothing_is_near():
    similar, rows = neighbours(PRINTS[:2], PRINTS[:0])
    assert np.isnan(similar).all()
    assert rows.tolist() == [-1, -1]
