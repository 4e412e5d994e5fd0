"""The verb `ingest` for patients' records: tables → a dataset of timelines.

List, scatter, gather, join facts about patients, split, check, publish. A killed run goes on where
it stopped; unchanged sources cost a listing.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

import medray
from medray import storage
from medray.dataset import RecordsMeta, check_leaks
from medray.dataset.records import read_records_meta, record_hashes
from medray.errors import DataError, OutputConflictError, UsageError
from medray.ingest import shards, sources
from medray.ingest.join import LabelTable, index_of, read_tables, take
from medray.ingest.output import (
    Output,
    attempt,
    clear_staging,
    locked,
    require_ours,
    stored_summary,
)
from medray.ingest.parts import Finished, Row
from medray.ingest.records_summary import RecordsSummary
from medray.ingest.rounds import Rounds, bring_in
from medray.ingest.scans import check_pseudonyms, keep_splits, splits_of_scans
from medray.ingest.shards import SUBJECTS, Tally
from medray.ingest.splits import assign
from medray.ingest.stages import Progress, Stages
from medray.privacy.pseudonyms import load_key, pseudonym
from medray.provenance import canonical_sha256, provenance
from medray.records.summary import add_up
from medray.records.tasks import TIMELINE
from medray.schema import EVENTS, REFUSED_ROWS
from medray.spec.models import SPLITS, RunSpec, TableSpec
from medray.spec.records import RecordsSpec

_ITEM_COLUMNS = (
    "item_id",
    "study_id",
    "split",
    "start",
    "prediction_time",
    "row",
    "told",
    *TIMELINE,
)
_NAMED = 5  # events: what fewer say may be a note about one patient, and packages carry the names


@dataclass(slots=True)
class _Job:
    """One run: what was asked, where it goes, and what it counted so far."""

    spec: RunSpec
    records: RecordsSpec
    output: Output
    key: bytes
    units: list[Row]
    tables: list[LabelTable]
    identity: str
    stage: Stages
    summary: RecordsSummary


def ingest_records(spec: RunSpec, *, progress: Progress | None = None) -> RecordsSummary:
    """Bring the dataset of `spec.output_uri` to the state of the sources.

    The summary says whether the rejected share passed its limit; that raises nothing. Raises
    UsageError, OutputConflictError, DataError and LeakError before anything is published.
    """
    started = time.monotonic()
    if spec.records is None:
        raise UsageError("the spec has no `records` section", remedy="add `records: {sources: …}`")
    output = Output(storage.absolute(spec.output_uri))
    key = load_key()
    check_pseudonyms(spec.records, key)
    units = sources.units_of(spec.records)
    tables = read_tables(
        [
            TableSpec(path=t.path, on="patient_id", key=t.key, columns=t.columns)
            for t in spec.records.tables
        ]
    )
    identity = _identity(spec, units, tables, key)
    stored = _claim(spec, output, key)
    if stored is not None and stored.sources_sha256 == identity:
        told = _nothing_to_do(output, started)
        if told is not None:
            clear_staging(output)
            return told
    summary = RecordsSummary()
    stage = Stages(progress, summary.stages_s)
    job = _Job(spec, spec.records, output, key, units, tables, identity, stage, summary)
    with locked(output.staging, "ingest"):
        _bring_up(job, started)
        output.remove_staging()
    return job.summary


def _identity(spec: RunSpec, units: Sequence[Row], tables: Sequence[LabelTable], key: bytes) -> str:
    files = [[unit[name] for name in ("file_id", "size", "mtime_ns")] for unit in units]
    said = [medray.__version__, spec.records, spec.split, files, [t.sha256 for t in tables]]
    return canonical_sha256([*said, pseudonym(key, "check", "medray")])


def _claim(spec: RunSpec, output: Output, key: bytes) -> RecordsMeta | None:
    """Return the stored meta of an output that this spec may go on with; None for a new one."""
    stored = read_records_meta(output.dataset)
    if stored is None:
        records = spec.records
        inputs = [p for s in records.sources for p in s.path] if records else []
        tables = [table.path for table in records.tables] if records else []
        require_ours(output.uri, [*inputs, *tables], holds="timelines")
        return None
    if stored.key_check != pseudonym(key, "check", "medray"):
        raise OutputConflictError(
            "this dataset was made with another pseudonym key",
            remedy="let MEDRAY_KEY_FILE name the key it was made with, or use a new output",
        )
    return stored


def _nothing_to_do(output: Output, started: float) -> RecordsSummary | None:
    summary = stored_summary(output, RecordsSummary)
    if summary is None:
        return None
    summary.changed_dataset, summary.stages_s = False, {}
    summary.seconds, summary.events_per_second = round(time.monotonic() - started, 3), 0.0
    return summary


def _bring_up(job: _Job, started: float) -> None:
    """Do the work; nothing is published before the check of leaks."""
    folder = storage.join(job.output.staging, job.identity[:24])
    rounds = bring_in(job.units, job.records, job.key, job.identity[:24], folder, job.stage)
    scattered, gathered, tally = rounds.scattered, rounds.gathered, rounds.tally
    _count(job, rounds)
    if not tally.events:
        raise _no_events(tally)
    uris = [base + shards.SUBJECTS_SUFFIX for base in gathered.bases]
    seen = storage.read_parquet(uris, SUBJECTS).sort_by("subject_id")
    job.summary.timelines = add_up(tally.shards, seen)
    subjects = _subjects(job, seen)
    job.stage("publish", "events")(0, tally.events)
    _publish(job, attempt(folder, job.identity), scattered, gathered, subjects)
    job.summary.seconds = round(time.monotonic() - started, 3)
    job.summary.events_per_second = round(tally.events / max(job.summary.seconds, 1e-9), 1)
    _finish(job, tally)
    job.stage("publish", "events")(tally.events, tally.events)


def _no_events(tally: Tally) -> DataError:
    named = ", ".join(f"{count} {reason}" for reason, count in tally.reasons.items())
    return DataError(
        f"no row of the sources became an event ({named or 'they are empty'})",
        remedy="check the column names, `time_unit` and `codes` of the source",
    )


def _count(job: _Job, rounds: Rounds) -> None:
    summary, tally = job.summary, rounds.tally
    summary.rows, summary.events, summary.dropped = tally.read, tally.events, tally.dropped
    summary.refused, summary.not_used = tally.reasons, tally.not_used
    summary.files = len({(unit["source"], unit["file"]) for unit in job.units})
    summary.resumed = rounds.scattered.resumed
    summary.rejected_share = rounds.rejected_share
    summary.over_limit = summary.rejected_share > job.records.reject_limit


def _subjects(job: _Job, seen: pa.Table) -> pa.Table:
    """Facts about every patient, known by events or by a table alone; splits, checked."""
    rows_of = [_rows(table, job.key) for table in job.tables]
    known = set(seen["subject_id"].to_pylist())
    alone = sorted({number for rows in rows_of for number in rows} - known)
    table = pa.concat_tables([seen, _without_events(alone)])
    numbers: list[int] = table["subject_id"].to_pylist()
    columns: dict[str, Any] = {}
    required = [True] * len(numbers)
    for settings, read, rows in zip(job.records.tables, job.tables, rows_of, strict=True):
        places = [rows.get(number, -1) for number in numbers]
        job.summary.unmatched[read.name] = sum(place < 0 for place in places[: seen.num_rows])
        for name in read.taken:
            columns[name] = take(read.table[name], places)
        if settings.required:
            required = [old and place >= 0 for old, place in zip(required, places, strict=True)]
    clash = sorted(set(columns) & {*SUBJECTS.names, *_ITEM_COLUMNS})
    if clash:
        raise UsageError(
            f"a table of `records.tables` has columns that medray uses itself: {', '.join(clash)}",
            remedy="list the wanted `columns` without them, or rename them",
        )
    names = [str(number) for number in numbers]
    splits, job.summary.split_by = _splits(job, names, columns)
    splits = [s if ok else None for s, ok in zip(splits, required, strict=True)]
    whole = pa.table(
        {
            "item_id": pa.array(names, pa.string()),
            "subject_id": pa.array(names, pa.string()),
            "study_id": pa.array(names, pa.string()),
            "split": pa.array(splits, pa.string()),
            "start": _starts(job.records, table),
            **{name: table[name] for name in SUBJECTS.names if name != "subject_id"},
            **{name: column for name, column in columns.items() if name != job.spec.split.column},
        }
    )
    whole = _without_copies(job, whole)
    _count_subjects(job, whole, len(alone))
    return whole


def _starts(records: RecordsSpec, subjects: pa.Table) -> pa.ChunkedArray:
    """When each patient's own time begins: at its zero, or at the first event where dates count."""
    if all(source.time_unit == "timestamp" for source in records.sources):
        return subjects["first"]
    zeros = pa.array(np.zeros(subjects.num_rows, np.int64), pa.timestamp("us"))
    return pa.chunked_array([zeros])


