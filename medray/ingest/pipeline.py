"""The verb `ingest`: an archive, whatever its state → the dataset that follows from it.

List, compare with the inventory, read new headers, decide, decode what is newly wanted, join
labels, split, check, publish. What an interrupted run finished is taken over; an unchanged
archive costs a listing.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

import medray
from medray import storage
from medray.dataset import DatasetMeta, write_meta
from medray.errors import DataError, MedrayError, UsageError
from medray.ingest import publish
from medray.ingest.decide import decide
from medray.ingest.decode import decode_files, images_schema
from medray.ingest.join import LabelTable, Match, read_tables
from medray.ingest.labels import Labels, build_labels
from medray.ingest.listing import Found, list_archive
from medray.ingest.output import Output, claim, locked
from medray.ingest.parts import IN_PROCESS_ROWS, Row
from medray.ingest.scan import Changes, changes, scan_headers, source_rows
from medray.ingest.summary import IngestSummary, from_json
from medray.items import check_columns
from medray.privacy.pseudonyms import identify, load_key, pseudonym
from medray.provenance import canonical_sha256, provenance
from medray.schema import FILES
from medray.spec.models import SPLITS, IngestSpec, RunSpec

Progress = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class _Job:
    """One run of ingest: what was asked, where it goes, and what it counted so far."""

    spec: RunSpec
    settings: IngestSpec
    output: Output
    key: bytes
    meta: DatasetMeta
    tables: list[LabelTable]
    progress: Progress
    run: str = ""
    summary: IngestSummary = field(default_factory=IngestSummary)

    def stage(self, name: str) -> Callable[[int, int], None]:
        """Name a stage; the result tells its progress."""

        def tell(done: int, total: int) -> None:
            self.progress({"stage": name, "done": done, "total": total, "unit": "files"})

        return tell


def ingest(spec: RunSpec, *, progress: Progress | None = None) -> IngestSummary:
    """Bring the dataset of `spec.output_uri` to the state of the archive.

    The summary says whether the rejected share passed its limit; that raises nothing. Raises
    UsageError, OutputConflictError, DataError and LeakError before anything is published.
    """
    started = time.monotonic()
    if spec.ingest is None:
        raise UsageError("the spec has no `ingest` section", remedy="add `ingest: {archive: …}`")
    check_columns(spec.ingest.columns)
    output = Output(storage.absolute(spec.output_uri))
    key = load_key()
    wanted = _meta(spec, spec.ingest, key)
    stored = claim(output, wanted, _inputs(spec, spec.ingest))
    tables = read_tables(spec.ingest.tables)
    meta = wanted.model_copy(update={"labels_sha256": _labels_sha256(spec, spec.ingest, tables)})
    job = _Job(spec, spec.ingest, output, key, meta, tables, progress or (lambda _: None))
    found = list_archive(spec.ingest.archive, exclude=output.uri)
    job.stage("list")(len(found), len(found))
    known = _inventory(output) if stored is not None else {}
    against = changes(found, known)
    unchanged = not against.todo and not against.vanished
    if stored is not None and unchanged and stored.labels_sha256 == meta.labels_sha256:
        nothing = _nothing_to_do(job, against, started)
        if nothing is not None:
            return nothing
    with locked(output.staging, "ingest"):
        try:
            _bring_up(job, found, against, started)
        except MedrayError:
            if len(found) <= IN_PROCESS_ROWS:  # soon done again; else kept for the corrected spec
                output.remove_staging()
            raise
        output.remove_staging()
    return job.summary


def _inputs(spec: RunSpec, settings: IngestSpec) -> list[str]:
    night = spec.score.archive if spec.score else None
    return [*settings.archive, *(table.path for table in settings.tables), *(night or ())]


def _meta(spec: RunSpec, settings: IngestSpec, key: bytes) -> DatasetMeta:
    decided = [settings.pixels, settings.columns, settings.subject]
    return DatasetMeta(
        name=spec.name,
        pixels=settings.pixels,
        columns=settings.columns,
        subject=settings.subject,
        ingest_sha256=canonical_sha256(decided),
        key_check=pseudonym(key, "check", "medray"),
        provenance=provenance(),
    )


def _labels_sha256(spec: RunSpec, settings: IngestSpec, tables: list[LabelTable]) -> str:
    """Hash all that decides labels beside the archive and the settings of the dataset."""
    return canonical_sha256(
        [medray.__version__, settings.select, settings.tables, spec.split]
        + [table.sha256 for table in tables]
    )


def _inventory(output: Output) -> dict[str, Row]:
    if not storage.table_exists(output.inventory):
        return {}
    rows: list[Row] = storage.read_table(output.inventory, FILES.names).to_pylist()
    return {row["file_id"]: row for row in rows}


def _nothing_to_do(job: _Job, against: Changes, started: float) -> IngestSummary | None:
    """Tell the stored summary again; None where it cannot be read."""
    try:
        summary = from_json(storage.read_bytes(job.output.summary))
    except (FileNotFoundError, ValidationError):
        return None
    summary.count_files(against.unchanged, job.settings.reject_limit)
    summary.new = summary.changed = summary.vanished = 0
    summary.headers = summary.decoded = summary.resumed = 0
    summary.unchanged = len(against.unchanged)
    summary.changed_dataset = False
    summary.seconds, summary.files_per_second = time.monotonic() - started, 0.0
    summary.stages_s = {}
    return summary


def _bring_up(job: _Job, found: list[Found], against: Changes, started: float) -> None:
    """Do the work: everything up to the check of leaks is unpublished."""
    clock = _Clock(job.summary.stages_s)
    job.run = _run_id(job, against)
    clock.lap("list", since=started)
    scanned = _scan(job, against)
    clock.lap("headers")
    rows = sorted([*against.unchanged, *scanned], key=lambda row: row["path"])
    wanted, matches, bases, redone = _decode(job, rows, source_rows(found))
    clock.lap("decode")
    _require_any(rows, wanted)
    schema = images_schema(job.settings.columns)
    plan = publish.plan_images(job.output, schema, bases, wanted, redone)
    labels = build_labels(
        plan.items,
        wanted,
        tables=job.tables,
        matches=matches,
        dicom_columns=job.settings.columns,
        split=job.spec.split,
        key=job.key,
    )
    _count(job, rows, wanted, against, labels)
    clock.lap("labels")
    job.stage("publish")(0, len(rows))
    write_meta(job.output.dataset, job.meta.model_copy(update={"labels_sha256": None}))
    publish.publish_images(job.output, plan, job.run)
    storage.replace_table(job.output.labels, labels.table, job.run, 1)
    inventory = pa.Table.from_pylist(rows, schema=FILES)
    storage.replace_table(job.output.inventory, inventory, job.run, 1)
    clock.lap("publish")
    job.summary.seconds = time.monotonic() - started
    _finish(job)
    job.stage("publish")(len(rows), len(rows))


def _require_any(rows: list[Row], wanted: list[Row]) -> None:
    if wanted:
        return
    counts = Counter(row["reason"] for row in rows)
    named = ", ".join(f"{count} {reason}" for reason, count in counts.most_common(5))
    raise DataError(
        f"no file of the archive became an item ({named})",
        remedy="check ingest.archive, ingest.select and the required tables",
    )


def _run_id(job: _Job, against: Changes) -> str:
    """Name the step from one published state to the next, the same for every attempt at it."""
    table = job.output.inventory
    version = storage.open_table(table).version() if storage.table_exists(table) else -1
    gone = [row["file_id"] for row in against.vanished]
    todo = [each.key for each in against.todo]
    meta = job.meta
    return canonical_sha256([version, gone, todo, meta.ingest_sha256, meta.labels_sha256])[:16]


class _Clock:
    """Seconds per stage."""

    def __init__(self, laps: dict[str, float]) -> None:
        self._laps = laps
        self._last = time.monotonic()

    def lap(self, name: str, *, since: float | None = None) -> None:
        """End a stage that began with the last one's end, or at `since`."""
        now = time.monotonic()
        self._laps[name] = round(now - (self._last if since is None else since), 3)
        self._last = now


