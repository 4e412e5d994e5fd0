"""The training set that generated molecules are compared with: what is new, and what is most alike.

Fingerprints are computed in parts, over Ray when there are many, into the run's staging folder;
workers read them from there. Shapes: R molecules of `train`, F bytes of a fingerprint.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rdkit import Chem

from medray import storage
from medray.dataset import MoleculesDataset
from medray.ingest.parts import IN_PROCESS_COST, KEY_FIELDS, Row, Work, finish
from medray.molecules.metrics.profile import BITS, fingerprint
from medray.molecules.neighbours import by_bits, neighbours
from medray.molecules.properties import PROPERTIES
from medray.molecules.text import strings

compute: Any = pc

_SUFFIX = ".known.parquet"
_KNOWN = pa.schema(
    [
        pa.field("smiles", pa.string(), nullable=False),
        pa.field("fingerprint", pa.binary(BITS // 8), nullable=False),
        # of one molecule in so many that some thousands have them
        *(pa.field(name, pa.float64()) for name in PROPERTIES),
    ]
)
_PART = 20_000  # molecules of a part, a few seconds of work
_FEW = 40_000  # and so many that starting Ray costs more
_DESCRIBED = 5_000  # molecules with properties


def prepare(
    dataset: MoleculesDataset, folder: str, progress: Callable[[int, int], None]
) -> tuple[str, ...]:
    """Describe `train` in files of `folder`, and name them; done once for a folder."""
    smiles = strings(dataset.smiles("train"))
    every = max(1, len(smiles) // _DESCRIBED)
    parts: list[Row] = [
        {
            "file_id": f"known-{at}",
            "size": len(smiles),
            "mtime_ns": 0,
            "smiles": smiles[at : at + _PART],
        }
        for at in range(0, len(smiles), _PART)
    ]
    done = finish(
        parts,
        partial(_open, every),
        pa.schema(KEY_FIELDS),
        folder=folder,
        rows_per_part=1,
        cost=lambda row: len(row["smiles"]) * (IN_PROCESS_COST // _FEW),
        progress=progress,
    )
    return tuple(sorted(base + _SUFFIX for base in done.bases))


@contextmanager
def _open(every: int) -> Generator[Work]:
    def work(rows: list[Row], base: str) -> pa.Table:
        for row in rows:
            storage.write_parquet(base + _SUFFIX, _described(row["smiles"], every))
        return pa.Table.from_pylist(rows, schema=pa.schema(KEY_FIELDS))

    yield work


def _described(smiles: Sequence[str], every: int) -> pa.Table:
    rows: list[Row] = []
    for at, one in enumerate(smiles):
        molecule: Any = Chem.MolFromSmiles(one)
        row = {"smiles": one, "fingerprint": fingerprint(molecule)}
        if at % every == 0:
            row |= {name: of(molecule) for name, of in PROPERTIES.items()}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=_KNOWN)


def sampled_properties(files: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Property → its values of some thousands of molecules of `train`, or of all if few."""
    names = list(PROPERTIES)
    table = storage.read_parquet(files, _KNOWN, names, compute.field(names[0]).is_valid())
    return {name: table[name].to_numpy() for name in names}


@dataclass(frozen=True, slots=True)
class Known:
    """What a worker holds of `train`: SMILES, and fingerprints (R, F) ordered by their bits."""

    smiles: pa.Array
    fingerprints_RF: NDArray[np.uint8]

    @classmethod
    def read(cls, files: Sequence[str]) -> "Known":
        """Read what `prepare` wrote."""
        table = storage.read_parquet(files, _KNOWN, ["smiles", "fingerprint"]).sort_by("smiles")
        packed = b"".join(table["fingerprint"].to_pylist())
        found_RF = np.frombuffer(packed, np.uint8).reshape(-1, BITS // 8)
        order = by_bits(found_RF)
        smiles = compute.take(table["smiles"], pa.array(order)).combine_chunks()
        return cls(smiles, found_RF[order])

    def holds(self, smiles: Sequence[str]) -> list[bool]:
        """Whether each SMILES is one of `train`."""
        return compute.is_in(pa.array(smiles, pa.string()), value_set=self.smiles).to_pylist()

    def nearest(self, fingerprints: Sequence[bytes]) -> tuple[list[str], list[float]]:
        """SMILES of the most similar molecule of `train` to each, and its similarity."""
        asked = np.frombuffer(b"".join(fingerprints), np.uint8).reshape(-1, BITS // 8)
        similar, rows = neighbours(asked, self.fingerprints_RF)
        return self.smiles.take(pa.array(rows)).to_pylist(), similar.tolist()
