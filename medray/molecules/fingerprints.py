"""Morgan fingerprints: how often each surrounding of an atom stands in a molecule, folded.

Rogers and Hahn, J. Chem. Inf. Model. 2010, 50, 742.
Shapes: N molecules, F folded places, A atoms of one molecule.
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