def _scan(job: _Job, against: Changes) -> list[Row]:
    todo = against.todo
    job.summary.headers = len(todo)
    folder = storage.join(job.output.staging, "headers")
    return scan_headers(todo, folder=folder, run=job.run, progress=job.stage("headers"))


def _decode(
    job: _Job, rows: list[Row], sources: dict[str, Row]
) -> tuple[list[Row], list[Match], list[str], set[str]]:
    """Decode what is wanted and new, until every wanted file has its items.

    A second round is needed only where a file was refused whose duplicate was passed over.
    """
    settings = job.settings
    sha = canonical_sha256([job.meta.ingest_sha256, job.meta.key_check, medray.__version__])
    folder = storage.join(job.output.staging, f"pixels-{sha[:12]}")
    todo: dict[str, Row] = {}
    bases: list[str] = []
    while True:
        wanted, matches = decide(rows, settings.select, job.tables)
        new = [row for row in wanted if row["items"] == 0]
        if not new:
            return wanted, matches, bases, set(todo)
        todo |= {row["file_id"]: row for row in new}
        done = decode_files(
            [_task(job, row, sources[row["file_id"]]) for row in todo.values()],
            settings.pixels,
            settings.columns,
            folder=folder,
            files_per_task=settings.files_per_task,
            progress=job.stage("decode"),
        )
        bases = done.bases
        if not job.summary.decoded:
            job.summary.resumed = done.resumed
        job.summary.decoded = len(todo)
        for outcome in done.receipts.to_pylist():
            todo[outcome["file_id"]].update(outcome, run=job.run)


