"""SMILES → molecules, as the metrics read them: no salt is cut off, nothing is neutralised."""

from typing import Any

from rdkit import Chem
from rdkit.Chem import Mol


def read(smiles: str) -> Mol | None:
    """The molecule of a SMILES; None for a text that is none, the empty one among them."""
    molecule: Any = Chem.MolFromSmiles(smiles)
    return molecule if molecule is not None and molecule.GetNumAtoms() else None


def canonical(smiles: str) -> tuple[Mol, str] | None:
    """The molecule of a SMILES' canonical form, and that form; None where `read` finds none.

    What is described is read from the canonical form, so that one structure written in two ways is
    one molecule, to the order of its atoms. RDKit's form of that may differ once more, rarely.
    """
    molecule = read(smiles)
    if molecule is None:
        return None
    form = Chem.MolToSmiles(molecule)
    if form == smiles:
        return molecule, form
    again = read(form)
    return again and (again, Chem.MolToSmiles(again))
