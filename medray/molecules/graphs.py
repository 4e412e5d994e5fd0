"""Molecules as graphs of small whole numbers: what each atom and each directed bond is.

Every bond is there twice, 2k one way and 2k + 1 back. 0 in the first column is padding.
Shapes: N molecules, A atoms of the largest, E directed bonds of the one with most, K properties of
an atom, L of a bond.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from rdkit import Chem

Array = np.ndarray[Any, Any]
chem: Any = Chem

_ELEMENTS: Final = (6, 7, 8, 9, 15, 16, 17, 5, 35, 53, 14, 34, 1)  # atomic numbers
_HYBRIDS: Final = ("SP", "SP2", "SP3", "SP3D", "SP3D2")
_BONDS: Final = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")

ATOM_SIZES: Final = (15, 7, 7, 6, 7, 3, 5, 6)
"""Values of each property: element, neighbours, charge, hydrogens, hybridisation, aromatic,
chirality, smallest ring; every one from 1, but 0 for padding."""
BOND_SIZES: Final = (6, 3, 3, 5)
"""Type, conjugated, in a ring, stereo; as above."""


@dataclass(frozen=True, slots=True)
class Graphs:
    """Atoms (N, A, K) uint8, bonds (N, E, L) uint8, ends (N, E, 2) int16: from, to; or -1."""

    atoms: Array
    bonds: Array
    ends: Array


def graphs(smiles: Sequence[str]) -> Graphs:
    """Graphs of molecules, padded to the largest."""
    made = [_graph(one) for one in smiles]
    most_atoms = max((len(one.atoms) for one in made), default=1)
    most_bonds = max((len(one.bonds) for one in made), default=0)
    atoms = np.zeros((len(made), most_atoms, len(ATOM_SIZES)), np.uint8)
    bonds = np.zeros((len(made), most_bonds, len(BOND_SIZES)), np.uint8)
    ends = np.full((len(made), most_bonds, 2), -1, np.int16)
    for row, one in enumerate(made):
        atoms[row, : len(one.atoms)] = one.atoms
        bonds[row, : len(one.bonds)] = one.bonds
        ends[row, : len(one.ends)] = one.ends
    return Graphs(atoms, bonds, ends)


@lru_cache(maxsize=1 << 15)
def _graph(smiles: str) -> Graphs:
    """One molecule's atoms (A, K), bonds (E, L) and ends (E, 2), without padding."""
    mol = chem.MolFromSmiles(smiles)
    bonds: list[list[int]] = []
    ends: list[tuple[int, int]] = []
    for bond in mol.GetBonds():
        code, one, other = _bond(bond), bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        bonds += [code, code]
        ends += [(one, other), (other, one)]
    return Graphs(
        np.array([_atom(atom, mol) for atom in mol.GetAtoms()], np.uint8),
        np.array(bonds, np.uint8).reshape(-1, len(BOND_SIZES)),
        np.array(ends, np.int16).reshape(-1, 2),
    )


def _atom(atom: Any, mol: Any) -> list[int]:
    ring = mol.GetRingInfo().MinAtomRingSize(atom.GetIdx())
    return [
        1 + _place(_ELEMENTS, atom.GetAtomicNum()),
        1 + min(atom.GetDegree(), 5),
        1 + min(max(atom.GetFormalCharge(), -2), 3) + 2,
        1 + min(atom.GetTotalNumHs(), 4),
        1 + _place(_HYBRIDS, str(atom.GetHybridization())),
        1 + int(atom.GetIsAromatic()),
        1 + min(int(atom.GetChiralTag()), 3),
        1 + {0: 0, 3: 1, 4: 1, 5: 2, 6: 3}.get(ring, 4),
    ]


def _bond(bond: Any) -> list[int]:
    return [
        1 + _place(_BONDS, str(bond.GetBondType())),
        1 + int(bond.GetIsConjugated()),
        1 + int(bond.IsInRing()),
        1 + min(int(bond.GetStereo()), 3),
    ]


def _place(known: Sequence[Any], value: Any) -> int:
    """Where a value stands among those that are known; after the last one where it does not."""
    return known.index(value) if value in known else len(known)
