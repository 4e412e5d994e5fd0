"""Tables (CSV, Parquet) joined to the files of an archive: labels, and facts about patients.

Keys are compared as stripped text, so leading zeros count. Owns reading tables, finding for
every file the one row that is its own, and counting what matches on neither side. Identifiers
stay in here: columns that hold any are left out of what becomes labels.
"""

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from medray import storage
from medray.errors import DataError, UsageError
from medray.ingest.parts import Row
from medray.schema import IMAGES
from medray.spec.models import TableSpec

_IDENTIFIERS = (
    "sop_instance_uid",
    "series_instance_uid",
    "study_instance_uid",
    "accession_number",
    "patient_id",
    "issuer_of_patient_id",
    "path",
)
_OWN_NAMES = frozenset({*IMAGES.names, "class_folder", "folder_split"} - {"pixels_sha256"})
NULLS = ["", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "#N/A"]
_EXAMPLES = 20


@dataclass(frozen=True, slots=True)
class LabelTable:
    """A table that was read: keys as text, all other columns with a type.

    name    its file name, for messages; sha256 of its bytes
    taken   the columns that become labels
    left    columns that stay out because they hold identifiers
    """

    spec: TableSpec
    name: str
    sha256: str
    keys: list[str | None]
    table: pa.Table
    taken: tuple[str, ...]
    left: tuple[str, ...]


@dataclass(slots=True)
class Match:
    """For every file the row of one table that is its own, or -1."""

    rows: list[int]
    unmatched_files: int = 0
    unmatched_rows: int = 0
    example_files: list[str] = field(default_factory=list[str])
    example_rows: list[int] = field(default_factory=list[int])


def read_tables(specs: Sequence[TableSpec]) -> list[LabelTable]:
    """Read all tables. Raises DataError or UsageError naming table and column."""
    tables = [_read(spec) for spec in specs]
    counts = Counter(name for table in tables for name in table.taken)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise UsageError(
            f"two tables bring a column of the same name: {', '.join(twice)}",
            remedy="list the wanted `columns` of each table, or rename them",
        )
    return tables


def _read(spec: TableSpec) -> LabelTable:
    name = spec.path.replace("\\", "/").rsplit("/", 1)[-1]
    try:
        data = storage.read_bytes(spec.path)
    except OSError as error:
        raise UsageError(
            f"the table {name} cannot be read: {type(error).__name__}",
            remedy="check the path; relative paths start at the current folder",
        ) from error
    key = spec.key or spec.on
    is_parquet = data[:4] == b"PAR1"
    table = _parquet(data, name) if is_parquet else _csv(data, name)
    _require_column(table, key, name, spec)
    keys = [None if value is None else str(value).strip() for value in table[key].to_pylist()]
    if spec.on == "path":
        keys = [None if value is None else _as_path(value) for value in keys]
    others = table.drop_columns([key])
    typed = pa.table({column: _typed(others[column]) for column in others.column_names})
    taken, left = _columns(spec, others.column_names, name)
    return LabelTable(spec, name, hashlib.sha256(data).hexdigest(), keys, typed, taken, left)


def _as_path(value: str) -> str:
    return value.replace("\\", "/").removeprefix("./")


def _require_column(table: pa.Table, column: str, name: str, spec: TableSpec) -> None:
    if column in table.column_names:
        return
    named = ", ".join(table.column_names[:12])
    raise UsageError(
        f"the table {name} has no column {column!r}; it has {named}",
        remedy=f"set `key` to the column that holds the {spec.on}",
    )


