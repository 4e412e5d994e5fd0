"""One structure → its standard form, so that the same molecule is the same text everywhere.

The steps are RDKit's MolStandardize. Most molecules are of one part, without charges and metals:
their SMILES says so, and the steps are skipped.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize
from rdkit.Chem.Scaffolds import MurckoScaffold

from medray.errors import Code, RejectError
from medray.spec.molecules import StandardSpec

chem: Any = Chem
tools: Any = rdMolStandardize
Molecule = Any  # rdkit.Chem.Mol

# All others are metals. Of the metalloids none is: B, Si, Ge, As, Sb, Te.
_NON_METALS = frozenset(
    {1, 2, *range(5, 11), *range(14, 19), *range(32, 37), *range(51, 55), 85, 86}
)
# Times the limit, all parts together: no small molecule and its salt. Of an endless chain or net
# it would take minutes to find the rings.
_HOPELESS = 20
# SMILES, perhaps CXSMILES. What else follows RDKit takes for a name; what is neither, it skips.
_SMILES = re.compile(r"[!-~]+(\s+\|[ -~]*\|)?")
# Canonical SMILES of one part without charges, metals, isotopes, numbers of atoms, placeholders:
# what stands in brackets is but a hydrogen or a centre of an element that is no metal.
_PLAIN = re.compile(r"(?:[^\[\].*]++|\[(?:[BCNOPSbcnops]|Si|Se|se|As)@{0,2}H?\d?\])+")
_STEREO = re.compile(r"[@/\\]")


@dataclass(frozen=True, slots=True)
class Standard:
    """A structure in standard form.

    smiles       canonical, ASCII.
    scaffold     of Bemis and Murcko (J. Med. Chem. 1996, 39, 2887), canonical, without
                 stereochemistry; "" for a molecule without rings.
    heavy_atoms  atoms other than hydrogen.
    """

    smiles: str
    scaffold: str
    heavy_atoms: int


def standardise(structure: str | Molecule, spec: StandardSpec) -> Standard:
    """Bring a SMILES, or a molecule of RDKit, into standard form; the form of a form is itself.

    A canonical SMILES is not always read back as it was written, so the form is taken again until
    it stands; where it goes in a circle, the first in the order of text is it.
    Raises RejectError: no_structure, invalid_structure, impossible_valence, metal,
    too_many_atoms, no_atoms.
    """
    seen: dict[str, Molecule] = {}
    if isinstance(structure, str):
        text = structure.strip()
        mol = seen[text] = _read(text, spec)
    else:
        mol = structure
    while (smiles := _form(mol, spec)) not in seen:
        mol = seen[smiles] = _read(smiles, spec)
    texts = list(seen)
    least = min(texts[texts.index(smiles) :])
    return _described(least, seen[least])


def from_block(block: str, spec: StandardSpec) -> Standard:
    """`standardise` for a MOL block (V2000 or V3000), without what follows it in an SDF file."""
    return standardise(_checked(chem.MolFromMolBlock, block), spec)


def _described(smiles: str, mol: Molecule) -> Standard:
    # Without stereochemistry, as where scaffold splits were published: MoleculeNet, chemprop.
    scaffold = MurckoScaffold.MurckoScaffoldSmiles(mol=mol, includeChirality=False)  # pyright: ignore
    return Standard(smiles, scaffold, mol.GetNumHeavyAtoms())


def _read(text: str, spec: StandardSpec) -> Molecule:
    if not text:
        raise RejectError(Code.NO_STRUCTURE)
    if not _SMILES.fullmatch(text):
        raise RejectError(Code.INVALID_STRUCTURE)
    if len(text) > _HOPELESS * spec.max_heavy_atoms:
        unchecked = chem.MolFromSmiles(text, sanitize=False)
        if unchecked and unchecked.GetNumHeavyAtoms() > _HOPELESS * spec.max_heavy_atoms:
            raise RejectError(Code.TOO_MANY_ATOMS)
    return _checked(chem.MolFromSmiles, text)


def _checked(read: Any, text: str) -> Molecule:
    mol = read(text)
    if mol is None:
        raise RejectError(_why_not(read, text))
    return mol


def _why_not(read: Any, text: str) -> Code:
    """Why RDKit refused a text: what it says of it piece by piece."""
    unchecked = read(text, sanitize=False)
    if unchecked is None:
        return Code.INVALID_STRUCTURE
    try:
        chem.SanitizeMol(unchecked)
    except chem.AtomValenceException:
        return Code.IMPOSSIBLE_VALENCE
    except ValueError:
        pass
    return Code.INVALID_STRUCTURE


def _form(mol: Molecule, spec: StandardSpec) -> str:
    """Canonical SMILES of the standard form; `mol` stays as it is."""
    if 0 < mol.GetNumHeavyAtoms() <= spec.max_heavy_atoms:
        smiles: str = chem.MolToSmiles(mol)
        plain = _PLAIN.fullmatch(smiles)
        if plain and (spec.stereo == "keep" or not _STEREO.search(smiles)):
            return smiles
    try:
        return _every_step(chem.Mol(mol), spec)
    except chem.AtomValenceException as error:
        raise RejectError(Code.IMPOSSIBLE_VALENCE) from error
    except chem.MolSanitizeException as error:
        raise RejectError(Code.INVALID_STRUCTURE) from error


def _every_step(mol: Molecule, spec: StandardSpec) -> str:
    if spec.largest_fragment:
        mol = _fragments().choose(mol)
    _require_small_molecule(mol, spec)
    if spec.neutralise:
        mol = _uncharger().uncharge(mol)
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)  # of a reaction scheme: not of the molecule
    if spec.stereo == "drop":
        chem.RemoveStereochemistry(mol)
    return chem.MolToSmiles(mol)


def _require_small_molecule(mol: Molecule, spec: StandardSpec) -> None:
    heavy = mol.GetNumHeavyAtoms()
    if heavy == 0:
        raise RejectError(Code.NO_ATOMS)
    if heavy > spec.max_heavy_atoms:
        raise RejectError(Code.TOO_MANY_ATOMS)
    numbers = {atom.GetAtomicNum() for atom in mol.GetAtoms()}
    if 0 in numbers:  # a placeholder: *, R1, a query
        raise RejectError(Code.INVALID_STRUCTURE)
    if spec.metals == "reject" and numbers - _NON_METALS:
        raise RejectError(Code.METAL)


@lru_cache(maxsize=1)
def _fragments() -> Any:
    return tools.LargestFragmentChooser(preferOrganic=True)


@lru_cache(maxsize=1)
def _uncharger() -> Any:
    return tools.Uncharger()
