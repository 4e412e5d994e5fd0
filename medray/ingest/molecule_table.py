"""Rows in standard form → one row per molecule: duplicates taken out, properties typed.

In arrow and numpy throughout: rows are many.

Shapes: R rows, sorted by molecule and where they came from, N molecules.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medray.dataset.columns import Array
from medray.errors import Code
from medray.ingest.structures import PROPERTY
from medray.schema import REFUSED_ROWS

compute: Any = pc
_ORDER = ("item_id", "source", "file", "row")
# A leading zero makes a code, not a number.
_NUMBER = r"^[+-]?((0|[1-9][0-9]{0,17})(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_TRUTH = {"true": "1", "false": "0"}


@dataclass(frozen=True, slots=True)
class Grouped:
    """Rows sorted so that those of one molecule stand together, the first that counts first.

    starts_N  where each molecule's rows begin.
    """

    rows: pa.Table
    starts_N: Array

    @property
    def again_R(self) -> Array:
        """Whether a row says a molecule once more (R,) bool."""
        again_R = np.ones(self.rows.num_rows, bool)
        again_R[self.starts_N] = False
        return again_R


def grouped(rows: pa.Table) -> Grouped:
    """Sort rows by molecule, then by source, file and row."""
    rows = rows.sort_by([(name, "ascending") for name in _ORDER])
    count = rows.num_rows
    ids = _whole(rows["item_id"])
    differ = compute.not_equal(ids.slice(1), ids.slice(0, max(count - 1, 0)))
    first_R = np.ones(count, bool)
    first_R[1:] = np.asarray(differ)
    return Grouped(rows, np.flatnonzero(first_R))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def duplicates(groups: Grouped) -> pa.Table:
    """REFUSED_ROWS of the rows that say a molecule once more."""
    rows = groups.rows.select(["source", "file", "row"]).filter(pa.array(groups.again_R))
    count = rows.num_rows
    return pa.table(
        {
            **{name: rows[name] for name in rows.column_names},
            "code": pa.nulls(count, pa.string()),
            "reason": pa.array([str(Code.DUPLICATE_MOLECULE)] * count, pa.string()),
        },
        schema=REFUSED_ROWS,
    )


def properties(
    groups: Grouped, names: Sequence[str], policy: Literal["merge", "first"]
) -> dict[str, pa.Array]:
    """Columns of properties of every molecule: float64 where all values are numbers, else text.

    `merge`: of numbers their mean, of a column of nothing but 0 and 1 (true and false) none where
    they differ; of texts the first. `first`: what the first row says, be it nothing.
    """
    found: dict[str, pa.Array] = {}
    for name in names:
        column = _typed(groups.rows[PROPERTY + name])
        if policy == "first":
            found[name] = column.take(pa.array(groups.starts_N))
        elif pa.types.is_string(column.type):
            found[name] = _first_text(column, groups.starts_N)
        else:
            found[name] = _mean(column, groups.starts_N)
    return found


def _typed(column: pa.ChunkedArray) -> pa.Array:
    """Numbers where every value is a finite one, true or false; else text."""
    texts = _whole(column)
    lower = compute.utf8_lower(texts)
    if _all(compute.is_in(lower, pa.array(list(_TRUTH)))):
        return compute.equal(lower, "true").cast(pa.float64())
    if not _all(compute.match_substring_regex(texts, _NUMBER)):
        return texts
    numbers = compute.utf8_ltrim(texts, "+").cast(pa.float64())
    return numbers if _all(compute.is_finite(numbers)) else texts


def _all(mask: pa.Array) -> bool:
    return compute.all(mask, min_count=0).as_py()


def _first_text(column: pa.Array, starts_N: Array) -> pa.Array:
    count = len(column)
    place_R = np.where(np.asarray(compute.is_valid(column)), np.arange(count), count)
    place_N = np.minimum.reduceat(place_R, starts_N)
    return column.take(pa.array(place_N, mask=place_N == count))


def _mean(column: pa.Array, starts_N: Array) -> pa.Array:
    value_R = column.fill_null(float("nan")).to_numpy(zero_copy_only=False)
    there_R = ~np.isnan(value_R)
    least_N = np.fmin.reduceat(value_R, starts_N)
    most_N = np.fmax.reduceat(value_R, starts_N)
    count_N = np.add.reduceat(there_R.astype(np.int64), starts_N)
    sum_N = np.add.reduceat(np.where(there_R, value_R, 0.0), starts_N)
    differ_N = least_N < most_N
    binary = bool(np.isin(value_R[there_R], (0.0, 1.0)).all())
    mean_N = least_N.copy()
    mean_N[differ_N] = np.nan if binary else sum_N[differ_N] / count_N[differ_N]
    return pa.array(mean_N, mask=np.isnan(mean_N))
