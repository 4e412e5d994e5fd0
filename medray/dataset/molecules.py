"""A dataset of molecules: one row per structure, with its split, scaffold and known properties.

    dataset/dataset.json   what it was made from; written last, so that it is whole when it is there
    dataset/molecules/     Delta table MOLECULES, properties after its own columns
    dataset/summary.json   what it holds

Shapes: N molecules of a split.
"""

import hashlib
import json
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from medray import storage
from medray.dataset.columns import Array, ColumnArrays, folded, label_arrays
from medray.errors import DataError
from medray.molecules.text import as_bytes
from medray.spec.models import SPLITS
from medray.spec.molecules import MoleculesSpec

compute: Any = pc


class MoleculesMeta(BaseModel):
    """dataset.json of a dataset of molecules.

    split_by        whether folds are drawn by molecule (`subject`) or by scaffold, too.
    sources_sha256  of all that it was made from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["molecules"] = "molecules"
    format: Literal[1] = 1
    name: str
    molecules: MoleculesSpec
    split_by: Literal["subject", "scaffold"] = "subject"
    sources_sha256: str
    provenance: dict[str, Any] = {}


def read_molecules_meta(uri: str) -> MoleculesMeta | None:
    """dataset.json of a dataset's folder; None where there is none, or one of another kind."""
    try:
        data = storage.read_bytes(storage.join(uri, "dataset.json"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if json.loads(data).get("kind") != "molecules":
            return None
        return MoleculesMeta.model_validate_json(data)
    except (ValueError, AttributeError, ValidationError) as error:
        raise DataError(
            "dataset.json cannot be read",
            remedy="it was changed or made by another version of medray; ingest into a new output",
        ) from error


class MoleculesDataset:
    """An opened dataset, pinned to what is published when its table is first read.

    It answers what a dataset of images does; an item, its subject and its row are one molecule.
    """

    def __init__(self, uri: str, meta: MoleculesMeta) -> None:
        self.uri = uri
        self.meta = meta
        self._fold: tuple[int, int, float] | None = None

    @property
    def molecules_uri(self) -> str:
        """Where the Delta table lies."""
        return storage.join(self.uri, "molecules")

    def fold(self, number: int, folds: int, tuning: float) -> "MoleculesDataset":
        """Another split of the same molecules; see `columns.folded`.

        Where the dataset was split by scaffold, its folds are of whole scaffolds, too.
        """
        view = MoleculesDataset(self.uri, self.meta)
        view._fold = (number, folds, tuning)
        return view

    @cached_property
    def _table(self) -> pa.Table:
        table = storage.read_table(self.molecules_uri).sort_by("item_id")
        if self._fold is None:
            return table
        by = {"subject": "subject_id", "scaffold": "study_id"}[self.meta.split_by]
        return folded(table, *self._fold, by=by)

    def labels(self) -> pa.Table:
        """One row per molecule, sorted by item_id; `split` is null for molecules in none."""
        return self._table

    def counts(self) -> dict[str, dict[str, int]]:
        """Items, subjects and studies (scaffolds) of every split."""
        return {
            split: {
                "items": rows.num_rows,
                "subjects": rows.num_rows,
                "studies": compute.count_distinct(rows["study_id"]).as_py(),
            }
            for split in SPLITS
            for rows in [self.rows(split)]
        }

    def rows(self, split: str) -> pa.Table:
        """Rows of a split. Raises DataError for a split that does not exist."""
        if split not in SPLITS:
            raise DataError(f"there is no split {split!r}", remedy=f"one of {', '.join(SPLITS)}")
        return self._table.filter(compute.equal(self._table["split"], split))

    def nbytes(self, split: str) -> int:
        """Size of a split's SMILES in memory, bytes."""
        rows = self.rows(split)
        return rows.num_rows * int(compute.max(compute.binary_length(rows["smiles"])).as_py() or 0)

    def hashes(self) -> dict[str, str]:
        """item_id → itself: it is the hash of the structure."""
        return {one: one for one in self._table["item_id"].to_pylist()}

    def fingerprint(self) -> str:
        """SHA-256 over every structure, its split and its properties."""
        digest = hashlib.sha256(self.meta.molecules.standard.model_dump_json().encode())
        for name in sorted(self._table.column_names):
            digest.update(json.dumps([name, self._table[name].to_pylist()], default=str).encode())
        return digest.hexdigest()

    def columns(self, split: str) -> ColumnArrays:
        """Columns of a split but its SMILES, sorted by item_id; see `label_arrays`."""
        return label_arrays(self.rows(split).drop_columns(["smiles"]))

    def read(self, split: str) -> ColumnArrays:
        """All columns of a split, sorted by item_id; `smiles` (N,) as fixed-width bytes."""
        return self.columns(split) | {"smiles": self.smiles(split)}

    def smiles(self, split: str, source: str | None = None) -> Array:
        """SMILES (N,) of a split, or of one source in it, as fixed-width bytes."""
        rows = self.rows(split)
        if source is not None:
            rows = rows.filter(compute.equal(rows["source"], source))
        return as_bytes(rows["smiles"].to_pylist())
