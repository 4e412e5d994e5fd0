"""Files of patients' records: which there are, what is read in one go, blocks of them → batches.

Memory depends on the size of a block, never on that of a file.
"""

import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from medray import storage
from medray.errors import DataError, UsageError
from medray.ingest.parts import Row
from medray.records import events, fhir, omop
from medray.records.events import Batch
from medray.spec.records import CodeSpec, RecordSource, RecordsSpec

_BLOCK_BYTES = 16 << 20  # of a CSV read at once
_BLOCK_ROWS = 1 << 17  # of a Parquet file
_LINES_BYTES = 4 << 20  # of NDJSON
_LINE_BYTES = 64 << 20  # a longer line is refused unread
_UNIT_BYTES = 128 << 20  # of a Parquet file, per part
_SHARD_EVENTS = 1 << 18
# Bytes of a source per event, about; others, compressed, have 10.
_EVENT_BYTES = {".csv": 40, ".tsv": 40, ".ndjson": 600, ".jsonl": 600}
_TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
_LINES = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")


# ---------------------------------------------------------------- units of work


def units_of(spec: RecordsSpec) -> list[Row]:
    """What is read in one go: a file of text, or some row groups of a Parquet file.

    Raises UsageError for a path that is not there or holds nothing of the source's format.
    """
    return [
        unit
        for source, settings in enumerate(spec.sources)
        for file, (uri, size, mtime_ns) in enumerate(
            files_of(
                settings.path,
                partial(_of_format, settings),
                _WANTED[settings.format],
                "records.sources",
            )
        )
        for unit in _units(source, file, uri, size, mtime_ns)
    ]


def shards_of(units: Sequence[Row]) -> int:
    """How many shards give each about 260,000 events, from the size of the files."""
    sizes = {(unit["source"], unit["file"]): (unit["size"], unit["uri"]) for unit in units}
    events = sum(size / _bytes_per_event(uri) for size, uri in sizes.values())
    return min(4096, max(1, round(events / _SHARD_EVENTS)))


def _bytes_per_event(uri: str) -> int:
    kinds = (size for kind, size in _EVENT_BYTES.items() if uri.lower().endswith(kind))
    return next(kinds, 10)


def files_of(
    paths: Sequence[str],
    choose: Callable[[Sequence[str], str], list[str]],
    wanted: str,
    key: str,
) -> list[tuple[str, int, int]]:
    """(URI, size, mtime_ns) of the files of all paths.

    choose  (URIs, the path they are of) → those that are read; wanted, key: how messages call such
            a file, and the place of the spec that names it.
    Raises UsageError for a path that cannot be reached or holds none.
    """
    found: list[tuple[str, int, int]] = []
    for path in paths:
        uri = storage.absolute(path)
        fs, place = storage.filesystem(uri)
        try:
            info = fs.get_file_info(place)
        except OSError as error:
            raise UsageError(
                f"a path of `{key}` cannot be reached: {type(error).__name__}",
                remedy=f"check `{key}`",
            ) from error
        uris = choose([uri] if info.is_file else storage.list_files(uri), uri)
        if not uris:
            raise UsageError(
                f"there is no {wanted} at {path}",
                remedy=f"check `{key}`; relative paths start at the current folder",
            )
        for each in uris:
            facts = fs.get_file_info(storage.filesystem(each)[1])
            found.append((each, facts.size, facts.mtime_ns or 0))
    return found


def file_id(source: int, uri: str, groups: Sequence[int] | None = None) -> str:
    """Name a file of a source, or some row groups of it."""
    return hashlib.sha256(f"{source}\0{uri}\0{groups}".encode()).hexdigest()[:32]


_WANTED = {
    **dict.fromkeys(("meds", "long", "wide"), "CSV or Parquet file"),
    "fhir": f"NDJSON file ({', '.join(_LINES)})",
    "omop": f"CSV or Parquet file of {', '.join(omop.TABLES)}",
}


def _of_format(source: RecordSource, uris: Sequence[str], root: str) -> list[str]:
    """Those of the files that hold what the source's format reads."""
    if source.format == "fhir":
        return [uri for uri in uris if uri.lower().endswith(_LINES)]
    tables = [uri for uri in uris if uri.lower().endswith(_TABLES)]
    if source.format == "omop":  # of the other tables no events are made
        return [uri for uri in tables if omop.table_of(uri) is not None]
    if source.format == "meds":  # metadata/ and labels/ hold no events
        data = [uri for uri in tables if uri.removeprefix(root).startswith("/data/")]
        return data or [u for u in tables if "/metadata/" not in u.removeprefix(root)]
    return list(uris) if uris == [root] else tables


def _units(source: int, file: int, uri: str, size: int, mtime_ns: int) -> Iterator[Row]:
    def unit(groups: Sequence[int] | None, first: int) -> Row:
        name = file_id(source, uri, groups)
        which = {"source": source, "file": file, "uri": uri}
        extra = {"groups": None if groups is None else list(groups), "first": first}
        return {"file_id": name, "size": size, "mtime_ns": mtime_ns, **which, **extra}

    if not uri.lower().endswith(".parquet"):
        yield unit(None, 0)
        return
    fs, path = storage.filesystem(uri)
    try:
        metadata = pq.read_metadata(path, filesystem=fs)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"file {file} of source {source} is not a readable Parquet file",
            remedy="write it again, or take it out of `records.sources`",
        ) from error
    groups: list[int] = []
    first = held = 0
    rows = 0
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        groups.append(index)
        held += group.total_byte_size
        rows += group.num_rows
        if held >= _UNIT_BYTES or index == metadata.num_row_groups - 1:
            yield unit(groups, first)
            groups, held, first = [], 0, rows


