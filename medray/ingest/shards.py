"""Tables of records → shards of events: each patient whole in one file, sorted by time.

Two rounds of parts (see `medray.ingest.parts`), so that memory depends on the size of a shard and
never on that of the archive: `scatter` reads the sources and lays every event into the heap of its
patient's shard; `gather` reads a shard's heaps, sorts, drops doubles and writes the final file.
"""

import json
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medray import storage
from medray.errors import Code, DataError
from medray.ingest import parts, sources
from medray.ingest.parts import Finished, Row
from medray.privacy.pseudonyms import pseudonym
from medray.records.events import BIRTH, RAW_EVENTS
from medray.records.summary import Shard, summarize_shard
from medray.schema import EVENTS, REFUSED_ROWS
from medray.spec.records import RecordSource, RecordsSpec

_HEAP_ROWS = 1 << 20  # events kept in memory before they are laid down
_FACT_AGAIN = "fact_said_again"
_HELD_BYTES = 64  # of an event in a heap

_WHENCE = [
    pa.field("source", pa.int32(), nullable=False),
    pa.field("file", pa.int32(), nullable=False),
    pa.field("row", pa.int64(), nullable=False),
]
_HEAP = pa.schema([*EVENTS, *_WHENCE])
SCATTERED = pa.schema(
    [
        *parts.KEY_FIELDS,
        pa.field("read", pa.int64(), nullable=False),
        pa.field("dropped", pa.int64(), nullable=False),
        pa.field("events", pa.int64(), nullable=False),
        pa.field("reasons", pa.string(), nullable=False),  # JSON: reason → count
        pa.field("not_used", pa.string(), nullable=False),  # JSON: kind of row → count
    ]
)
GATHERED = pa.schema(
    [
        *parts.KEY_FIELDS,
        pa.field("events", pa.int64(), nullable=False),
        pa.field("reasons", pa.string(), nullable=False),
        pa.field("summary", pa.string(), nullable=False),  # JSON of records.summary.Shard
    ]
)
EVENTS_SUFFIX, SUBJECTS_SUFFIX, REFUSED_SUFFIX = (
    ".events.parquet",
    ".subjects.parquet",
    ".refused.parquet",
)
SILENT_SUFFIX = ".silent.parquet"  # patients of a unit whose rows gave no event
SUBJECTS = pa.schema(
    [
        pa.field("subject_id", pa.int64(), nullable=False),
        pa.field("events", pa.int64(), nullable=False),
        pa.field("first", pa.timestamp("us")),
        pa.field("last", pa.timestamp("us")),
        pa.field("record_sha256", pa.string(), nullable=False),
    ]
)


Numbering = Callable[[str], int]
"""What a source calls a patient → `subject_id`."""


def subject_number(key: bytes, name: str) -> int:
    """MEDS wants an integer: 63 bits of the pseudonym that the patient's images carry too."""
    return number_of_pseudonym(pseudonym(key, "patient", f"\0{name}"))


def number_of_pseudonym(name: str) -> int:
    """`subject_id` of a patient whose pseudonym is known. Raises DataError for another text."""
    try:
        return int(name[:16], 16) >> 1
    except ValueError:
        raise DataError(
            "a source with `pseudonyms: true` names patients by something else",
            remedy="leave `pseudonyms` out where the column holds the hospital's own names",
        ) from None


def numbering(source: RecordSource, key: bytes) -> Numbering:
    """How a source's names become numbers."""
    return number_of_pseudonym if source.pseudonyms else partial(subject_number, key)


# ---------------------------------------------------------------- first round


def scatter(
    units: Sequence[Row],
    spec: RecordsSpec,
    key: bytes,
    shards: int,
    folder: str,
    progress: Callable[[int, int], None],
) -> Finished:
    """Read every unit; its events lie below `folder` afterwards, one heap per shard."""
    return parts.finish(
        units,
        partial(_open_scatter, spec.model_dump_json(), key, shards),
        SCATTERED,
        folder=folder,
        rows_per_part=1,
        cost=lambda row: row["size"],
        progress=progress,
    )


