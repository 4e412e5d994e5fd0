"""The medicinal chemistry filters of MOSES: which molecules a chemist would not look at.

Polykovskiy et al., Front. Pharmacol. 2020;11:565644, as in the molsets package (MIT). The patterns
lie beside this file: RDKit has corrected 17 of the PAINS since (6% of what they find in Tox21), and
shares that pass would no longer be comparable with published ones. Needs RDKit.

Shapes: A patterns, W words of a screen.
"""

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import Mol
from rdkit.DataStructs import BitVectToBinaryText

from medray.molecules.metrics.reading import read

ELEMENTS = frozenset({"C", "N", "S", "O", "F", "Cl", "Br", "H"})
LARGEST_RING = 7
_TABLE = Path(__file__).parent / "alerts.csv"


def alert(molecule: Mol) -> str | None:
    """The first rule that a molecule breaks; None where it passes the filters.

    `ring_size`, `charge`, `element`, the name of a pattern, or `unreadable`: its SMILES without
    stereo is no molecule. Patterns are looked for with hydrogens as atoms.
    """
    rings = molecule.GetRingInfo().AtomRings()
    if any(len(ring) > LARGEST_RING for ring in rings):
        return "ring_size"
    if any(atom.GetFormalCharge() for atom in molecule.GetAtoms()):
        return "charge"
    if any(atom.GetSymbol() not in ELEMENTS for atom in molecule.GetAtoms()):
        return "element"
    found = _patterns().first_in(Chem.AddHs(molecule))
    if found is not None:
        return found
    return None if read(Chem.MolToSmiles(molecule, isomericSmiles=False)) else "unreadable"


@dataclass(frozen=True, slots=True)
class _Patterns:
    """Substructures to look for, with a screen (A, W) that rules most of them out.

    A pattern's fingerprint holds only bits that any molecule containing it has as well (RDKit's
    PatternFingerprint), so a pattern with a bit that the molecule lacks need not be matched.
    """

    names: tuple[str, ...]
    molecules: tuple[Mol, ...]
    screen_AW: NDArray[np.uint64]

    def first_in(self, molecule: Mol) -> str | None:
        """Name of the first pattern in a molecule with hydrogens."""
        possible_A = ~np.any(self.screen_AW & ~_bits(molecule), axis=1)
        for at in np.flatnonzero(possible_A):
            if molecule.HasSubstructMatch(self.molecules[at]):
                return self.names[at]
        return None


def _bits(molecule: Mol) -> NDArray[np.uint64]:
    return np.frombuffer(BitVectToBinaryText(Chem.PatternFingerprint(molecule)), np.uint64)


@lru_cache(maxsize=1)
def _patterns() -> _Patterns:
    named = alerts()
    molecules = tuple(Chem.MolFromSmarts(smarts) for _, smarts in named)
    screen_AW = np.stack([_bits(one) for one in molecules])
    return _Patterns(tuple(name for name, _ in named), molecules, screen_AW)


def alerts() -> list[tuple[str, str]]:
    """Names and SMARTS of the 22 MCF and the 480 PAINS, in the order they are looked for."""
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    return [(row["name"], row["smarts"]) for row in rows]
