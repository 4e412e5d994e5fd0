"""A dataset of images: what ingest published and training, evaluation and streaming read.

Owns reading it, counting it and fingerprinting it. Knows nothing of where the images came from.
Shapes: N items of a split, H rows, W columns.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from medray import storage
from medray.dataset.columns import Array, ColumnArrays, count_rows, folded, label_arrays, split_rows
from medray.errors import DataError
from medray.provenance import canonical_sha256
from medray.spec.models import SPLITS
from medray.spec.pixels import PixelSpec

FORMAT = 1
_PIXEL_COLUMNS = ("pixels", "shape", "dtype")


class DatasetMeta(BaseModel):
    """dataset.json. `labels_sha256` (what the labels were made from) is None until published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    name: str
    pixels: PixelSpec
    columns: tuple[str, ...]
    subject: str
    ingest_sha256: str
    key_check: str  # pseudonym of a fixed word: tells another key without telling the key
    labels_sha256: str | None = None
    provenance: dict[str, Any] = {}


def read_meta(uri: str) -> DatasetMeta | None:
    """dataset.json of a dataset's folder; None where there is none. Raises DataError."""
    try:
        data = storage.read_bytes(storage.join(uri, "dataset.json"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return DatasetMeta.model_validate_json(data)
    except ValidationError as error:
        raise DataError(
            f"dataset.json cannot be read: {error.error_count()} problems",
            remedy="it was changed or made by another version of medray; ingest into a new output",
        ) from error


def write_meta(uri: str, meta: DatasetMeta) -> None:
    """Write dataset.json of a dataset's folder."""
    text = meta.model_dump_json(indent=2) + "\n"
    storage.write_atomic(storage.join(uri, "dataset.json"), text.encode())


class Dataset:
    """An opened dataset, pinned to what is published when its tables are first read."""

    def __init__(self, uri: str, meta: DatasetMeta) -> None:
        self.uri = uri
        self.meta = meta
        self._fold: tuple[int, int, float] | None = None

    def fold(self, number: int, folds: int, tuning: float) -> "Dataset":
        """Another split of the same patients; see `columns.folded`."""
        view = Dataset(self.uri, self.meta)
        view._fold = (number, folds, tuning)
        return view

    @property
    def images_uri(self) -> str:
        """Where the Delta table of pixels lies."""
        return storage.join(self.uri, "images")

    @cached_property
    def _labels(self) -> pa.Table:
        table = storage.read_table(storage.join(self.uri, "labels")).sort_by("item_id")
        return table if self._fold is None else folded(table, *self._fold)

    @cached_property
    def _files(self) -> list[str]:
        return storage.table_files(self.images_uri)

    def labels(self) -> pa.Table:
        """One row per item, sorted by item_id; `split` is null for items in none."""
        return self._labels

    def image_files(self) -> list[str]:
        """URIs of the Parquet files of `images`."""
        return self._files

    def counts(self) -> dict[str, dict[str, int]]:
        """Items, subjects and studies of every split."""
        return {split: count_rows(self._split(split)) for split in SPLITS}

    def _split(self, split: str) -> pa.Table:
        return split_rows(self._labels, split)

    def nbytes(self, split: str) -> int:
        """Size of a split's stacked pixels, bytes."""
        wanted = set(self._split(split)["item_id"].to_pylist())
        total = 0
        table = self._images(["item_id", "shape", "dtype"])
        for row in table.to_pylist():
            if row["item_id"] in wanted:
                total += int(np.prod(row["shape"])) * np.dtype(row["dtype"]).itemsize
        return total

    def _images(self, columns: list[str]) -> pa.Table:
        schema = storage.table_schema(self.images_uri)
        return storage.read_parquet(self._files, schema, columns)

    def hashes(self) -> dict[str, str]:
        """item_id → SHA-256 of its pixels before resizing."""
        table = self._images(["item_id", "pixels_sha256"])
        pairs = zip(table["item_id"].to_pylist(), table["pixels_sha256"].to_pylist(), strict=True)
        return dict(pairs)

    def fingerprint(self) -> str:
        """SHA-256 over how pixels were made, every item's pixels, and every label."""
        digest = hashlib.sha256(canonical_sha256([self.meta.pixels, self.meta.columns]).encode())
        hashes = self.hashes()
        for name in sorted(self._labels.column_names):
            values = self._labels[name].to_pylist()
            digest.update(json.dumps([name, values], default=str).encode())
        for item_id in self._labels["item_id"].to_pylist():
            digest.update(f"{item_id}:{hashes[item_id]}\n".encode())
        return digest.hexdigest()

    def blocks(self, rows: int, part: int = 0, parts: int = 1) -> Iterator[pa.Table]:
        """Rows of `images`, of all splits, at most so many at a time, for `to_columns`.

        part, parts  of several readers each takes every `parts`-th file.
        """
        fs, _ = storage.filesystem(self.images_uri)
        for uri in self._files[part::parts]:
            with fs.open_input_file(storage.filesystem(uri)[1]) as stream:
                names = ["item_id", *_PIXEL_COLUMNS]
                for batch in pq.ParquetFile(stream).iter_batches(rows, columns=names):
                    yield pa.Table.from_batches([batch])

    def columns(self, split: str) -> ColumnArrays:
        """Label columns of a split, sorted by item_id; see `label_arrays`."""
        return label_arrays(self._split(split))

    def read(self, split: str, pixels: bool = True) -> ColumnArrays:
        """All items of a split, sorted by item_id: label columns and `pixels` (N, H, W[, C]).

        Raises DataError when shapes or dtypes differ, or when `images` and `labels` disagree.
        """
        columns = self.columns(split)
        if pixels:
            columns["pixels"] = self._stacked(columns["item_id"])
        return columns

    def _stacked(self, item_ids: Array) -> Array:
        """Pixels in the order of `item_ids` (sorted)."""
        stacked: Array | None = None
        seen = np.zeros(len(item_ids), bool)
        fs, _ = storage.filesystem(self.images_uri)
        for uri in self._files if len(item_ids) else []:
            path = storage.filesystem(uri)[1]
            table = pq.read_table(path, filesystem=fs, columns=["item_id", *_PIXEL_COLUMNS])
            places, rows = _places(item_ids, table["item_id"])
            if not len(rows):
                continue
            part = _stack(table.take(rows))
            if stacked is None:
                stacked = np.empty((len(item_ids), *part.shape[1:]), part.dtype)
            _require_alike(stacked, part)
            if seen[places].any():
                raise DataError("an item stands twice in `images`", remedy="ingest again")
            stacked[places], seen[places] = part, True
        if not seen.all():
            raise DataError(
                f"{int((~seen).sum())} labelled items have no pixels", remedy="run ingest again"
            )
        return np.empty((0, 0, 0), np.uint8) if stacked is None else stacked


def _places(item_ids: Array, column: pa.ChunkedArray) -> tuple[Array, Array]:
    """For the rows of `column` that are in `item_ids` (sorted): their places, and the rows."""
    found = np.array(column.to_pylist(), object)
    places = np.searchsorted(item_ids, found)
    inside = np.minimum(places, max(len(item_ids) - 1, 0))
    rows = np.flatnonzero(item_ids[inside] == found) if len(item_ids) else np.empty(0, int)
    return inside[rows], rows


def to_columns(table: pa.Table, labels: Mapping[str, Array] | None = None) -> ColumnArrays:
    """Rows of `images` → columns: `pixels` stacked to (B, H, W[, C]), all others as arrays.

    `labels` are the columns of one split (`Dataset.columns`): they are added to their items, and
    rows of other splits are left out. Raises DataError naming the shapes when they differ.
    """
    places: Array = np.empty(0, int)
    if labels is not None:
        places, rows = _places(labels["item_id"], table["item_id"])
        table = table.take(rows)
    columns = label_arrays(table.drop_columns(list(_PIXEL_COLUMNS)))
    columns["pixels"] = _stack(table) if table.num_rows else np.empty((0, 0, 0), np.uint8)
    if labels is not None:
        columns.update({name: values[places] for name, values in labels.items()})
    return columns


def _stack(table: pa.Table) -> Array:
    """Binary pixels with shape and dtype → one writable array (B, H, W[, C]); B > 0."""
    kinds = set(
        zip(map(tuple, table["shape"].to_pylist()), table["dtype"].to_pylist(), strict=True)
    )
    if len(kinds) > 1:
        shapes = sorted({f"{'×'.join(map(str, shape))} {dtype}" for shape, dtype in kinds})
        raise _unlike(shapes)
    shape, dtype = kinds.pop()
    pixels = table["pixels"].to_pylist()
    return np.frombuffer(b"".join(pixels), dtype).reshape(len(pixels), *shape).copy()


def _require_alike(stacked: Array, part: Array) -> None:
    if stacked.shape[1:] != part.shape[1:] or stacked.dtype != part.dtype:
        both = (stacked, part)
        raise _unlike([f"{'×'.join(map(str, a.shape[1:]))} {a.dtype.name}" for a in both])


def _unlike(shapes: Sequence[str]) -> DataError:
    named = ", ".join(shapes[:4]) + (f" and {len(shapes) - 4} more" if len(shapes) > 4 else "")
    return DataError(
        f"the items differ in shape or dtype: {named}",
        remedy="set ingest.pixels.size (and channels, and a window other than `none`) so that "
        "all items become alike",
    )
