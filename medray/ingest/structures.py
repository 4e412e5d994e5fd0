"""Files of molecules: which there are, and their rows as text, whatever is wrong with a row.

Tables (CSV, Parquet), .smi and SDF become rows of one form: the structure as text, or why there is
none, and properties as text. Nothing here knows chemistry. Memory depends on a few rows.
"""

import csv
import io
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from medray import storage
from medray.errors import Code, DataError, UsageError
from medray.ingest.join import NULLS
from medray.ingest.parts import Row
from medray.ingest.sources import file_id, files_of, lines_of, separator_of
from medray.spec.molecules import MoleculeSource, MoleculesSpec

# One row of a source: its number there, from 0; its structure as text (SMILES or a MOL block), or
# the code of why there is none. Properties follow as text, their names behind PROPERTY.
ROWS = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("structure", pa.string()),
        pa.field("problem", pa.string()),
    ]
)
PROPERTY = "property "
NAME = "name"  # the property that a .smi line or the title of an SDF record gives
_ENDINGS = {
    "table": (".csv", ".tsv"),
    "parquet": (".parquet",),
    "smi": (".smi", ".smiles"),
    "sdf": (".sdf", ".sd"),
}
_RECORD_LINES = 100_000  # of one SDF record; a longer one is refused unread
_SMI = re.compile(r"(\S+)((?:\s+\|[^|]*\|)?)\s*(.*)", re.DOTALL)  # SMILES, CXSMILES, name


class _Found(NamedTuple):
    """A row: structure or problem, and its properties."""

    structure: str | None
    problem: Code | None
    properties: dict[str, str | None]


# ---------------------------------------------------------------- files


def units_of(spec: MoleculesSpec) -> list[Row]:
    """Files of all sources, in order: what they are and which version of it.

    Raises UsageError for a path that is not there or holds no such file.
    """
    return [
        {
            "file_id": file_id(source, uri),
            "size": size,
            "mtime_ns": mtime_ns,
            "source": source,
            "file": file,
            "uri": uri,
            "kind": _kind(uri) or "table",
        }
        for source, settings in enumerate(spec.sources)
        for file, (uri, size, mtime_ns) in enumerate(
            files_of(settings.path, _of_molecules, "file of molecules", "molecules.sources")
        )
    ]


def _kind(uri: str) -> str | None:
    name = uri.lower().removesuffix(".gz")
    found = (kind for kind, endings in _ENDINGS.items() if name.endswith(endings))
    return next(found, None)


def _of_molecules(uris: Sequence[str], root: str) -> list[str]:
    """Those of a folder that are read; a file that is named is, whatever its ending."""
    return list(uris) if uris == [root] else [uri for uri in uris if _kind(uri)]


def require_columns(unit: Row, source: MoleculeSource) -> None:
    """Raise UsageError for a table without the column of structures, or with two of one name."""
    if unit["kind"] not in ("table", "parquet"):
        return
    with _named(unit):
        names = _parquet_names(unit) if unit["kind"] == "parquet" else _csv_names(unit)
    where = f"file {unit['file']} of source {unit['source']}"
    if source.smiles not in names:
        raise UsageError(
            f"{where} has no column {source.smiles!r}; it has {', '.join(names[:12])}",
            remedy="set `smiles` of the source to the column that holds the SMILES",
        )
    kept = names if source.columns is None else [source.smiles, *source.columns]
    twice = sorted(name for name in {*kept} if name and names.count(name) > 1)
    if twice:
        raise UsageError(
            f"{where} names a column twice: {', '.join(twice)}", remedy="rename one of them"
        )


def _parquet_names(unit: Row) -> list[str]:
    fs, path = storage.filesystem(unit["uri"])
    return list(pq.read_schema(path, filesystem=fs).names)


def _csv_names(unit: Row) -> list[str]:
    lines = _texts(unit["uri"])
    first = next(lines, "")
    lines.close()
    return _header(first)[0]


def _header(first: str) -> tuple[list[str], str]:
    """Names of a table's columns, and what stands between them."""
    separator = separator_of(first)
    names = next(csv.reader(io.StringIO(first), delimiter=separator), [])
    return [name.strip() for name in names], separator


# ---------------------------------------------------------------- rows


