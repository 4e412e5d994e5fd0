"""Joined tables and folder names → the labels of a dataset: one row per item, checked.

Made anew by every ingest from the inventory, the tables and the columns of `images`; no pixel
is read for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from medray.dataset import check_leaks
from medray.errors import DataError, UsageError
from medray.ingest.join import LabelTable, Match, all_columns, label_columns
from medray.ingest.parts import Row
from medray.ingest.scan import folder_split
from medray.ingest.splits import assign
from medray.ingest.summary import TableSummary
from medray.spec.models import SplitSpec

_RASTER = ("png", "jpeg")


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels table, sorted by item_id, and how it came about."""

    table: pa.Table
    split_by: str
    identical_left_out: int
    tables: list[TableSummary]


def build_labels(
    items: pa.Table,
    files: Sequence[Row],
    tables: Sequence[LabelTable],
    matches: Sequence[Match],
    *,
    dicom_columns: Sequence[str],
    split: SplitSpec,
    key: bytes,
) -> Labels:
    """Join, split, refuse leaks. `items`: rows of IMAGES without pixels; `files`: their FILES.

    `matches` are those of `files`. Raises UsageError for names that clash, DataError for a split
    column that is not there or names no split, LeakError.
    """
    items = items.sort_by("item_id")
    joined, left = label_columns(tables, matches, files)
    folders = _folder_columns(files)
    columns = {**folders, **_without_own_split(joined, split)}
    _require_distinct(columns, dicom_columns)
    choices = {**all_columns(tables, matches), **folders}
    place = _Placement(items, files)
    subjects = items["subject_id"].to_pylist()
    values = None if split.column is None else place(_chosen(choices, split.column)).to_pylist()
    splits, split_by = assign(key, subjects, values, split)
    hashes = _pairs(items, "item_id", "pixels_sha256")
    named = items.select(["item_id", "subject_id"]).append_column("split", _text(splits))
    dropped = check_leaks(named, hashes, split.identical_images)
    ids = items["item_id"].to_pylist()
    kept = [None if i in dropped else each for i, each in zip(ids, splits, strict=True)]
    table = items.select(["item_id", "subject_id", "study_id"]).append_column("split", _text(kept))
    for name, column in columns.items():
        table = table.append_column(name, place(column))
    for name in dicom_columns:
        table = table.append_column(name, items[name])
    return Labels(table, split_by, len(dropped), _summaries(tables, matches, left))


class _Placement:
    """One value per file → one value per item."""

    def __init__(self, items: pa.Table, files: Sequence[Row]) -> None:
        index = {row["file_id"]: place for place, row in enumerate(files)}
        self._rows = pa.array([index[each] for each in items["file_id"].to_pylist()], pa.int64())

    def __call__(self, column: pa.Array) -> pa.Array:
        return column.take(self._rows)


def _text(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


def _pairs(table: pa.Table, key: str, value: str) -> dict[str, str]:
    return dict(zip(table[key].to_pylist(), table[value].to_pylist(), strict=True))


def _folder_columns(files: Sequence[Row]) -> dict[str, pa.Array]:
    """Columns that folders give, where there are PNG or JPEG files."""
    paths = [row["path"] if row["kind"] in _RASTER else None for row in files]
    if not any(paths):
        return {}
    return {
        "class_folder": _text([row["class_folder"] for row in files]),  # null for DICOM
        "folder_split": _text([path and folder_split(path) for path in paths]),
    }


def _without_own_split(columns: Mapping[str, pa.Array], split: SplitSpec) -> dict[str, pa.Array]:
    if "split" in columns and split.column != "split":
        raise UsageError(
            "a joined table has a column `split`, which is the dataset's own name",
            remedy="set split.column: split to use it, or list the table's wanted `columns`",
        )
    return {name: column for name, column in columns.items() if name != "split"}


def _require_distinct(columns: Mapping[str, pa.Array], dicom_columns: Sequence[str]) -> None:
    clash = sorted(set(columns) & set(dicom_columns))
    if clash:
        raise UsageError(
            f"a joined table and ingest.columns both name: {', '.join(clash)}",
            remedy="take the column out of one of them",
        )


def _chosen(choices: Mapping[str, pa.Array], column: str) -> pa.Array:
    if column not in choices:
        named = ", ".join(sorted(choices)[:12]) or "none"
        raise DataError(
            f"no joined table has the split column {column!r}",
            remedy=f"columns there are: {named}. Join the table that holds it under "
            "ingest.tables, or remove split.column to split by subject",
        )
    return choices[column]


def _summaries(
    tables: Sequence[LabelTable], matches: Sequence[Match], left: Sequence[str]
) -> list[TableSummary]:
    return [
        TableSummary(
            name=table.name,
            on=table.spec.on,
            rows=table.table.num_rows,
            unmatched_files=found.unmatched_files,
            unmatched_rows=found.unmatched_rows,
            example_file_ids=found.example_files,
            example_rows=found.example_rows,
            left_out_columns=[
                name for name in left if name in (*table.table.column_names, *table.left)
            ],
        )
        for table, found in zip(tables, matches, strict=True)
    ]
