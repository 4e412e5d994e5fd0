"""A dataset: what ingest published and training, evaluation and streaming read.

Owns reading it, counting it, fingerprinting it and refusing leaks. Knows nothing of where the
images came from. Shapes: N items of a split, H rows, W columns.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from medray import storage
from medray.errors import DataError, LeakError
from medray.provenance import canonical_sha256
from medray.spec.models import SPLITS
from medray.spec.pixels import PixelSpec

Array = npt.NDArray[Any]
ColumnArrays = dict[str, Array]

FORMAT = 1
_PIXEL_COLUMNS = ("pixels", "shape", "dtype")
_KEEP_ORDER = ("held_out", "tuning", "train")  # where an identical picture stays


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


def open_dataset(uri: str) -> "Dataset":
    """Open a dataset by its own folder or by the run's output folder.

    Raises DataError where none lies, or where its ingest has not finished.
    """
    for place in (storage.absolute(uri), storage.join(storage.absolute(uri), "dataset")):
        meta = read_meta(place)
        if meta is None:
            continue
        if meta.labels_sha256 is None:
            raise DataError("this dataset's ingest has not finished", remedy="run ingest again")
        return Dataset(place, meta)
    raise DataError(
        "there is no dataset here", remedy="run `medray ingest` first, or name another folder"
    )


class Dataset:
    """An opened dataset, pinned to what is published when its tables are first read."""

    def __init__(self, uri: str, meta: DatasetMeta) -> None:
        self.uri = uri
        self.meta = meta

    @property
    def images_uri(self) -> str:
        """Where the Delta table of pixels lies."""
        return storage.join(self.uri, "images")

    @cached_property
    def _labels(self) -> pa.Table:
        return storage.read_table(storage.join(self.uri, "labels")).sort_by("item_id")

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
        return {split: _count(self._split(split)) for split in SPLITS}

    def _split(self, split: str) -> pa.Table:
        if split not in SPLITS:
            raise DataError(f"there is no split {split!r}", remedy=f"one of {', '.join(SPLITS)}")
        mask = [value == split for value in self._labels["split"].to_pylist()]
        return self._labels.filter(pa.array(mask, pa.bool_()))

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


def _count(table: pa.Table) -> dict[str, int]:
    return {
        "items": table.num_rows,
        "subjects": len(set(table["subject_id"].to_pylist())),
        "studies": len(set(table["study_id"].to_pylist())),
    }


def _places(item_ids: Array, column: pa.ChunkedArray) -> tuple[Array, Array]:
    """For the rows of `column` that are in `item_ids` (sorted): their places, and the rows."""
    found = np.array(column.to_pylist(), object)
    places = np.searchsorted(item_ids, found)
    inside = np.minimum(places, max(len(item_ids) - 1, 0))
    rows = np.flatnonzero(item_ids[inside] == found) if len(item_ids) else np.empty(0, int)
    return inside[rows], rows


def label_arrays(table: pa.Table) -> ColumnArrays:
    """Columns of a table: numbers and booleans as float64 (missing NaN), else objects (None)."""
    return {name: _label_array(table[name]) for name in table.column_names}


def _label_array(column: pa.ChunkedArray) -> Array:
    kind = column.type
    if pa.types.is_boolean(kind):
        column, kind = column.cast(pa.uint8()), pa.uint8()
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        values = column.cast(pa.float64()).fill_null(float("nan"))
        return values.to_numpy(zero_copy_only=False).copy()
    array = np.empty(len(column), object)
    array[:] = column.to_pylist()
    return array


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


def check_leaks(
    labels: pa.Table, hashes: Mapping[str, str], policy: Literal["fail", "drop"] = "fail"
) -> set[str]:
    """Refuse a subject or an identical image in two splits; returns item_ids to leave out.

    `labels`: item_id, subject_id, split (null: in none). With `drop`, an identical image stays
    in the first of held_out, tuning, train it stands in, and its other item_ids are returned.
    Raises LeakError with counts.
    """
    rows = labels.select(["item_id", "subject_id", "split"]).to_pylist()
    rows = [row for row in rows if row["split"] is not None]
    by_subject: dict[str, set[str]] = defaultdict(set)
    by_hash: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_subject[row["subject_id"]].add(row["split"])
        by_hash[hashes[row["item_id"]]][row["split"]].append(row["item_id"])
    torn = sum(len(splits) > 1 for splits in by_subject.values())
    if torn:
        raise LeakError(
            f"{torn} of {len(by_subject)} subjects stand in more than one split",
            remedy="correct the split column so that all rows of a subject agree, or remove "
            "split.column to split by subject",
        )
    shared = [splits for splits in by_hash.values() if len(splits) > 1]
    if shared and policy == "fail":
        items = sum(len(ids) for splits in shared for ids in splits.values())
        raise LeakError(
            f"{len(shared)} identical images stand in more than one split ({items} items)",
            remedy="set split.identical_images: drop to leave out the copies, or correct the "
            "archive or the split",
        )
    dropped: set[str] = set()
    for splits in shared:
        first = next(split for split in _KEEP_ORDER if split in splits)
        dropped.update(i for split, ids in splits.items() if split != first for i in ids)
    return dropped