def _columns(
    spec: TableSpec, names: Sequence[str], table: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Choose the columns that become labels, and those left out for holding identifiers."""
    for column in spec.columns or ():
        if column not in names:
            raise UsageError(
                f"the table {table} has no column {column!r}",
                remedy=f"it has {', '.join(names[:12])}",
            )
        if column in _IDENTIFIERS:
            raise UsageError(
                f"the column {column!r} of {table} holds identifiers and may not enter a dataset",
                remedy="remove it from `columns`; items carry pseudonyms already",
            )
    wanted = names if spec.columns is None else spec.columns
    taken = tuple(column for column in wanted if column not in _IDENTIFIERS)
    clash = sorted(set(taken) & _OWN_NAMES)
    if clash:
        raise UsageError(
            f"the table {table} has columns whose names medray uses itself: {', '.join(clash)}",
            remedy="list the wanted `columns` without them, or rename them",
        )
    return taken, tuple(column for column in wanted if column in _IDENTIFIERS)


# ---------------------------------------------------------------- reading


def _parquet(data: bytes, name: str) -> pa.Table:
    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"the table {name} is not a readable Parquet file", remedy="write it again"
        ) from error
    return table


def _csv(data: bytes, name: str) -> pa.Table:
    """Read CSV as text: UTF-8, and the separator of its first line (, ; or tab)."""
    try:
        text = data.decode("utf-8-sig")
        first = text.split("\n", 1)[0]
        separator = max(",;\t", key=first.count)
        header = next(csv.reader(io.StringIO(first), delimiter=separator), [])
        names = [column.strip() for column in header]
        if len(set(names)) < len(names):
            raise DataError(f"the table {name} names a column twice", remedy="rename one")
        return pacsv.read_csv(
            pa.BufferReader(text.encode()),
            read_options=pacsv.ReadOptions(column_names=names, skip_rows=1),
            parse_options=pacsv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=NULLS,
                strings_can_be_null=True,
            ),
        )
    except (UnicodeDecodeError, pa.ArrowException, csv.Error) as error:
        what = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else "is no regular CSV"
        raise DataError(
            f"the table {name} {what}",
            remedy="save it as CSV (UTF-8) with one header line, or as Parquet",
        ) from error


_INTEGER = re.compile(r"[+-]?(0|[1-9]\d{0,17})", re.ASCII)
_NUMBER = re.compile(r"[+-]?(0|[1-9]\d{0,17}|(?=\.))(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
_TRUTH = {"true": True, "false": False}


def _typed(column: pa.ChunkedArray) -> pa.Array:
    """Give text a type where every value agrees; a leading zero makes a code, not a number."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        return column.combine_chunks() if plain else column.cast(pa.string()).combine_chunks()
    values = [None if value is None else value.strip() or None for value in column.to_pylist()]
    there = [value for value in values if value is not None]
    if there and all(value.lower() in _TRUTH for value in there):
        return pa.array([None if v is None else _TRUTH[v.lower()] for v in values], pa.bool_())
    if there and all(_INTEGER.fullmatch(value) for value in there):
        return pa.array([None if v is None else int(v) for v in values], pa.int64())
    if there and all(_NUMBER.fullmatch(value) for value in there):
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    return pa.array(values, pa.string())


# ---------------------------------------------------------------- matching


def match(table: LabelTable, files: Sequence[Row]) -> Match:
    """Find every file's row. Raises DataError on a key with two meanings, or when none matches."""
    index = index_of(table)
    wanted = [_key(file, table.spec.on) for file in files]
    result = Match([-1 if key is None else index.get(key, -1) for key in wanted])
    used = {key for key in wanted if key is not None and key in index}
    if files and not used:
        raise _no_match(table, wanted)
    lonely = [file["file_id"] for file, row in zip(files, result.rows, strict=True) if row < 0]
    unused = [row for row, key in enumerate(table.keys) if key not in used]
    result.unmatched_files, result.example_files = len(lonely), lonely[:_EXAMPLES]
    result.unmatched_rows = len(unused)
    result.example_rows = [row + 2 for row in unused[:_EXAMPLES]]  # as a spreadsheet counts
    return result


def _key(file: Row, on: str) -> str | None:
    value = file[on]
    return value.strip() if isinstance(value, str) and value.strip() else None


def index_of(table: LabelTable) -> dict[str, int]:
    """Key → its first row; the others with that key must say the same."""
    index: dict[str, int] = {}
    torn: set[str] = set()
    compared = [table.table[name].to_pylist() for name in table.taken]
    for row, key in enumerate(table.keys):
        if not key:
            continue
        first = index.setdefault(key, row)
        if first != row and any(values[first] != values[row] for values in compared):
            torn.add(key)
    if torn:
        column = table.spec.key or table.spec.on
        raise DataError(
            f"the column {column!r} of {table.name} has {len(torn)} keys with rows that differ",
            remedy="leave one row per key, or join on a finer key (for example "
            "sop_instance_uid instead of patient_id)",
        )
    return index


def _no_match(table: LabelTable, wanted: Sequence[str | None]) -> DataError:
    column = table.spec.key or table.spec.on
    theirs = _forms(key for key in table.keys if key)
    ours = _forms(key for key in wanted if key)
    return DataError(
        f"no row of {table.name} matches a file of the archive by {table.spec.on}",
        remedy=f"the key column {column!r} holds values like {theirs}, the archive's "
        f"{table.spec.on} values like {ours} (9: digit, a: letter); name the right column as "
        "`key`, or choose another `on`",
    )


def _forms(values: Any) -> str:
    """Describe up to three values without telling them: 9 for digits, a for letters."""
    forms: dict[str, None] = {}
    for value, _ in zip(values, range(100), strict=False):
        form = re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", value))
        forms[f"{form[:24]} ({len(value)} characters)"] = None
        if len(forms) == 3:
            break
    return ", ".join(forms) or "nothing (all empty)"


def label_columns(
    tables: Sequence[LabelTable], matches: Sequence[Match], files: Sequence[Row]
) -> tuple[dict[str, pa.Array], list[str]]:
    """Columns of all tables for every file, and names left out because they hold identifiers.

    A text column of which nine tenths are identifiers of the archive is one, whatever its name.
    """
    identifiers = {file[name] for file in files for name in _IDENTIFIERS if file[name]}
    columns: dict[str, pa.Array] = {}
    left = [name for table in tables for name in table.left]
    for table, found in zip(tables, matches, strict=True):
        for name in table.taken:
            column = take(table.table[name], found.rows)
            if _identifies(column, identifiers):
                left.append(name)
            else:
                columns[name] = column
    return columns, left


def take(column: pa.ChunkedArray, rows: Sequence[int]) -> pa.Array:
    """Rows of a column; null where the row is -1."""
    places = pa.array([None if row < 0 else row for row in rows], pa.int64())
    taken = column.take(places)
    return taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken


def _identifies(column: pa.Array, identifiers: set[str]) -> bool:
    if not pa.types.is_string(column.type):
        return False
    values = {value for value in column.to_pylist() if value}
    return len(values) >= 10 and len(values & identifiers) >= 0.9 * len(values)


def all_columns(tables: Sequence[LabelTable], matches: Sequence[Match]) -> Mapping[str, pa.Array]:
    """Every column of every table for every file, taken or not: what a split may be read from."""
    pairs = list(zip(tables, matches, strict=True))
    return {
        name: take(table.table[name], found.rows)
        for table, found in reversed(pairs)
        for name in table.table.column_names
    }