@contextmanager
def _named(unit: Row) -> Generator[None]:
    """Make of what a file does that breaks off, or is not of its format, a DataError."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        raise DataError(
            f"file {unit['file']} of source {unit['source']} cannot be read to its end: "
            f"{type(error).__name__}",
            remedy="write it again, or take it out of `molecules.sources`",
        ) from error


def read(unit: Row, source: MoleculeSource, split: str | None, size: int) -> Iterator[pa.Table]:
    """Rows of one file as tables of ROWS and properties, `size` rows each.

    split  a column to take along though it may not be among the source's `columns`.
    Raises DataError for a file that breaks off.
    """
    wanted = None if source.columns is None else {*source.columns, *([split] if split else [])}
    with _named(unit):
        found = _READERS[unit["kind"]](unit, source)
        yield from _tables(found, wanted, size)


def _tables(found: Iterator[_Found], wanted: set[str] | None, size: int) -> Iterator[pa.Table]:
    first = 0
    while rows := list(islice(found, size)):
        names = dict.fromkeys(name for row in rows for name in row.properties if name)
        kept = [name for name in names if wanted is None or name in wanted]
        columns: list[Sequence[object]] = [
            range(first, first + len(rows)),
            [row.structure for row in rows],
            [row.problem for row in rows],
            *([_there(row.properties.get(name)) for row in rows] for name in kept),
        ]
        schema = pa.schema([*ROWS, *(pa.field(PROPERTY + name, pa.string()) for name in kept)])
        pairs = zip(columns, schema.types, strict=True)
        yield pa.table([pa.array(values, kind) for values, kind in pairs], schema=schema)
        first += len(rows)


def _there(value: str | None) -> str | None:
    """A value without space around it; None where it is a word for nothing."""
    value = None if value is None else value.strip()
    return None if value in NULLS else value


def _row(structure: str | None, properties: dict[str, str | None]) -> _Found:
    """A row that could be read."""
    structure = structure.strip() if structure else ""
    if not structure:
        return _Found(None, Code.NO_STRUCTURE, {})
    return _Found(structure, None, properties)


def _csv_rows(unit: Row, source: MoleculeSource) -> Iterator[_Found]:
    lines = _texts(unit["uri"])
    first = next(lines, "")
    names, separator = _header(first)
    place = names.index(source.smiles)
    others = [(i, name) for i, name in enumerate(names) if i != place and name]
    reader = csv.reader((line + "\n" for line in lines), delimiter=separator)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error:  # a field that never ends
            yield _Found(None, Code.UNREADABLE_ROW, {})
            continue
        if cells is None:
            return
        if not any(cells):
            yield _Found(None, Code.NO_STRUCTURE, {})
        elif len(cells) != len(names):
            yield _Found(None, Code.UNREADABLE_ROW, {})
        else:
            yield _row(cells[place], {name: cells[i] for i, name in others})


def _parquet_rows(unit: Row, source: MoleculeSource) -> Iterator[_Found]:
    fs, path = storage.filesystem(unit["uri"])
    with fs.open_input_file(path) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(_PARQUET_ROWS):
            names = [name for name in batch.schema.names if name != source.smiles]
            texts = [_as_text(batch[name]) for name in names]
            columns = [values.to_pylist() for values in texts if values is not None]
            kept = [name for name, values in zip(names, texts, strict=True) if values is not None]
            structures = batch[source.smiles].cast(pa.string()).to_pylist()
            for structure, *values in zip(structures, *columns, strict=True):
                yield _row(structure, dict(zip(kept, values, strict=True)))


_PARQUET_ROWS = 10_000


def _as_text(column: pa.Array) -> pa.Array | None:
    """Values as text that says them exactly; None for what is neither number nor text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.dictionary_decode(), kind.value_type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return None
    if pa.types.is_floating(kind):
        column = column.cast(pa.float64())
    return column.cast(pa.string())


def _smi_rows(unit: Row, source: MoleculeSource) -> Iterator[_Found]:
    for line in _texts(unit["uri"]):
        said = _SMI.match(line.strip())
        if said is None:
            yield _Found(None, Code.NO_STRUCTURE, {})
        else:
            smiles, extension, name = said.groups()
            yield _row(smiles + extension, {NAME: name} if name else {})


def _sdf_rows(unit: Row, source: MoleculeSource) -> Iterator[_Found]:
    for record in _records(_texts(unit["uri"])):
        if len(record) > _RECORD_LINES:
            yield _Found(None, Code.UNREADABLE_ROW, {})
        elif not any(line.strip() for line in record):
            yield _Found(None, Code.NO_STRUCTURE, {})
        else:
            yield _record(record)


def _records(lines: Iterable[str]) -> Iterator[list[str]]:
    """Lines of each record; of an endless one no more than what tells that it is one."""
    held: list[str] = []
    for line in lines:
        if line.startswith("$$$$"):
            yield held
            held = []
        elif len(held) <= _RECORD_LINES:
            held.append(line)
    if any(line.strip() for line in held):
        yield held


def _record(lines: list[str]) -> _Found:
    """A MOL block, then `> <NAME>`, lines of its value and an empty line for each property."""
    ends = (i for i, line in enumerate(lines) if line.startswith((">", "M  END")))
    end = next(ends, len(lines))
    end += end < len(lines) and lines[end].startswith("M")
    title = lines[0].strip()
    properties: dict[str, str | None] = {NAME: title} if title else {}
    rest = iter(lines[end:])
    for line in rest:
        named = re.match(r">.*?<(.*)>", line)
        if named:
            value = "\n".join(iter(lambda: next(rest, "").strip(), ""))
            properties[named[1].strip()] = value
    return _Found("\n".join(lines[:end]) + "\n", None, properties)


_READERS = {"table": _csv_rows, "parquet": _parquet_rows, "smi": _smi_rows, "sdf": _sdf_rows}


def _texts(uri: str) -> Generator[str]:
    """Lines of a file: each UTF-8, or Latin-1 where it is not; without BOM and line ends."""
    first = True
    for lines in lines_of(uri):
        for line in lines:
            if first:
                line, first = line.removeprefix(b"\xef\xbb\xbf"), False
            line = line.removesuffix(b"\r")
            try:
                yield line.decode()
            except UnicodeDecodeError:
                yield line.decode("latin-1")