@contextmanager
def _open_scatter(spec: str, key: bytes, shards: int) -> Generator[parts.Work]:
    settings = RecordsSpec.model_validate_json(spec)
    numbers: dict[str, int] = {}

    def work(rows: list[Row], base: str) -> pa.Table:
        return pa.Table.from_pylist(
            [_scatter_one(row, settings, key, numbers, shards, base) for row in rows],
            schema=SCATTERED,
        )

    yield work


def _scatter_one(
    unit: Row, spec: RecordsSpec, key: bytes, numbers: dict[str, int], shards: int, base: str
) -> Row:
    source = spec.sources[unit["source"]]
    number_of = numbering(source, key)
    reasons: Counter[str] = Counter()
    refused: list[pa.Table] = []
    heap = _Heap(base, shards)
    seen: set[int] = set()
    read = dropped = events = 0
    not_used: Counter[str] = Counter()
    for batch in sources.read(unit, source, spec.codes, spec.drop):
        read, dropped = read + batch.read, dropped + batch.dropped
        events += batch.events.num_rows
        not_used.update(batch.not_used)
        reasons.update(batch.refused["reason"].to_pylist())
        refused.append(batch.refused)
        heap.add(named_events(batch.events, number_of, numbers, unit))
        seen.update(map(number_of, batch.silent))
    heap.close()
    _write_refused(base, refused, unit)
    if seen:
        silent = pa.table({"subject_id": pa.array(sorted(seen), pa.int64())})
        storage.write_parquet(base + SILENT_SUFFIX, silent)
    counts = {"read": read, "dropped": dropped, "events": events}
    named = {name: unit[name] for name in ("file_id", "size", "mtime_ns")}
    return {**named, **counts, "reasons": json.dumps(reasons), "not_used": json.dumps(not_used)}


def named_events(
    events: pa.Table, number_of: Numbering, numbers: dict[str, int], unit: Mapping[str, Any]
) -> pa.Table:
    """RAW_EVENTS with pseudonyms in the place of names, and where each row came from."""
    names = events["subject"].combine_chunks().dictionary_encode()
    for name in names.dictionary.to_pylist():
        if name not in numbers:
            numbers[name] = number_of(name)
    table = np.array([numbers[name] for name in names.dictionary.to_pylist()], np.int64)
    subject = table[names.indices.to_numpy()] if len(table) else np.empty(0, np.int64)
    count = events.num_rows
    columns = {
        "subject_id": pa.array(subject, pa.int64()),
        **{n: events[n] for n in RAW_EVENTS.names if n not in ("subject", "row")},
        "source": pa.array(np.full(count, unit["source"], np.int32)),
        "file": pa.array(np.full(count, unit["file"], np.int32)),
        "row": events["row"],
    }
    return pa.table(columns).select(_HEAP.names).cast(_HEAP)


class _Heap:
    """Events on their way to their shards: written when enough have come together."""

    def __init__(self, base: str, shards: int) -> None:
        self._base, self._shards = base, shards
        self._held: list[pa.Table] = []
        self._rows = self._written = 0

    def add(self, events: pa.Table) -> None:
        """Take events; lay down what is held when it is much."""
        self._held.append(events)
        self._rows += events.num_rows
        if self._rows >= _HEAP_ROWS:
            self.close()

    def close(self) -> None:
        """Lay down all that is held."""
        if not self._rows:
            return
        table = pa.concat_tables(self._held)
        shard_N = table["subject_id"].to_numpy() % self._shards
        order = np.argsort(shard_N, kind="stable")
        edges = np.searchsorted(shard_N[order], np.arange(self._shards + 1))
        table = table.take(pa.array(order))
        for shard in np.flatnonzero(np.diff(edges)):
            piece = table.slice(edges[shard], edges[shard + 1] - edges[shard])
            storage.write_parquet(f"{self._base}.{self._written}.heap-{shard}.parquet", piece)
        self._held, self._rows = [], 0
        self._written += 1