def _task(job: _Job, row: Row, source: Row) -> Row:
    identity = identify(job.key, row, job.settings.subject)
    names = ("kind", "sop_instance_uid", "rows", "columns", "frames")
    return {
        **source,
        **{name: row[name] for name in names},
        "item": identity.item,
        "subject_id": identity.subject_id,
        "study_id": identity.study_id,
    }


def _count(job: _Job, rows: list[Row], wanted: list[Row], against: Changes, labels: Labels) -> None:
    summary = job.summary
    summary.run = job.run
    summary.new, summary.changed = len(against.new), len(against.changed)
    summary.unchanged, summary.vanished = len(against.unchanged), len(against.vanished)
    summary.count_files(rows, job.settings.reject_limit)
    if job.settings.subject == "patient_id":
        summary.without_patient_id = sum(not row["patient_id"] for row in wanted)
    summary.split_by, summary.tables = labels.split_by, labels.tables
    summary.identical_left_out = labels.identical_left_out
    ids = {name: labels.table[name].to_pylist() for name in ("split", "subject_id", "study_id")}
    summary.items = labels.table.num_rows
    summary.subjects = len(set(ids["subject_id"]))
    summary.studies = len(set(ids["study_id"]))
    for name in SPLITS:
        chosen = [split == name for split in ids["split"]]
        people = {i for i, there in zip(ids["subject_id"], chosen, strict=True) if there}
        summary.splits[name] = {"items": sum(chosen), "subjects": len(people)}
    summary.without_split = ids["split"].count(None)


def _finish(job: _Job) -> None:
    """Write summary.json, then dataset.json, which makes the dataset whole."""
    summary = job.summary
    worked = summary.stages_s["headers"] + summary.stages_s["decode"]
    summary.files_per_second = round(summary.headers / worked, 1) if worked > 0 else 0.0
    text = json.dumps(summary.to_dict(), indent=2) + "\n"
    storage.write_atomic(job.output.summary, text.encode())
    write_meta(job.output.dataset, job.meta)
