"""What is computed of each molecule by itself, once; sets are then compared by their profiles.

Profiles of the parts of a list add up to that of the whole, so the parts can be computed anywhere.
Needs RDKit. ChemNet's activations come from elsewhere: this package has no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from rdkit.Chem import Mol
from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator
from rdkit.Chem.Scaffolds.MurckoScaffold import GetScaffoldForMol
from rdkit.DataStructs import BitVectToBinaryText

from medray.molecules.metrics.distributions import Moments
from medray.molecules.metrics.filters import alert
from medray.molecules.metrics.reading import canonical
from medray.molecules.properties import PROPERTIES

compute: Any = pc

Role = Literal["known", "reference", "generated"]
"""known: canonical SMILES alone, to tell what is new. reference: all but the filters, which are
asked of what was `generated`."""

BITS = 1024  # Morgan, radius 2
_RADIUS = 2
_SCAFFOLD_RINGS = 2  # what has fewer is no scaffold

_KNOWN = (
    pa.field("at", pa.int64(), nullable=False),  # place in the list that was given
    pa.field("smiles", pa.string()),  # canonical; null: no molecule
)
_REFERENCE = (
    *_KNOWN,
    pa.field("fingerprint", pa.binary(BITS // 8)),
    pa.field("fragments", pa.list_(pa.string())),  # of BRICS, each as often as it is there
    pa.field("scaffold", pa.string()),  # Bemis and Murcko; null with fewer than two rings
    *(pa.field(name, pa.float64()) for name in PROPERTIES),
)
PROFILE: Mapping[Role, pa.Schema] = {
    "known": pa.schema(_KNOWN),
    "reference": pa.schema(_REFERENCE),
    "generated": pa.schema([*_REFERENCE, pa.field("passes", pa.bool_())]),  # the filters
}
"""Role → columns. One row per given SMILES; all but its place is null in what is no molecule."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A list of SMILES, each described by itself, and the moments of ChemNet's activations.

    molecules  columns of a role, in the order of the list. chemnet: of the valid ones.
    """

    molecules: pa.Table
    chemnet: Moments

    @property
    def given(self) -> int:
        """How many SMILES went in."""
        return self.molecules.num_rows

    def smiles(self) -> pa.ChunkedArray:
        """Canonical SMILES of the valid molecules, in order."""
        return self.molecules["smiles"].drop_null()

    def passes(self) -> NDArray[np.bool_]:
        """Which of the valid molecules pass the filters (N,); of what was generated."""
        return self.molecules["passes"].drop_null().to_numpy()

    def fingerprints(self) -> NDArray[np.uint8]:
        """Morgan fingerprints of the valid molecules (N, 128), bits packed into bytes."""
        found = b"".join(self.molecules["fingerprint"].drop_null().to_pylist())
        return np.frombuffer(found, np.uint8).reshape(-1, BITS // 8)

    def fragments(self) -> Mapping[str, int]:
        """BRICS fragment → how often it is there."""
        return _counted(compute.list_flatten(self.molecules["fragments"]))

    def scaffolds(self) -> Mapping[str, int]:
        """Scaffold of at least two rings → how many molecules have it."""
        return _counted(self.molecules["scaffold"])

    def values(self, name: str) -> NDArray[np.float64]:
        """A property of the valid molecules (N,)."""
        return self.molecules[name].drop_null().to_numpy()


def merge(profiles: Sequence[Profile]) -> Profile:
    """The profile of the list that these, at least one and of one role, are parts of."""
    parts = [profile for profile in profiles if profile.given]
    tables = [part.molecules for part in sorted(parts, key=lambda p: p.molecules["at"][0].as_py())]
    chemnet = profiles[0].chemnet
    for profile in profiles[1:]:
        chemnet = chemnet + profile.chemnet
    return Profile(pa.concat_tables(tables) if tables else profiles[0].molecules, chemnet)


def describe(smiles: Sequence[str], role: Role, first: int = 0) -> pa.Table:
    """Columns of a role for a part of a list; `first`: the place of its first SMILES."""
    with rdBase.BlockLogs():
        rows = [{"at": first + at, **_described(one, role)} for at, one in enumerate(smiles)]
    return pa.Table.from_pylist(rows, schema=PROFILE[role])


def _described(smiles: str, role: Role) -> dict[str, Any]:
    found = canonical(smiles)
    if found is None:
        return {}
    molecule = found[0]
    row: dict[str, Any] = {"smiles": found[1]}
    if role == "known":
        return row
    row["fingerprint"] = fingerprint(molecule)
    row["fragments"] = fragments(molecule)
    row["scaffold"] = scaffold(molecule)
    row |= {name: of(molecule) for name, of in PROPERTIES.items()}
    if role == "generated":
        row["passes"] = alert(molecule) is None
    return row


def fingerprint(molecule: Mol) -> bytes:
    """Morgan fingerprint of radius 2, 1,024 bits in 128 bytes. Rogers & Hahn, JCIM 2010."""
    generator: Any = GetMorganGenerator(radius=_RADIUS, fpSize=BITS)
    return bytes(BitVectToBinaryText(generator.GetFingerprint(molecule)))


def fragments(molecule: Mol) -> list[str]:
    """BRICS fragments with their open ends. Degen et al., ChemMedChem 2008;3:1503."""
    return Chem.MolToSmiles(Chem.FragmentOnBRICSBonds(molecule)).split(".")


def scaffold(molecule: Mol) -> str | None:
    """Rings and what links them; None with fewer than two rings. Bemis & Murcko, JMC 1996."""
    try:
        found = GetScaffoldForMol(molecule)
    except (ValueError, RuntimeError):  # RDKit cannot cut it out: as good as none, as in MOSES
        return None
    return Chem.MolToSmiles(found) if found.GetRingInfo().NumRings() >= _SCAFFOLD_RINGS else None


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    counts = compute.value_counts(column.drop_null())
    return dict(
        zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    )