def _write_refused(base: str, refused: Sequence[pa.Table], unit: Row) -> None:
    rows = pa.concat_tables(refused) if refused else None
    if rows is None or not rows.num_rows:
        return
    whence = {name: pa.array(np.full(rows.num_rows, unit[name], np.int32)) for name in _FILE}
    table = pa.table({**whence, **{n: rows[n] for n in rows.column_names}})
    table = table.select(REFUSED_ROWS.names).cast(REFUSED_ROWS)
    storage.write_parquet(base + REFUSED_SUFFIX, table)


_FILE = ("source", "file")

# ---------------------------------------------------------------- second round


def gather(
    heaps: Sequence[str],
    shards: int,
    events: int,
    identity: str,
    folder: str,
    progress: Callable[[int, int], None],
) -> Finished:
    """Heaps of so many events → one file per shard that has any, below `folder`."""
    by_shard: dict[int, list[str]] = {}
    for uri in sorted(heaps):
        shard = int(uri.rsplit(".heap-", 1)[1].removesuffix(".parquet"))
        by_shard.setdefault(shard, []).append(uri)
    rows = [
        {"file_id": f"{identity}-{shard}", "size": len(uris), "mtime_ns": 0, "heaps": uris}
        for shard, uris in sorted(by_shard.items())
        if shard < shards
    ]
    return parts.finish(
        rows,
        _open_gather,
        GATHERED,
        folder=folder,
        rows_per_part=1,
        cost=lambda row: events // shards * _HELD_BYTES,
        progress=progress,
    )


@contextmanager
def _open_gather() -> Generator[parts.Work]:
    yield _gather


def _gather(rows: list[Row], base: str) -> pa.Table:
    return pa.Table.from_pylist([_gather_one(row, base) for row in rows], schema=GATHERED)


def _gather_one(row: Row, base: str) -> Row:
    tidied = tidy(storage.read_parquet(row["heaps"], _HEAP))
    if tidied.refused:
        storage.write_parquet(base + REFUSED_SUFFIX, pa.concat_tables(tidied.refused))
    shard, subjects = summarize_shard(tidied.kept)
    events = tidied.kept.select(EVENTS.names).cast(EVENTS)
    storage.write_parquet(base + EVENTS_SUFFIX, events)
    storage.write_parquet(base + SUBJECTS_SUFFIX, subjects.cast(SUBJECTS))
    named = {name: row[name] for name in ("file_id", "size", "mtime_ns")}
    return {
        **named,
        "events": events.num_rows,
        "reasons": json.dumps({**tidied.reasons, _FACT_AGAIN: tidied.facts_again}),
        "summary": shard.model_dump_json(),
    }


@dataclass(frozen=True, slots=True)
class Tidied:
    """Named events of whole patients, sorted by patient and time; and what was left out.

    facts_again  facts without time, and births, that a table says in every row of a patient:
                 neither events nor refused.
    """

    kept: pa.Table
    refused: list[pa.Table]
    reasons: dict[str, int]
    facts_again: int


def tidy(table: pa.Table) -> Tidied:
    """Sort what `named` gives; take out doubles, and what comes before a birth."""
    table = table.sort_by(
        [("subject_id", "ascending"), ("time", "ascending"), ("code", "ascending")]
        + [(name, "ascending") for name in ("text_value", "numeric_value", *_FILE, "row")]
    )
    table = _statics_first(table)
    double_N, early_N = _doubles(table), _before_birth(table)
    fact_N = _births(table) | np.asarray(pc.is_null(table["time"]))  # pyright: ignore[reportAttributeAccessIssue]
    said_again_N = double_N & ~fact_N & ~early_N
    counted = {Code.TIME_BEFORE_BIRTH: early_N, Code.DUPLICATE_EVENT: said_again_N}
    reasons = {str(code): int(mask.sum()) for code, mask in counted.items() if mask.any()}
    facts_again = int((double_N & fact_N & ~early_N).sum())
    refused = [_refused(table, mask, code) for code, mask in counted.items() if mask.any()]
    kept = table.filter(pa.array(~(double_N | early_N)))
    return Tidied(kept, refused, reasons, facts_again)


