"""Tables of records → events in memory: a few patients at once, by the rules of an ingest.

For predictions on single files and on requests. Writes nothing; an archive goes through `shards`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from medray.ingest.parts import Row
from medray.ingest.shards import named_events, subject_number, tables_of, tidy
from medray.records.events import normalise
from medray.schema import EVENTS
from medray.spec.records import RecordsSpec

Block = tuple[pa.Table, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Records:
    """Events of whole patients, sorted by patient and time, and what became of the rest.

    events   rows of EVENTS.
    refused  rows that became no event: reason → count.
    codes    code → events.
    silent   patients that rows name, none of which became an event: ids, as text.
    """

    events: pa.Table
    refused: Mapping[str, int]
    codes: Mapping[str, int]
    silent: tuple[str, ...]


def read(units: Sequence[Row], spec: RecordsSpec, key: bytes) -> Records:
    """Events of files, in units of `shards.units_of`."""
    return collect(
        (
            (table, unit)
            for unit in units
            for table in tables_of(unit, spec.sources[unit["source"]])
        ),
        spec,
        key,
    )


def collect(blocks: Iterable[Block], spec: RecordsSpec, key: bytes) -> Records:
    """Events of tables; beside each table which `source` of the spec it has the form of."""
    numbers: dict[str, int] = {}
    reasons: Counter[str] = Counter()
    named: list[pa.Table] = []
    silent: set[int] = set()
    for table, unit in blocks:
        source = spec.sources[unit["source"]]
        batch = normalise(table, source, spec.codes, spec.drop)
        reasons.update(batch.refused["reason"].to_pylist())
        silent.update(subject_number(key, name) for name in batch.silent)
        named.append(named_events(batch.events, key, numbers, {"file": 0, **unit}))
    if not named:
        return Records(EVENTS.empty_table(), {}, {}, ())
    tidied = tidy(pa.concat_tables(named))
    events = tidied.kept.select(EVENTS.names).cast(EVENTS)
    reasons.update(tidied.reasons)
    silent.update(numbers.values())
    silent.difference_update(events["subject_id"].unique().to_pylist())
    codes = Counter(events["code"].to_pylist())
    return Records(events, dict(sorted(reasons.items())), codes, tuple(map(str, sorted(silent))))
