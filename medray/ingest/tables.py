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
from medray.ingest.shards import Numbering, named_events, numbering, tidy
from medray.records.events import Batch
from medray.schema import EVENTS
from medray.spec.records import RecordsSpec


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
    named_by = [numbering(source, key) for source in spec.sources]
    return collect(
        (batch, named_by[unit["source"]], unit)
        for unit in units
        for batch in sources.read(unit, spec.sources[unit["source"]], spec.codes, spec.drop)
    )


def collect(batches: Iterable[tuple[Batch, Numbering, Mapping[str, Any]]]) -> Records:
    """Events of batches; beside each how its patients are numbered, and its `source` and `file`."""
    numbers: dict[str, int] = {}
    reasons: Counter[str] = Counter()
    named: list[pa.Table] = []
    silent: set[int] = set()
    for batch, number_of, unit in batches:
        reasons.update(batch.refused["reason"].to_pylist())
        silent.update(map(number_of, batch.silent))
        named.append(named_events(batch.events, number_of, numbers, unit))
    if not named:
        return Records(EVENTS.empty_table(), {}, {}, ())
    tidied = tidy(pa.concat_tables(named))
    events = tidied.kept.select(EVENTS.names).cast(EVENTS)
    reasons.update(tidied.reasons)
    silent.update(numbers.values())
    silent.difference_update(events["subject_id"].unique().to_pylist())
    codes = Counter(events["code"].to_pylist())
    return Records(events, dict(sorted(reasons.items())), codes, tuple(map(str, sorted(silent))))