def _statics_first(table: pa.Table) -> pa.Table:
    """Put each patient's facts without time before the others (Arrow sorts nulls last)."""
    subject_N = table["subject_id"].to_numpy()
    timed_N = np.asarray(pc.is_valid(table["time"]))  # pyright: ignore[reportAttributeAccessIssue]
    return table.take(pa.array(np.lexsort((np.arange(len(subject_N)), timed_N, subject_N))))


def _doubles(table: pa.Table) -> Any:
    """Events that the one before repeats in all that an event is."""
    same_N = np.ones(max(table.num_rows - 1, 0), bool)
    for name in EVENTS.names:
        column = table[name].combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([])
        a, b = column.slice(0, max(len(column) - 1, 0)), column.slice(1)
        equal = pc.fill_null(pc.equal(a, b), False)  # pyright: ignore[reportAttributeAccessIssue]
        both = pc.and_(pc.is_null(a), pc.is_null(b))  # pyright: ignore[reportAttributeAccessIssue]
        same_N &= np.asarray(equal) | np.asarray(both)
    return np.concatenate([[False], same_N]) if table.num_rows else same_N


def _births(table: pa.Table) -> Any:
    return np.asarray(pc.equal(table["code"], BIRTH), bool)  # pyright: ignore[reportAttributeAccessIssue]


def _before_birth(table: pa.Table) -> Any:
    """Events before the first MEDS_BIRTH of their patient."""
    subject_N = table["subject_id"].to_numpy()
    time_N = table["time"].to_numpy(zero_copy_only=False).astype("M8[us]")
    births = np.flatnonzero(_births(table) & ~np.isnat(time_N))
    early_N = np.zeros(len(time_N), bool)
    if not len(births):
        return early_N
    born, first = np.unique(subject_N[births], return_index=True)  # sorted by time: the earliest
    place = np.minimum(np.searchsorted(born, subject_N), len(born) - 1)
    known_N = born[place] == subject_N
    return known_N & ~np.isnat(time_N) & (time_N < time_N[births[first]][place])


def _refused(table: pa.Table, mask: Any, code: Code) -> pa.Table:
    rows = table.filter(pa.array(mask)).select(["source", "file", "row", "code"])
    reasons = pa.array([str(code)] * rows.num_rows, pa.string())
    return rows.append_column("reason", reasons).cast(REFUSED_ROWS)


@dataclass(frozen=True, slots=True)
class Tally:
    """Sums over all receipts of both rounds. `not_used`: rows without events, part of `dropped`."""

    read: int
    dropped: int
    events: int
    reasons: dict[str, int]
    not_used: dict[str, int]
    shards: tuple[Shard, ...]


def tally(scattered: pa.Table, gathered: pa.Table) -> Tally:
    """Add the receipts up. Rows in = events + refused + dropped, or it is a defect."""
    reasons: Counter[str] = Counter()
    for text in [*scattered["reasons"].to_pylist(), *gathered["reasons"].to_pylist()]:
        counts: Mapping[str, int] = json.loads(text)
        reasons.update(counts)
    not_used: Counter[str] = Counter()
    for text in scattered["not_used"].to_pylist():
        not_used.update(json.loads(text))
    again = reasons.pop(_FACT_AGAIN, 0)
    if again:
        not_used["facts said again"] += again
    return Tally(
        read=sum(scattered["read"].to_pylist()),
        dropped=sum(scattered["dropped"].to_pylist()) + again,
        events=sum(gathered["events"].to_pylist()),
        reasons=dict(sorted(reasons.items())),
        not_used=dict(not_used.most_common()),
        shards=tuple(Shard.model_validate_json(text) for text in gathered["summary"].to_pylist()),
    )
