"""Label columns of a dataset as arrays, and the rows of its splits. Shapes: N rows."""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from medray.errors import DataError
from medray.spec.models import SPLITS

Array = npt.NDArray[Any]
ColumnArrays = dict[str, Array]


def split_rows(labels: pa.Table, split: str) -> pa.Table:
    """Rows of one split. Raises DataError for a split that does not exist."""
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}", remedy=f"one of {', '.join(SPLITS)}")
    mask = [value == split for value in labels["split"].to_pylist()]
    return labels.filter(pa.array(mask, pa.bool_()))


def folded(
    labels: pa.Table, number: int, folds: int, tuning: float, by: str = "subject_id"
) -> pa.Table:
    """Part `number` of `folds` as held_out; of the others the share `tuning` tunes.

    Assignment is a hash of the pseudonym (the column `by`): it does not move when patients come or
    go. Patients in no split stay in none.
    """
    pairs = zip(labels[by].to_pylist(), labels["split"].to_pylist(), strict=True)
    splits = [split and _of_fold(one, number, folds, tuning) for one, split in pairs]
    index = labels.column_names.index("split")
    return labels.set_column(index, "split", pa.array(splits, pa.string()))


def _of_fold(name: str, number: int, folds: int, tuning: float) -> str:
    digest = hashlib.sha256(name.encode()).digest()
    if int.from_bytes(digest[:8], "big") % folds == number:
        return "held_out"
    share = int.from_bytes(digest[8:16], "big") / 2**64
    return "tuning" if share < tuning else "train"


def count_rows(table: pa.Table) -> dict[str, int]:
    """Items, subjects and studies of some label rows."""
    return {
        "items": table.num_rows,
        "subjects": len(set(table["subject_id"].to_pylist())),
        "studies": len(set(table["study_id"].to_pylist())),
    }


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
