"""Files of molecules → parts in standard form, in two rounds that can be killed at any moment.

`cut` lays the rows of every file down in chunks, so that one large file is work for many; in
`standardise` a task brings a chunk into standard form. See `medray.ingest.parts`.
"""

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from medray import storage
from medray.errors import RejectError
from medray.ingest import parts, structures
from medray.ingest.parts import Finished, Row
from medray.ingest.structures import PROPERTY
from medray.schema import REFUSED_ROWS
from medray.spec.molecules import MoleculesSpec, StandardSpec

MOLECULES_SUFFIX = ".molecules.parquet"
REFUSED_SUFFIX = ".refused.parquet"
# A row that is a molecule. draw: place in [0, 1) that its random split follows from.
MADE = pa.schema(
    [
        pa.field("source", pa.int32(), nullable=False),
        pa.field("file", pa.int32(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("study_id", pa.string(), nullable=False),
        pa.field("smiles", pa.string(), nullable=False),
        pa.field("scaffold", pa.string(), nullable=False),
        pa.field("heavy_atoms", pa.int32(), nullable=False),
        pa.field("draw", pa.float64(), nullable=False),
    ]
)
_CUT = pa.schema(
    [
        *parts.KEY_FIELDS,
        pa.field("source", pa.int32(), nullable=False),
        pa.field("file", pa.int32(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("base", pa.string(), nullable=False),  # of its chunks
        pa.field("chunks", pa.list_(pa.int64()), nullable=False),  # rows of each
        pa.field("columns", pa.list_(pa.string()), nullable=False),
    ]
)
_STANDARDISED = pa.schema(
    [
        *parts.KEY_FIELDS,
        pa.field("molecules", pa.int64(), nullable=False),
        pa.field("refused", pa.int64(), nullable=False),
    ]
)
_TEXT_FACTOR = 5  # bytes of text in a byte of a compressed file, about
_TEXT_PER_PART = 64 << 20
_PER_PART = 100  # small files, or the chunks they became
_ROW_COST = 2048  # so that Ray is started for some 30,000 rows, which take as long as it does


def cut(
    units: Sequence[Row],
    spec: MoleculesSpec,
    split_column: str | None,
    folder: str,
    progress: Callable[[int, int], None],
) -> Finished:
    """Rows of every file, in chunks of `rows_per_task`, below `folder`."""
    return parts.finish(
        units,
        partial(_open_cut, spec, split_column),
        _CUT,
        folder=folder,
        rows_per_part=_PER_PART,
        cost=_text_bytes,
        cost_per_part=_TEXT_PER_PART,
        progress=progress,
    )


def _text_bytes(unit: Row) -> int:
    packed = unit["uri"].lower().endswith((".gz", ".parquet"))
    return unit["size"] * (_TEXT_FACTOR if packed else 1)


@contextmanager
def _open_cut(spec: MoleculesSpec, split_column: str | None) -> Generator[parts.Work]:
    def work(units: list[Row], base: str) -> pa.Table:
        rows = [_cut(unit, f"{base}.{number}") for number, unit in enumerate(units)]
        return pa.Table.from_pylist(rows, schema=_CUT)

    def _cut(unit: Row, base: str) -> Row:
        source = spec.sources[unit["source"]]
        columns: dict[str, None] = {}
        rows: list[int] = []
        for table in structures.read(unit, source, split_column, spec.rows_per_task):
            storage.write_parquet(_chunk(base, len(rows)), table)
            columns.update(dict.fromkeys(table.column_names))
            rows.append(table.num_rows)
        names = [name.removeprefix(PROPERTY) for name in columns if name.startswith(PROPERTY)]
        taken = {name: unit[name] for name in ("source", "file", "kind")}
        return {**_key(unit), **taken, "base": base, "chunks": rows, "columns": names}

    yield work


def _chunk(base: str, number: int) -> str:
    return f"{base}.chunk-{number}.parquet"


def _key(row: Row) -> Row:
    return {name: row[name] for name in ("file_id", "size", "mtime_ns")}


def standardise(
    cut_files: Sequence[Row],
    spec: MoleculesSpec,
    seed: int,
    folder: str,
    progress: Callable[[int, int], None],
) -> Finished:
    """Chunks in standard form, and what was refused of them, below `folder`.

    cut_files  receipts of `cut`.
    """
    chunks = [
        {
            "file_id": f"{file['file_id']}-{number}",
            "size": rows,
            "mtime_ns": file["mtime_ns"],
            "chunk": _chunk(file["base"], number),
            **{name: file[name] for name in ("source", "file", "kind")},
        }
        for file in cut_files
        for number, rows in enumerate(file["chunks"])
    ]
    return parts.finish(
        chunks,
        partial(_open_standardise, spec.standard, seed),
        _STANDARDISED,
        folder=folder,
        rows_per_part=_PER_PART,
        cost=lambda chunk: chunk["size"] * _ROW_COST,
        cost_per_part=spec.rows_per_task * _ROW_COST,
        progress=progress,
    )


@contextmanager
def _open_standardise(spec: StandardSpec, seed: int) -> Generator[parts.Work]:
    from rdkit.rdBase import BlockLogs

    def work(chunks: list[Row], base: str) -> pa.Table:
        with BlockLogs():  # RDKit says of each refused structure what it is
            done = [_standardise(chunk, spec, seed) for chunk in chunks]
        for suffix, place in ((MOLECULES_SUFFIX, 0), (REFUSED_SUFFIX, 1)):
            tables = [tables[place] for tables in done]
            whole = pa.concat_tables(tables, promote_options="default")
            storage.write_parquet(base + suffix, whole)
        rows = [
            {**_key(chunk), "molecules": made.num_rows, "refused": refused.num_rows}
            for chunk, (made, refused) in zip(chunks, done, strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=_STANDARDISED)

    yield work


def _standardise(chunk: Row, spec: StandardSpec, seed: int) -> tuple[pa.Table, pa.Table]:
    """MADE with properties, and REFUSED_ROWS, of one chunk."""
    rows = _read_chunk(chunk["chunk"])
    made, refused, places = _forms(rows, chunk["kind"], spec, seed)
    whence = {name: chunk[name] for name in ("source", "file")}
    table = pa.Table.from_pylist([whence | one for one in made], schema=MADE)
    for name in rows.column_names:
        if name.startswith(PROPERTY):
            table = table.append_column(name, rows[name].take(pa.array(places, pa.int64())))
    return table, pa.Table.from_pylist([whence | one for one in refused], schema=REFUSED_ROWS)


def _read_chunk(uri: str) -> pa.Table:
    fs, path = storage.filesystem(uri)
    return pq.read_table(path, filesystem=fs)


def _forms(
    rows: pa.Table, kind: str, spec: StandardSpec, seed: int
) -> tuple[list[Row], list[Row], list[int]]:
    """Molecules, refused rows, and which rows the molecules are."""
    from medray.molecules import standard

    form = standard.from_block if kind == "sdf" else standard.standardise
    made: list[Row] = []
    refused: list[Row] = []
    places: list[int] = []
    columns = (rows[name].to_pylist() for name in ("row", "structure", "problem"))
    for place, (row, structure, problem) in enumerate(zip(*columns, strict=True)):
        try:
            if problem is not None:
                refused.append({"row": row, "reason": problem})
                continue
            found = form(structure, spec)
        except RejectError as error:
            refused.append({"row": row, "reason": str(error.code)})
            continue
        item_id = _short_hash(found.smiles)
        places.append(place)
        made.append(
            {
                "row": row,
                "item_id": item_id,
                "study_id": _short_hash(found.scaffold),
                "smiles": found.smiles,
                "scaffold": found.scaffold,
                "heavy_atoms": found.heavy_atoms,
                "draw": draw(item_id, seed),
            }
        )
    return made, refused, places


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def draw(name: str, seed: int) -> float:
    """Place in [0, 1) of a molecule or scaffold, whatever others there are: 53 bits of SHA-256."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
