"""What every night's scoring has in common: where it writes, what stands there, what it is of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from medray import storage
from medray.errors import OutputConflictError
from medray.ingest.parts import Key, key_of
from medray.package import Package, Task
from medray.privacy.pseudonyms import load_key, pseudonym
from medray.provenance import canonical_sha256
from medray.schema import PREDICTIONS
from medray.spec.models import RunSpec, ScoreSpec

Progress = Callable[[dict[str, Any]], None]

PART = "scores-"  # how the data files of the table begin


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run writes."""

    predictions: str
    summary: str
    staging: str


class Scored:
    """What a package has scored before: versions of files, and who holds which instance."""

    def __init__(self, predictions: str, ref: str) -> None:
        self.versions: set[Key] = set()
        self.holder: dict[str, str] = {}  # instance's pseudonym → file_id
        self.runs: set[str] = set()
        self.table_version = -1
        if not storage.table_exists(predictions):
            return
        self.table_version = storage.open_table(predictions).version()
        names = ["file_id", "size", "mtime_ns", "item_id", "status", "package", "run"]
        for row in storage.read_table(predictions, names).to_pylist():
            if row["package"] == ref:
                self.versions.add(key_of(row))
                self.runs.add(row["run"])
                if row["status"] == "ok":
                    self.holder[row["item_id"].partition("#")[0]] = row["file_id"]


@dataclass(frozen=True, slots=True)
class Night:
    """One run, with the output to itself: what was asked, where it goes, what stands there."""

    spec: RunSpec
    section: ScoreSpec
    package: Package
    places: Places
    before: Scored
    tell: Progress
    task: Task | None

    @property
    def device(self) -> str:
        """Where workers compute."""
        return "cuda" if self.section.gpus_per_actor else "cpu"

    def stage(self, name: str, unit: str) -> Callable[[int, int], None]:
        """Name a stage; the result tells its progress."""

        def tell(done: int, total: int) -> None:
            self.tell({"stage": name, "done": done, "total": total, "unit": unit})

        return tell


class Source(Protocol):
    """One thing that can be new: a file of an archive, the record of a patient."""

    @property
    def key(self) -> Key:
        """What changes when it does."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """All that is there to be scored, and what finding it has to say in the summary."""

    sources: Sequence[Source]
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Kind(Protocol):
    """What a night is of; one of `batch.KINDS`."""

    def find(self, night: Night) -> Found:
        """List what is there, scored before or not."""
        ...

    def work(self, night: Night, todo: Sequence[Any], run: str) -> tuple[pa.Table, int]:
        """Rows of PREDICTIONS of some of it, and how many an interrupted run had finished.

        Finished work lies in `night.places.staging`; nothing is published.
        """
        ...


def places_of(spec: RunSpec, package: Package) -> Places:
    """Where this run writes. Raises OutputConflictError when `predictions` is something else."""
    output = storage.absolute(spec.output_uri)
    predictions = storage.join(output, "predictions")
    if storage.table_exists(predictions):
        theirs = set(storage.table_schema(predictions).names)
        foreign = not set(PREDICTIONS.names) <= theirs
    else:
        files = [file.rpartition("/")[2] for file in storage.list_files(predictions)]
        foreign = any(not name.lstrip(".").startswith(PART) for name in files)
    if foreign:
        raise OutputConflictError(
            f"something else than predictions stands at {predictions}",
            remedy="give the run another `output`, or move what is there away",
        )
    # Another key gives other pseudonyms: its unfinished work is not this run's.
    work = canonical_sha256([package.digest, pseudonym(load_key(), "key", "check")])[:16]
    return Places(
        predictions,
        storage.join(output, "score-summary.json"),
        storage.join(output, ".staging", "score", work),
    )


def with_run(rows: pa.Table, run: str) -> pa.Table:
    """Rows of PREDICTIONS under the name of the run that publishes them."""
    column = PREDICTIONS.get_field_index("run")
    runs = pa.array([run] * rows.num_rows, pa.string())
    return rows.set_column(column, PREDICTIONS.field("run"), runs)
