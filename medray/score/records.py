"""A night on patients' records: whose record is new or has changed, and their scores.

    tables → shards of events → patients whose record this package has not scored → chunk files

The tables are read anew every night by the two rounds of an ingest, into staging; what is scored is
what of the records has changed. Shapes: N patients.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa

from medray import storage
from medray.errors import UsageError
from medray.ingest import rounds, shards, sources
from medray.ingest.parts import IN_PROCESS_ROWS, Key
from medray.ingest.rounds import Rounds
from medray.ingest.scans import check_pseudonyms
from medray.privacy.pseudonyms import load_key, pseudonym
from medray.provenance import canonical_sha256
from medray.records.summary import add_up
from medray.schema import EVENTS
from medray.score import chunks
from medray.score.night import Found, Night, with_run
from medray.score.pool import rows_on_ray
from medray.score.predictor import Predictor
from medray.score.stages import SCORED, Job, chunk_name
from medray.score.timelines import Timelines
from medray.spec.records import RecordsSpec

_SILENT = pa.schema([shards.SUBJECTS.field("subject_id")])


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient. key: id, events, and 63 bits of the hash of all that decides the scores.

    shard  the file of events the record stands in; absent: of this patient there is no event.
    """

    key: Key
    shard: str | None


def find(night: Night) -> Found:
    """Read the tables; all patients in them. Raises UsageError without tables."""
    records = _settings(night)
    units, key = sources.units_of(records), load_key()
    check_pseudonyms(records, key)
    files = [[unit[name] for name in ("file_id", "size", "mtime_ns")] for unit in units]
    identity = canonical_sha256([records, files, pseudonym(key, "check", "medray")])[:24]
    folder = storage.join(night.places.staging, "read", identity)
    found = rounds.bring_in(units, records, key, identity, folder, night.stage)
    codes = {row.code: row.events for row in add_up(found.tally.shards, _subjects(found)).codes}
    model = Timelines(Predictor(night.package.uri, "cpu", night.task))
    facts = {
        "unit": "patients",
        "events": found.tally.events,
        "rows_refused": found.tally.reasons,
        "rows_over_limit": found.rejected_share > records.reject_limit,
        "unknown_codes": model.unknown(codes),
    }
    return Found(list(_patients(found, night.section.records.at)), facts)


def _settings(night: Night) -> RecordsSpec:
    """The package's settings, over the tables of this night."""
    own = night.package.records
    asked = night.section.records.sources
    if asked is None and night.spec.records is not None:
        asked = night.spec.records.sources
    if own is None or asked is None:
        raise UsageError(
            "there is nothing to score",
            remedy="name the tables as `score.records.sources` in the spec",
        )
    if any(one.pseudonyms for one in own.sources) and not any(one.pseudonyms for one in asked):
        raise UsageError(
            "the package reads scans, and no source of this night has any",
            remedy="make tonight's with `medray embed`, and name them in `score.records.sources` "
            "with `pseudonyms: true`",
        )
    return own.model_copy(update={"sources": asked})


def _subjects(found: Rounds) -> pa.Table:
    uris = [base + shards.SUBJECTS_SUFFIX for base in found.gathered.bases]
    return storage.read_parquet(uris, shards.SUBJECTS)


def _patients(found: Rounds, at: str) -> Iterator[Patient]:
    known: set[int] = set()
    for base in sorted(found.gathered.bases):
        table = storage.read_parquet([base + shards.SUBJECTS_SUFFIX], shards.SUBJECTS)
        for row in table.to_pylist():
            known.add(row["subject_id"])
            said = f"{row['record_sha256']}\0{row['first']}\0{at}".encode()
            version = int(sha256(said).hexdigest()[:16], 16) >> 1
            key = (str(row["subject_id"]), row["events"], version)
            yield Patient(key, base + shards.EVENTS_SUFFIX)
    there = set(storage.list_files(found.folder))
    uris = [base + shards.SILENT_SUFFIX for base in found.scattered.bases]
    table = storage.read_parquet([uri for uri in uris if uri in there], _SILENT)
    for number in sorted(set(table["subject_id"].to_pylist()) - known):
        yield Patient((str(number), 0, 0), None)


def work(night: Night, todo: Sequence[Patient], run: str) -> tuple[pa.Table, int]:
    """All rows of this run, and the number of patients that an interrupted one had finished."""
    folder = storage.join(night.places.staging, "chunks")
    wanted = {each.key for each in todo}
    complete = chunks.clean(folder, wanted)
    done, tell = float(len(complete)), night.stage("score", "patients")
    tell(int(done), len(wanted))
    for written in _run([each for each in todo if each.key not in complete], night, folder):
        done += sum(1.0 / count for count in written["file_items"].to_pylist())
        tell(round(done), len(wanted))
    return with_run(chunks.collect(folder, wanted), run), len(complete)


def _run(rest: Sequence[Patient], night: Night, folder: str) -> Iterator[pa.Table]:
    """Do the work: in this process when it is little, else on Ray."""
    if not rest:
        return
    by_shard: dict[str | None, list[Key]] = {}
    for each in rest:
        by_shard.setdefault(each.shard, []).append(each.key)
    asked = {"at": night.section.records.at, "batch_size": night.section.batch_size}
    tasks = [
        {"shard": shard, "patients": json.dumps(keys), **asked} for shard, keys in by_shard.items()
    ]
    job = Job(night.package.uri, night.package.ref, folder, night.device, night.task)
    if len(rest) > IN_PROCESS_ROWS or os.environ.get("RAY_ADDRESS"):
        yield from rows_on_ray(tasks, ShardScorer, job, night.section)
        return
    scorer = ShardScorer(job)
    for task in tasks:
        yield from scorer.chunks(task)


class ShardScorer:
    """A loaded model that turns patients of a shard into chunk files."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._timelines = Timelines(Predictor(job.package_uri, job.device, job.task))

    def __call__(self, plan: pa.Table) -> Iterator[pa.Table]:
        """Score and write; gives file_id and file_items of the rows, for progress."""
        for task in plan.to_pylist():
            yield from self.chunks(task)

    def chunks(self, task: Mapping[str, Any]) -> Iterator[pa.Table]:
        """Score the patients of one shard; every `batch_size` of them are a chunk."""
        keys = [tuple(key) for key in json.loads(task["patients"])]
        shard = [task["shard"]] if task["shard"] else []
        events = storage.read_parquet(shard, EVENTS)
        for at in range(0, len(keys), task["batch_size"]):
            table = self._scored(events, keys[at : at + task["batch_size"]], task["at"])
            storage.write_parquet(storage.join(self._job.folder, chunk_name(table)), table)
            yield table.select(["file_id", "file_items"])

    def _scored(self, events: pa.Table, keys: Sequence[Key], at: Any) -> pa.Table:
        """Rows of SCORED of some patients."""
        numbers = pa.array([int(key[0]) for key in keys], pa.int64())
        theirs = pa.array(np.isin(events["subject_id"].to_numpy(), numbers.to_numpy()))
        silent = [key[0] for key in keys if not key[1]]
        found = self._timelines.predict(events.filter(theirs), at, silent)
        versions = {key[0]: {"size": key[1], "mtime_ns": key[2]} for key in keys}
        items: dict[str, set[str]] = {}
        for row in found:
            items.setdefault(row.file_id, set()).add(row.item_id)
        # The run is named when it is published: another one may finish this one's work.
        ours = {"package": self._job.package, "run": ""}
        rows = [
            asdict(row) | versions[row.file_id] | {"file_items": len(items[row.file_id])} | ours
            for row in found
        ]
        return pa.Table.from_pylist(rows, schema=SCORED)