def _rows(table: LabelTable, key: bytes) -> dict[int, int]:
    return {shards.subject_number(key, name): row for name, row in index_of(table).items()}


def _without_events(numbers: Sequence[int]) -> pa.Table:
    count = len(numbers)
    columns: Mapping[str, Any] = {
        "subject_id": numbers,
        "events": [0] * count,
        "first": [None] * count,
        "last": [None] * count,
        "record_sha256": [hashlib.sha256(str(n).encode()).hexdigest() for n in numbers],
    }
    return pa.table(columns, schema=SUBJECTS)


def _splits(
    job: _Job, names: Sequence[str], columns: Mapping[str, Any]
) -> tuple[list[str | None], str]:
    spec = job.spec.split
    scans = splits_of_scans(job.records)
    if spec.column is None:
        splits, how = assign(job.key, names, None, spec)
        how += "; patients with scans keep the split of their scans" if scans else ""
        return keep_splits(names, splits, scans, by_hash=True), how
    if spec.column not in columns:
        raise DataError(
            f"no table of `records.tables` has the split column {spec.column!r}",
            remedy=f"their columns are {', '.join(columns) or 'none'}",
        )
    values = [None if v is None else str(v) for v in columns[spec.column].to_pylist()]
    splits, how = assign(job.key, names, values, spec)
    return keep_splits(names, splits, scans, by_hash=False), how


