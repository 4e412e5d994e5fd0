"""A night's scoring: archive + package → rows of `predictions`, each item once.

    listing → what this package has not scored → headers → pseudonyms, duplicates
            → read and decode → score → chunk files → one Delta transaction

Chunk files in the run's staging folder are the receipts of finished work: killed at any moment and
run again, only what no complete chunk holds is worked on, and rows become visible once, together.
A file that changed since it was scored is scored again, and its older rows leave the table in the
same transaction.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pyarrow as pa

from medray import storage
from medray.errors import Code, OutputConflictError, UsageError
from medray.ingest.decide import decide
from medray.ingest.listing import Found, list_archive
from medray.ingest.output import locked
from medray.ingest.parts import IN_PROCESS_ROWS, Key, Row, key_of
from medray.ingest.scan import scan_headers, source_rows
from medray.package import Package, Task, open_package
from medray.privacy.pseudonyms import identify, load_key, pseudonym
from medray.provenance import canonical_sha256
from medray.schema import PREDICTIONS
from medray.score import chunks
from medray.score.pool import run_on_ray
from medray.score.stages import Job, Reader, Scorer
from medray.score.summary import ScoreSummary, summarize
from medray.spec.models import IngestSpec, RunSpec, ScoreSpec

Progress = Callable[[dict[str, Any]], None]

_PART = "scores-"  # how the data files of the table begin


@dataclass(frozen=True, slots=True)
class _Places:
    predictions: str
    summary: str
    staging: str


def score(
    spec: RunSpec, *, progress: Progress | None = None, task: Task | None = None
) -> ScoreSummary:
    """Score what a package has not scored yet of an archive.

    progress  gets {"stage", "done", "total", "unit"} as work goes on.
    task      the workload, where it is not one of WORKLOADS.
    Raises UsageError without an archive, PackageError for a package that is not intact,
    OutputConflictError when something else stands where predictions go, MedrayError when a worker
    fails. Whatever it raises, and if it is killed: run again, it goes on.
    """
    started = time.monotonic()
    tell = progress or (lambda _: None)
    section = spec.score or ScoreSpec()
    package = open_package(section.package or storage.join(spec.output_uri, "package"))
    places = _places(spec, package)
    found = list_archive(_archive(spec, section), exclude=spec.output_uri)
    with locked(places.staging.rpartition("/")[0], "score"):
        return _night(found, section, package, places, tell, task, started)


def _night(
    found: Sequence[Found],
    section: ScoreSpec,
    package: Package,
    places: _Places,
    tell: Progress,
    task: Task | None,
    started: float,
) -> ScoreSummary:
    """The work of one run, with the output to itself."""
    before = _Scored(places.predictions, package.ref)
    todo = [each for each in found if each.key not in before.versions]
    resumed = 0
    rows, run = PREDICTIONS.empty_table(), None
    if todo:
        run = _run_name(package, todo)
        rows, resumed = _work(todo, before, package, places, section, run, tell, task)
        _publish(rows, places, package.ref, run, {each.file_id for each in todo})
    describe = partial(
        summarize,
        package=package.ref,
        files_seen=len(found),
        files_resumed=resumed,
        reject_limit=section.reject_limit,
        predictions=places.predictions,
    )
    summary = describe(rows, run=run, seconds=time.monotonic() - started)
    if todo:
        storage.write_atomic(places.summary, summary.model_dump_json(indent=1).encode())
    elif not storage.exists(places.summary) and before.last_run:  # killed right after the commit
        last = _rows_of(places.predictions, before.last_run)
        text = describe(last, run=before.last_run, seconds=0.0).model_dump_json(indent=1)
        storage.write_atomic(places.summary, text.encode())
    storage.remove_tree(places.staging)
    return summary


def _rows_of(predictions: str, run: str) -> pa.Table:
    table = storage.read_table(predictions).select(PREDICTIONS.names)
    return table.filter(pa.array([name == run for name in table["run"].to_pylist()], pa.bool_()))


def _archive(spec: RunSpec, section: ScoreSpec) -> tuple[str, ...]:
    archive = section.archive or (spec.ingest.archive if spec.ingest else None)
    if not archive:
        raise UsageError(
            "there is nothing to score", remedy="name the archive as `score.archive` in the spec"
        )
    return archive


def _places(spec: RunSpec, package: Package) -> _Places:
    """Where this run writes. Raises OutputConflictError when `predictions` is something else."""
    output = storage.absolute(spec.output_uri)
    predictions = storage.join(output, "predictions")
    if storage.table_exists(predictions):
        theirs = set(storage.table_schema(predictions).names)
        foreign = not set(PREDICTIONS.names) <= theirs
    else:
        files = [file.rpartition("/")[2] for file in storage.list_files(predictions)]
        foreign = any(not name.lstrip(".").startswith(_PART) for name in files)
    if foreign:
        raise OutputConflictError(
            f"something else than predictions stands at {predictions}",
            remedy="give the run another `output`, or move what is there away",
        )
    # Another key gives other pseudonyms: its unfinished work is not this run's.
    work = canonical_sha256([package.digest, pseudonym(load_key(), "key", "check")])[:16]
    return _Places(
        predictions,
        storage.join(output, "score-summary.json"),
        storage.join(output, ".staging", "score", work),
    )


class _Scored:
    """What a package has scored before: versions of files, and who holds which instance."""

    def __init__(self, predictions: str, ref: str) -> None:
        self.versions: set[Key] = set()
        self.holder: dict[str, str] = {}  # instance's pseudonym → file_id
        self.last_run: str | None = None
        if not storage.table_exists(predictions):
            return
        names = ["file_id", "size", "mtime_ns", "item_id", "status", "package", "run"]
        rows = storage.read_table(predictions, [*names, "prediction_time"]).to_pylist()
        for row in sorted(rows, key=lambda row: row["prediction_time"]):
            if row["package"] == ref:
                self.versions.add(key_of(row))
                self.last_run = row["run"]
                if row["status"] == "ok":
                    self.holder[row["item_id"].partition("#")[0]] = row["file_id"]


def _run_name(package: Package, todo: Sequence[Found]) -> str:
    """The same work has the same name, so that it can be published only once."""
    return "score-" + canonical_sha256([package.digest, sorted(each.key for each in todo)])[:16]


def _work(
    todo: Sequence[Found],
    before: _Scored,
    package: Package,
    places: _Places,
    section: ScoreSpec,
    run: str,
    tell: Progress,
    task: Task | None,
) -> tuple[pa.Table, int]:
    """All rows of this run, and the number of files that an interrupted one had finished."""
    headers = scan_headers(
        todo,
        folder=storage.join(places.staging, "scan"),
        run=run,
        progress=lambda done, total: tell(_step("scan", done, total)),
    )
    named = _named(headers, package, before)
    sources = source_rows(todo)
    files = [sources[row["file_id"]] | row for row in named if row["status"] == "ok"]
    wanted = {key_of(row) for row in files}
    folder = storage.join(places.staging, "chunks")
    complete = chunks.clean(folder, wanted)
    rest = [row for row in files if key_of(row) not in complete]
    job = Job(
        package_uri=package.uri,
        package=package.ref,
        pixels=package.pixels,
        folder=folder,
        device="cuda" if section.gpus_per_actor else "cpu",
        task=task,
    )
    done = float(len(complete))
    tell(_step("score", int(done), len(files)))
    for written in _run(rest, job, section):
        done += sum(1.0 / count for count in written["file_items"].to_pylist())
        tell(_step("score", round(done), len(files)))
    scored = chunks.collect(folder, wanted)
    refused = [_refused_row(row, package.ref) for row in named if row["status"] != "ok"]
    table = pa.concat_tables([scored, pa.Table.from_pylist(refused, schema=PREDICTIONS)])
    column = PREDICTIONS.get_field_index("run")
    runs = pa.array([run] * table.num_rows, pa.string())
    return table.set_column(column, PREDICTIONS.field("run"), runs), len(complete)


def _named(headers: list[Row], package: Package, before: _Scored) -> list[Row]:
    """Headers with pseudonyms, and with what the package's `select` and duplicates decide.

    Of files that hold the same SOP instance the one scored before counts, else the first by path.
    """
    ingest = package.spec.ingest or IngestSpec(archive=())
    headers = sorted(headers, key=lambda row: row["path"])
    decide(headers, ingest.select, [])
    key = load_key()
    changed = {row["file_id"] for row in headers}
    for row in headers:
        row.update(asdict(identify(key, row, ingest.subject)))
        holder = before.holder.get(row["item"])
        if row["status"] == "ok" and holder is not None and holder not in changed:
            # Scored on another night, perhaps under another path: no fault of tonight's archive.
            row.update(status="ignored", reason=str(Code.DUPLICATE_INSTANCE))
    return headers


def _refused_row(row: Row, ref: str) -> dict[str, Any]:
    """The row of a file that was not decoded; the file stands for its item."""
    names = ("file_id", "size", "mtime_ns", "subject_id", "study_id", "status", "reason", "run")
    ours = {"item_id": row["file_id"], "package": ref, "prediction_time": datetime.now(UTC)}
    return {name: row[name] for name in names} | ours


def _step(stage: str, done: int, total: int) -> dict[str, Any]:
    return {"stage": stage, "done": done, "total": total, "unit": "files"}


def _run(files: list[Row], job: Job, section: ScoreSpec) -> Iterator[pa.Table]:
    """Do the work: in this process when it is little, else on Ray."""
    if not files:
        return
    if len(files) > IN_PROCESS_ROWS or os.environ.get("RAY_ADDRESS"):
        yield from run_on_ray(
            files,
            job,
            actors=section.actors,
            gpus_per_actor=section.gpus_per_actor,
            batch_size=section.batch_size,
            files_per_task=section.files_per_task,
        )
        return
    scorer = Scorer(job)
    with Reader(job.pixels) as reader:
        for first in range(0, len(files), section.files_per_task):
            for table in reader.tables(files[first : first + section.files_per_task]):
                for at in range(0, table.num_rows, section.batch_size):
                    yield scorer(table.slice(at, section.batch_size))


def _publish(rows: pa.Table, places: _Places, ref: str, run: str, files: set[str]) -> None:
    """One transaction: this run's rows come, older rows of the same files go."""
    part = storage.join(places.predictions, f"{_PART}{run.removeprefix('score-')}.parquet")
    storage.write_parquet(part, rows)
    parts, removes = [part], list[str]()
    old = (
        storage.table_files(places.predictions) if storage.table_exists(places.predictions) else []
    )
    for number, uri in enumerate(old):
        table = storage.read_parquet([uri], PREDICTIONS)
        pairs = zip(table["package"].to_pylist(), table["file_id"].to_pylist(), strict=True)
        stays = [package != ref or file_id not in files for package, file_id in pairs]
        if uri != part and not all(stays):
            kept = part.removesuffix(".parquet") + f"-{number}.parquet"
            storage.write_parquet(kept, table.filter(pa.array(stays, pa.bool_())))
            parts.append(kept)
            removes.append(uri)
    storage.publish(places.predictions, PREDICTIONS, parts, run, 1, removes=removes)