# ---------------------------------------------------------------- reading


def read(
    unit: Row, source: RecordSource, codes: Mapping[str, CodeSpec], drop: Sequence[str]
) -> Iterator[Batch]:
    """Events and refusals of one unit, block by block.

    Raises DataError for a file that breaks off, UsageError for one without the columns it needs.
    """
    try:
        yield from _batches(unit, source, codes, drop)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise DataError(
            f"file {unit['file']} of source {unit['source']} cannot be read to its end: "
            f"{type(error).__name__}",
            remedy="write it again, or take it out of `records.sources`",
        ) from error


def _batches(
    unit: Row, source: RecordSource, codes: Mapping[str, CodeSpec], drop: Sequence[str]
) -> Iterator[Batch]:
    row = unit["first"]
    if source.format == "fhir":
        for lines in lines_of(unit["uri"]):
            yield fhir.normalise(lines, codes, drop, row)
            row += len(lines)
        return
    table = omop.table_of(unit["uri"]) if source.format == "omop" else None
    for block in _tables(unit, source):
        if table is None:
            yield events.normalise(block, source, codes, drop, row)
        else:
            yield omop.normalise(block, table, codes, drop, row)
        row += block.num_rows


def lines_of(uri: str) -> Iterator[list[bytes]]:
    """Blocks of whole lines; one that is too long to be held comes as a single NUL byte."""
    fs, path = storage.filesystem(uri)
    with fs.open_input_stream(path) as stream:  # .gz is taken off on the way
        rest, skipping = b"", False
        while block := stream.read(_LINES_BYTES):
            if skipping:
                end = block.find(b"\n")
                if end < 0:
                    continue
                block, skipping = block[end:], False
            *lines, rest = (rest + block).split(b"\n")
            if len(rest) > _LINE_BYTES:
                rest, skipping = b"\0", True
            if lines:
                yield lines
        if rest:
            yield [rest]


def _wanted(unit: Row, source: RecordSource, names: Sequence[str]) -> list[str]:
    if source.format == "omop":
        return list(omop.columns_of(omop.table_of(unit["uri"]) or "", names))
    return list(events.columns_of(source, names))


def _tables(unit: Row, source: RecordSource) -> Iterator[pa.Table]:
    """Blocks of one unit, the wanted columns only."""
    fs, path = storage.filesystem(unit["uri"])
    if unit["groups"] is not None:
        with fs.open_input_file(path) as stream:
            file = pq.ParquetFile(stream)
            wanted = _wanted(unit, source, file.schema_arrow.names)
            for batch in file.iter_batches(_BLOCK_ROWS, row_groups=unit["groups"], columns=wanted):
                yield pa.Table.from_batches([batch])
        return
    with fs.open_input_stream(path) as stream:
        yield from _csv_tables(stream, source, unit)


def _csv_tables(stream: Any, source: RecordSource, unit: Row) -> Iterator[pa.Table]:
    """Blocks of a CSV, every column as text: a type guessed from a first block may not hold."""
    head = bytearray()
    while b"\n" not in head and (block := stream.read(1 << 16)):
        head += block
    first = bytes(head).split(b"\n", 1)[0].decode("utf-8-sig", "replace").strip("\r")
    separator = separator_of(first)
    names = [name.strip() for name in next(csv.reader(io.StringIO(first), delimiter=separator), [])]
    wanted = _wanted(unit, source, names)
    twice = sorted({name for name in wanted if names.count(name) > 1})
    if twice:
        raise DataError(
            f"file {unit['file']} of source {unit['source']} names a column twice: "
            f"{', '.join(twice)}",
            remedy="rename one of them",
        )
    try:
        reader = pacsv.open_csv(
            pa.PythonFile(_Joined(bytes(head), stream), mode="r"),
            read_options=pacsv.ReadOptions(
                column_names=names, skip_rows=1, block_size=_BLOCK_BYTES
            ),
            parse_options=pacsv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), include_columns=wanted
            ),
        )
        for batch in reader:
            yield pa.Table.from_batches([batch])
    except pa.ArrowInvalid as error:
        where = f"file {unit['file']} of source {unit['source']}"
        if "Empty CSV" in str(error):
            return
        raise DataError(
            f"{where} is no regular CSV", remedy="save it as CSV (UTF-8) with one header line"
        ) from error


def separator_of(header: str) -> str:
    """What stands between the columns of a CSV, by its first line: a comma, semicolon or tab."""
    return max(",;\t", key=header.count)


class _Joined(io.RawIOBase):
    """What has been read of a stream already, and then the rest of it."""

    def __init__(self, head: bytes, stream: Any) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._head:
            self._head = self._stream.read(len(buffer))
        count = min(len(buffer), len(self._head))
        buffer[:count] = self._head[:count]
        self._head = self._head[count:]
        return count
