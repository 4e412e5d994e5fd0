"""Small datasets of molecules written straight to disk, in the form that ingest publishes."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake
from rdkit import Chem
from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

from medray import storage
from medray.dataset import MoleculesMeta
from medray.schema import MOLECULES
from medray.spec.molecules import MoleculeSource, MoleculesSpec

_TAILS = ("", "C", "CC", "CCC", "CO", "CN", "CCl", "C#N", "C(=O)O", "C(C)C", "OC", "CCO")
_CORES = ("C1CCCCC1", "C1CCOCC1", "C1CCNCC1", "c1ccccc1", "c1ccncc1", "c1ccsc1", "CC", "CCCC")


def some(count: int) -> list[str]:
    """Different canonical SMILES: cores with tails."""
    found: dict[str, None] = {}
    for first in _TAILS:
        for second in _TAILS:
            for core in _CORES:
                text = f"{first}N({second or 'C'}){core}" if first else f"{core}{second}"
                mol = Chem.MolFromSmiles(text)
                if mol is not None:
                    found[Chem.MolToSmiles(mol)] = None
                if len(found) == count:
                    return list(found)
    raise ValueError(f"there are only {len(found)} molecules here")


def aromatic(smiles: str) -> float:
    """1 for molecules with an aromatic ring: what a test's network learns to see."""
    return float(any(atom.GetIsAromatic() for atom in Chem.MolFromSmiles(smiles).GetAtoms()))


def write_molecules(output: Path, smiles: list[str], properties: dict[str, list[Any]]) -> None:
    """dataset/ under `output`: splits by turns, 6 train, 2 tuning, 2 held_out."""
    ids = [_name(one) for one in smiles]
    scaffolds = [MurckoScaffoldSmiles(one) for one in smiles]
    turns = ("train",) * 6 + ("tuning",) * 2 + ("held_out",) * 2
    splits = [turns[number % 10] for number in range(len(smiles))]
    own = {
        "item_id": ids,
        "subject_id": ids,
        "study_id": [_name(one) for one in scaffolds],
        "smiles": smiles,
        "scaffold": scaffolds,
        "source": ["made"] * len(smiles),
        "heavy_atoms": [Chem.MolFromSmiles(one).GetNumHeavyAtoms() for one in smiles],
        "split": splits,
        "split_random": splits,
        "split_scaffold": splits,
    }
    table = pa.Table.from_pydict(own, schema=MOLECULES)
    for name, values in properties.items():
        table = table.append_column(name, pa.array(values))
    write_deltalake(str(output / "dataset/molecules"), table)
    spec = MoleculesSpec(sources=(MoleculeSource(path=("made.csv",)),))
    meta = MoleculesMeta(name="made", molecules=spec, sources_sha256="0" * 64)
    storage.write_atomic(str(output / "dataset/dataset.json"), meta.model_dump_json().encode())


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
