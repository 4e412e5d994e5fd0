"""Morgan fingerprints: counts of atoms' surroundings, folded; and how alike two molecules are.

Rogers and Hahn, J. Chem. Inf. Model. 2010, 50, 742.
Shapes: N molecules, M others, F folded places, A atoms of one molecule.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdFingerprintGenerator

Array = np.ndarray[Any, Any]
chem: Any = Chem
generators: Any = rdFingerprintGenerator

DOMAIN_RADIUS, DOMAIN_BITS = 2, 1024  # of similarity, whatever a network reads
_AT_ONCE = 256


def counts(smiles: Sequence[str], places: int, radius: int) -> Array:
    """How often each folded surrounding stands in each molecule (N, F) uint8, at most 255."""
    made = [_counted(one, places, radius) for one in smiles]
    return np.stack(made) if made else np.zeros((0, places), np.uint8)


@lru_cache(maxsize=1 << 15)
def _counted(smiles: str, places: int, radius: int) -> Array:
    found = _generator(places, radius).GetCountFingerprintAsNumPy(chem.MolFromSmiles(smiles))
    return np.minimum(found, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def _generator(places: int, radius: int) -> Any:
    return generators.GetMorganGenerator(radius=radius, fpSize=places, includeChirality=False)


def by_atom(smiles: str, places: int, radius: int) -> tuple[Array, Array]:
    """Counts (F,) of one molecule, and what of them goes when one atom does: (A, F) uint8.

    A surrounding goes with its centre, and with every atom in its reach.
    """
    mol = chem.MolFromSmiles(smiles)
    noted = generators.AdditionalOutput()
    noted.AllocateBitInfoMap()
    found = _generator(places, radius).GetCountFingerprintAsNumPy(mol, additionalOutput=noted)
    lost_AF = np.zeros((mol.GetNumAtoms(), places), np.int64)
    for place, surroundings in noted.GetBitInfoMap().items():
        for centre, reach in surroundings:
            lost_AF[_within(mol, centre, reach), place] += 1
    return np.minimum(found, 255).astype(np.uint8), np.minimum(lost_AF, 255).astype(np.uint8)


def _within(mol: Any, centre: int, reach: int) -> list[int]:
    """Atoms at most so many bonds away."""
    found, edge = {centre}, {centre}
    for _ in range(reach):
        edge = {
            near.GetIdx() for atom in edge for near in mol.GetAtomWithIdx(atom).GetNeighbors()
        } - found
        found |= edge
    return sorted(found)


def packed(smiles: Sequence[str]) -> Array:
    """Which surroundings stand in each molecule, eight to a byte: (N, F / 8) uint8."""
    present_NF = counts(smiles, DOMAIN_BITS, DOMAIN_RADIUS) > 0
    return np.packbits(present_NF, axis=1)


def nearest(asked_NP: Array, known_MP: Array) -> tuple[Array, Array]:
    """Greatest Tanimoto similarity (N,) float32 to any known molecule, and which (N,) it is.

    Both packed. 0 and -1 where none is known; two molecules without any surrounding are alike.
    """
    if not len(known_MP):
        return np.zeros(len(asked_NP), np.float32), np.full(len(asked_NP), -1)
    # counts up to 1024 are exact in float32, so that a product does the work
    known_MF = np.unpackbits(known_MP, axis=1).astype(np.float32)
    size_M = known_MF.sum(axis=1)
    best = np.zeros(len(asked_NP), np.float32)
    which = np.zeros(len(asked_NP), np.int64)
    for at in range(0, len(asked_NP), _AT_ONCE):
        asked_NF = np.unpackbits(asked_NP[at : at + _AT_ONCE], axis=1).astype(np.float32)
        both_NM = asked_NF @ known_MF.T
        either_NM = asked_NF.sum(axis=1)[:, None] + size_M - both_NM
        alike_NM = np.divide(both_NM, either_NM, out=np.ones_like(both_NM), where=either_NM > 0)
        which[at : at + _AT_ONCE] = alike_NM.argmax(axis=1)
        best[at : at + _AT_ONCE] = alike_NM.max(axis=1)
    return best, which