def _without_copies(job: _Job, whole: pa.Table) -> pa.Table:
    """Refuse a record that stands in two splits under two names, or leave the copies out."""
    left_out = check_leaks(whole, record_hashes(whole), job.spec.split.identical_images)
    job.summary.identical_left_out = len(left_out)
    pairs = zip(whole["item_id"].to_pylist(), whole["split"].to_pylist(), strict=True)
    splits = [None if one in left_out else split for one, split in pairs]
    index = whole.column_names.index("split")
    return whole.set_column(index, "split", pa.array(splits, pa.string()))


def _count_subjects(job: _Job, whole: pa.Table, alone: int) -> None:
    summary = job.summary
    splits = whole["split"].to_pylist()
    summary.subjects, summary.without_events = whole.num_rows, alone
    for name in SPLITS:
        count = splits.count(name)
        summary.splits[name] = {"items": count, "subjects": count}
    summary.without_split = splits.count(None)


def _publish(
    job: _Job, run: str, scattered: Finished, gathered: Finished, subjects: pa.Table
) -> None:
    """Make the new state visible, dataset.json last: without it the folder is no dataset."""
    output = job.output
    events = storage.join(output.dataset, "events")
    storage.remove_tree(storage.join(output.dataset, "dataset.json"))
    files: list[str] = []
    for base in gathered.bases:
        place = storage.join(events, f"part-{base.rsplit('/', 1)[-1]}.parquet")
        storage.move(base + shards.EVENTS_SUFFIX, place)
        files.append(place)
    storage.publish(events, EVENTS, files, run, 1, mode="overwrite")
    storage.replace_table(storage.join(output.dataset, "subjects"), subjects, run, 1)
    there = set(storage.list_files(job.output.staging))
    bases = [*scattered.bases, *gathered.bases]
    refused = [base + shards.REFUSED_SUFFIX for base in bases]
    rows = storage.read_parquet([uri for uri in refused if uri in there], REFUSED_ROWS)
    storage.replace_table(output.refused, rows, run, 1)


def _finish(job: _Job, tally: Tally) -> None:
    text = json.dumps(job.summary.to_dict(), indent=2) + "\n"
    storage.write_atomic(job.output.summary, text.encode())
    meta = RecordsMeta(
        name=job.spec.name,
        records=job.records,
        key_check=pseudonym(job.key, "check", "medray"),
        sources_sha256=job.identity,
        levels={
            row.code: tuple(text for text, events in row.levels.items() if events >= _NAMED)
            for row in job.summary.timelines.codes
        },
        provenance=provenance(),
    )
    data = (meta.model_dump_json(indent=2) + "\n").encode()
    storage.write_atomic(storage.join(job.output.dataset, "dataset.json"), data)
