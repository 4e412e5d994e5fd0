"""A night's scoring: what is there + package → rows of `predictions`, each item once.

    find → what this package has not scored → work → one Delta transaction

What is found and how it is worked on differs between an archive of images, tables of records and
files of molecules (KINDS). Chunk files in the run's staging folder are the receipts of finished
work: killed at any moment and run again, only what no complete chunk holds is worked on, and rows
become visible once, together. What changed since it was scored is scored again, and its older rows
leave the table in the same transaction.
"""

import time
from collections.abc import Mapping, Sequence
from functools import partial

import pyarrow as pa

from medray import storage
from medray.ingest.output import locked
from medray.package import Task, open_package
from medray.provenance import canonical_sha256
from medray.schema import PREDICTIONS
from medray.score import archive, molecules, records
from medray.score.night import PART, Kind, Night, Progress, Scored, Source, places_of
from medray.score.summary import ScoreSummary, summarize
from medray.spec.models import RunSpec, ScoreSpec

KINDS: Mapping[str, Kind] = {"images": archive, "records": records, "molecules": molecules}


def score(
    spec: RunSpec, *, progress: Progress | None = None, task: Task | None = None
) -> ScoreSummary:
    """Score what a package has not scored yet of an archive, tables of records or molecules.

    progress  gets {"stage", "done", "total", "unit"} as work goes on.
    task      the workload, where it is not one of WORKLOADS.
    Raises UsageError when there is nothing to score, PackageError for a package that is not intact,
    OutputConflictError when something else stands where predictions go, MedrayError when a worker
    fails. Whatever it raises, and if it is killed: run again, it goes on.
    """
    started = time.monotonic()
    section = spec.score or ScoreSpec()
    package = open_package(section.package or storage.join(spec.output_uri, "package"))
    places = places_of(spec, package)
    kind = KINDS[package.reads]
    with locked(places.staging.rpartition("/")[0], "score"):
        before = Scored(places.predictions, package.ref)
        tell = progress or (lambda _: None)
        night = Night(spec, section, package, places, before, tell, task)
        return _night(night, kind, started)


def _night(night: Night, kind: Kind, started: float) -> ScoreSummary:
    """The work of one run."""
    places = night.places
    found = kind.find(night)
    todo = [each for each in found.sources if each.key not in night.before.versions]
    describe = partial(
        summarize,
        package=night.package.ref,
        files_seen=len(found.sources),
        reject_limit=night.section.reject_limit,
        predictions=places.predictions,
        facts=found.facts,
    )
    if not todo:
        _say_last(night, night.before.runs)
        storage.remove_tree(places.staging)
        seconds = time.monotonic() - started
        return describe(PREDICTIONS.empty_table(), run=None, files_resumed=0, seconds=seconds)
    run = _run_name(night, todo)
    rows, resumed = kind.work(night, todo, run)
    seconds = time.monotonic() - started
    summary = describe(rows, run=run, files_resumed=resumed, seconds=seconds)
    staged = storage.join(places.staging, "summary.json")
    storage.write_atomic(staged, summary.model_dump_json(indent=1).encode())
    _publish(night, rows, run, {each.key[0] for each in todo})
    _say_last(night, {run})
    storage.remove_tree(places.staging)
    return summary


def _say_last(night: Night, published: set[str]) -> None:
    """Put the summary that lies ready in its place; of a run killed right after its commit, too."""
    staged = storage.join(night.places.staging, "summary.json")
    if not storage.exists(staged):
        return
    data = storage.read_bytes(staged)
    if ScoreSummary.model_validate_json(data).run in published:
        storage.write_atomic(night.places.summary, data)


def _run_name(night: Night, todo: Sequence[Source]) -> str:
    """The same work on the same table has the same name, so that it can be published only once."""
    keys = sorted(each.key for each in todo)
    said = [night.package.digest, night.before.table_version, keys]
    return "score-" + canonical_sha256(said)[:16]


def _publish(night: Night, rows: pa.Table, run: str, files: set[str]) -> None:
    """One transaction: this run's rows come, older rows of the same files go."""
    predictions, ref = night.places.predictions, night.package.ref
    part = storage.join(predictions, f"{PART}{run.removeprefix('score-')}.parquet")
    storage.write_parquet(part, rows)
    parts, removes = [part], list[str]()
    old = storage.table_files(predictions) if storage.table_exists(predictions) else []
    for number, uri in enumerate(old):
        table = storage.read_parquet([uri], PREDICTIONS)
        pairs = zip(table["package"].to_pylist(), table["file_id"].to_pylist(), strict=True)
        stays = [package != ref or file_id not in files for package, file_id in pairs]
        if uri != part and not all(stays):
            kept = part.removesuffix(".parquet") + f"-{number}.parquet"
            storage.write_parquet(kept, table.filter(pa.array(stays, pa.bool_())))
            parts.append(kept)
            removes.append(uri)
    storage.publish(predictions, PREDICTIONS, parts, run, 1, removes=removes)
