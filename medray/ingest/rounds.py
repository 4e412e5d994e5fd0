"""Both rounds over the tables of records, and what they add up to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medray import storage
from medray.errors import MedrayError
from medray.ingest import shards, sources
from medray.ingest.parts import Finished, Row
from medray.ingest.shards import Tally
from medray.spec.records import RecordsSpec

# What sources say of themselves, and what is no loss: not held against them.
_LENIENT = frozenset({"missing_value", "duplicate_event"})

Stage = Callable[[str, str], Callable[[int, int], None]]
"""(name of a stage, unit) → what tells its progress."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """Every shard of events lies below `folder`; nothing is published."""

    folder: str
    scattered: Finished
    gathered: Finished
    tally: Tally

    @property
    def rejected_share(self) -> float:
        """Of the rows; `missing_value` and `duplicate_event` are not counted."""
        strict = sum(n for reason, n in self.tally.reasons.items() if reason not in _LENIENT)
        return strict / self.tally.read if self.tally.read else 0.0


def bring_in(
    units: Sequence[Row], records: RecordsSpec, key: bytes, identity: str, folder: str, stage: Stage
) -> Rounds:
    """Scatter and gather; goes on where a run of the same identity stopped.

    Raises MedrayError when rows in are not events, refused and dropped rows: nothing may be
    published then.
    """
    read = storage.join(folder, "scattered")
    count = records.shards or sources.shards_of(units)
    scattered = shards.scatter(units, records, key, count, read, stage("read", "files"))
    heaps = [
        uri
        for uri in storage.list_files(read)
        if ".heap-" in uri and uri.rsplit(".heap-", 1)[0].rsplit(".", 1)[0] in scattered.bases
    ]
    gathered = shards.gather(
        heaps,
        count,
        sum(scattered.receipts["events"].to_pylist()),
        identity,
        storage.join(folder, "gathered"),
        stage("sort", "shards"),
    )
    tally = shards.tally(scattered.receipts, gathered.receipts)
    out = tally.events + tally.dropped + sum(tally.reasons.values())
    if tally.read != out:
        raise MedrayError(
            f"{tally.read} rows went in, {out} came out: nothing was published",
            remedy="this is a defect of medray; use a new output and report it",
        )
    return Rounds(folder, scattered, gathered, tally)
