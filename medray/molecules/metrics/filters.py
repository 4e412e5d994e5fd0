"""The medicinal chemistry filters of MOSES: which molecules a chemist would not look at.

Rules and MCF patterns: Polykovskiy et al., Front. Pharmacol. 2020;11:565644, as in the molsets
package (MIT). PAINS: Baell & Holloway, J. Med. Chem. 2010;53:2719, as SMARTS in RDKit's data; RDKit
has corrected 17 of the 480 patterns since. Needs RDKit.

Shapes: A patterns, W words of a screen.
"""

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, RDConfig
from rdkit.Chem import Mol
from rdkit.DataStructs import BitVectToBinaryText

from medray.errors import UsageError
from medray.molecules.metrics.reading import read

ELEMENTS = frozenset({"C", "N", "S", "O", "F", "Cl", "Br", "H"})
LARGEST_RING = 7

MCF = (
    ("MCF1", "[#6]=&!@[#6]-[#6]#[#7]"),
    ("MCF2", "[#6]=&!@[#6]-[#16](=[#8])=[#8]"),
    ("MCF3", "[#6]=&!@[#6&!H0]-&!@[#6](=[#8])-&!@[#7]"),
    ("MCF4", "[H]C([H])([#6])[F,Cl,Br,I]"),
    ("MCF5", "[#6]1-[#8]-[#6]-1"),
    ("MCF6", "[#6]-[#7]=[#6]=[#8]"),
    ("MCF7", "[#6&!H0]=[#8]"),
    ("MCF8", "[#6](=&!@[#7&!H0])-&!@[#6,#7,#8,#16]"),
    ("MCF9", "[#6]1-[#7]-[#6]-1"),
    ("MCF10", "[#6]~&!@[#7]~&!@[#7]~&!@[#6]"),
    ("MCF11", "[#7]=&!@[#7]"),
    ("MCF12", "[H][#6]-1=[#6]([H])-[#6]=[#6](-*)-[#8]-1"),
    ("MCF13", "[H][#6]-1=[#6]([H])-[#6]=[#6](-*)-[#16]-1"),
    ("MCF14", "[#17,#35,#53]-c(:*):[!#1!#6]:*"),
    ("MCF15", "[H][#7]([H])-[#6]-1=[#6]-[#6]=[#6]-[#6]=[#6]-1"),
    ("MCF16", "[#16]~[#16]"),
    ("MCF17", "[#7]~&!@[#7]~&!@[#7]"),
    ("MCF18", "[#7]-&!@[#6&!H0&!H1]-&!@[#7]"),
    ("MCF19", "[#6&!H0](-&!@[#8])-&!@[#8]"),
    ("MCF20", "[#35].[#35].[#35]"),
    ("MCF21", "[#17].[#17].[#17].[#17]"),
    ("MCF22", "[#9].[#9].[#9].[#9].[#9].[#9].[#9]"),
)


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
    named = (*MCF, *_pains())
    molecules = tuple(Chem.MolFromSmarts(smarts) for _, smarts in named)
    screen_AW = np.stack([_bits(one) for one in molecules])
    return _Patterns(tuple(name for name, _ in named), molecules, screen_AW)


def _pains() -> list[tuple[str, str]]:
    """Names and SMARTS of RDKit's PAINS. Raises UsageError when RDKit came without its data."""
    path = Path(str(RDConfig.RDDataDir)) / "Pains" / "wehi_pains.csv"
    if not path.exists():
        raise UsageError(
            "RDKit's data folder holds no PAINS", remedy="pip install 'medray[molecules]'"
        )
    with path.open(encoding="utf-8", newline="") as lines:
        rows: list[Any] = list(csv.reader(lines))
    return [(f"PAINS {name.strip('<>').removeprefix('regId=')}", smarts) for smarts, name in rows]
