"""A night on an archive of images: what is there, and the scores of what is new.

listing → headers → pseudonyms, duplicates → read and decode → score → chunk files
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from medray import storage
from medray.errors import Code, UsageError
from medray.ingest import listing
from medray.ingest.decide import decide
from medray.ingest.parts import IN_PROCESS_ROWS, Row, key_of
from medray.ingest.scan import scan_headers, source_rows
from medray.package import Package
from medray.privacy.pseudonyms import identify, load_key
from medray.schema import PREDICTIONS
from medray.score import chunks
from medray.score.night import Found, Night, Scored, with_run
from medray.score.pool import images_on_ray
from medray.score.stages import Job, Reader, Scorer
from medray.spec.models import IngestSpec


def find(night: Night) -> Found:
    """All files of the archive. Raises UsageError without an archive."""
    archive = night.section.archive or (night.spec.ingest.archive if night.spec.ingest else None)
    if not archive:
        raise UsageError(
            "there is nothing to score", remedy="name the archive as `score.archive` in the spec"
        )
    return Found(listing.list_archive(archive, exclude=night.spec.output_uri))


def work(night: Night, todo: Sequence[listing.Found], run: str) -> tuple[pa.Table, int]:
    """All rows of this run, and the number of files that an interrupted one had finished."""
    headers = scan_headers(
        todo,
        folder=storage.join(night.places.staging, "scan"),
        run=run,
        progress=night.stage("scan", "files"),
    )
    named = _named(headers, night.package, night.before)
    sources = source_rows(todo)
    files = [sources[row["file_id"]] | row for row in named if row["status"] == "ok"]
    wanted = {key_of(row) for row in files}
    folder = storage.join(night.places.staging, "chunks")
    complete = chunks.clean(folder, wanted)
    rest = [row for row in files if key_of(row) not in complete]
    done, tell = float(len(complete)), night.stage("score", "files")
    tell(int(done), len(files))
    for written in _run(rest, night, folder):
        done += sum(1.0 / count for count in written["file_items"].to_pylist())
        tell(round(done), len(files))
    scored = chunks.collect(folder, wanted)
    refused = [_refused_row(row, night.package.ref) for row in named if row["status"] != "ok"]
    table = pa.concat_tables([scored, pa.Table.from_pylist(refused, schema=PREDICTIONS)])
    return with_run(table, run), len(complete)


def _named(headers: list[Row], package: Package, before: Scored) -> list[Row]:
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


def _run(files: list[Row], night: Night, folder: str) -> Iterator[pa.Table]:
    """Do the work: in this process when it is little, else on Ray."""
    if not files:
        return
    section, pixels = night.section, night.package.pixels
    job = Job(night.package.uri, night.package.ref, folder, night.device, night.task)
    if len(files) > IN_PROCESS_ROWS or os.environ.get("RAY_ADDRESS"):
        yield from images_on_ray(files, job, pixels, section)
        return
    scorer = Scorer(job)
    with Reader(pixels) as reader:
        for first in range(0, len(files), section.files_per_task):
            for table in reader.tables(files[first : first + section.files_per_task]):
                for at in range(0, table.num_rows, section.batch_size):
                    yield scorer(table.slice(at, section.batch_size))
