"""Tables of records → events in memory: a few patients at once, by the rules of an ingest.

For predictions on single files and on requests. Writes nothing; an archive goes through `shards`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from medray.ingest import sources
from medray.ingest.parts import Row
from medray.ingest.shards import named_events, subject_number, tidy
from medray.records.events import Batch
from medray.schema import EVENTS
from medray.spec.records import RecordsSpec

_ALONE: Mapping[str, Any] = {"source": 0, "file": 0}


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
    """Events of files, in units of `sources.units_of`."""
    batches = (
        (batch, unit)
        for unit in units
        for batch in sources.read(unit, spec.sources[unit["source"]], spec.codes, spec.drop)
    )
    return collect(batches, key)


def collect(batches: Iterable[tuple[Batch, Mapping[str, Any] | None]], key: bytes) -> Records:
    """Events of batches; beside each `source` and `file` it comes from, if it comes from any."""
    numbers: dict[str, int] = {}
    reasons: Counter[str] = Counter()
    named: list[pa.Table] = []
    silent: set[int] = set()
    for batch, unit in batches:
        reasons.update(batch.refused["reason"].to_pylist())
        silent.update(subject_number(key, name) for name in batch.silent)
        named.append(named_events(batch.events, key, numbers, unit or _ALONE))
    if not named:
        return Records(EVENTS.empty_table(), {}, {}, ())
    tidied = tidy(pa.concat_tables(named))
    events = tidied.kept.select(EVENTS.names).cast(EVENTS)
    reasons.update(tidied.reasons)
    silent.update(numbers.values())
    silent.difference_update(events["subject_id"].unique().to_pylist())
    codes = Counter(events["code"].to_pylist())
    return Records(events, dict(sorted(reasons.items())), codes, tuple(map(str, sorted(silent))))
