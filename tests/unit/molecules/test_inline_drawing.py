"""Drawn molecules: every bond and letter is there, small, in the page's colours."""

import re
from xml.etree import ElementTree

import pytest
from rdkit import Chem
from tiny_molecules import SMILES

from medray.molecules.inline_drawing import molecule_svg

DRUG = "C[C@H](N)c1ccc(S(=O)(=O)Nc2ncc(Cl)cc2C#N)cc1[N+](=O)[O-]"


@pytest.mark.parametrize("smiles", [*SMILES, DRUG])
def test_all_bonds_and_letters_are_drawn_and_no_style(smiles: str):
    svg = ElementTree.fromstring(molecule_svg(smiles, "a <molecule> & more"))
    assert svg.get("aria-label") == "a <molecule> & more"
    molecule = Chem.MolFromSmiles(smiles)
    Chem.Kekulize(molecule)
    paths = " ".join(path.get("d", "") for path in svg.iter("path"))
    lines = len(re.findall("M", paths))
    orders = sum(int(bond.GetBondTypeAsDouble()) for bond in molecule.GetBonds())
    assert lines >= orders  # and joints between them
    letters = "".join(text.text or "" for text in svg.iter("text"))
    for atom in molecule.GetAtoms():
        if atom.GetAtomicNum() != 6:
            assert atom.GetSymbol() in letters.replace(" ", "")
    assert not re.search(r"style=|#[0-9a-f]{6}|fill=", molecule_svg(smiles, ""))


def test_a_drug_takes_two_kilobytes_and_its_stereocentre_is_a_wedge():
    svg = molecule_svg(DRUG, "")
    assert len(svg) < 2048
    assert 'class="wedge"' in svg
    assert 'class="index">2<' in svg


def test_what_is_no_molecule_cannot_be_drawn():
    with pytest.raises(ValueError, match="no SMILES"):
        molecule_svg("C1CC", "")
