"""The verb: rounds of chunks until there are enough molecules, then table, files, page, summary.

    OUT/molecules/       Delta table GENERATED, with a column per target of every judge
    OUT/molecules.csv, molecules.sdf
    OUT/gallery.html     the best and some at random, drawn
    OUT/summary.json     written last: the work is done when it is there

Chunks are receipts in OUT/.staging: killed at any moment and run again, what is drawn is kept.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

import medray
from medray import storage
from medray.dataset import MoleculesDataset, open_any
from medray.errors import DataError, OutputConflictError, PackageError, UsageError
from medray.extras import require
from medray.generate import known
from medray.generate.asked import Asked
from medray.generate.draws import CHUNK, Job, draw_chunks, read_chunks
from medray.generate.files import WRITERS
from medray.generate.judges import Judge, open_judges
from medray.generate.page import gallery_of
from medray.generate.picked import Counts, Picked, lowest_first, pick, ranked, require_column
from medray.generate.summary import GenerateSummary
from medray.ingest.output import locked
from medray.molecules.properties import PROPERTIES
from medray.package import Task
from medray.provenance import canonical_sha256
from medray.report.gallery import render_gallery
from medray.score.predictor import Predictor

compute: Any = pc
Progress = Callable[[dict[str, Any]], None]

GIVE_UP = 20  # draws for every molecule wanted, after which it is enough
_MARGIN = 1.1  # draws for every molecule wanted in the first round: a good package needs no other
_OWN = frozenset({"molecules", "molecules.csv", "molecules.sdf", "gallery.html", "summary.json"})


@dataclass(frozen=True, slots=True)
class _Run:
    """One generation: what was asked, of whom, and where it goes.

    identity  names all of it; `job_identity` what decides the draws: how many molecules are wanted,
              and how they are ranked, does not.
    """

    asked: Asked
    package: str
    job: Job
    judges: tuple[Judge, ...]
    dataset: MoleculesDataset | None
    of_training: bool | None
    job_identity: str
    identity: str
    out: str
    gpus: float
    tell: Progress

    @property
    def staging(self) -> str:
        """Unpublished work."""
        return storage.join(self.out, ".staging", self.job_identity[:24])

    def stage(self, name: str, unit: str, each: int = 1) -> Callable[[int, int], None]:
        """Progress of a stage, `each` units per step."""

        def tell(done: int, total: int) -> None:
            event = {"stage": name, "done": done * each, "total": total * each, "unit": unit}
            self.tell(event)

        return tell


def generate(
    package_uri: str,
    out: str,
    asked: Asked,
    *,
    toxicity: Sequence[str] = (),
    dataset: str | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    task: Task | None = None,
    judge_task: Task | None = None,
) -> GenerateSummary:
    """Make `asked.count` distinct molecules with a package, and write them into the folder `out`.

    toxicity     packages that predict properties of molecules; each target becomes a column.
    dataset      what the molecules are compared with; absent: the dataset beside the package, if
                 the package was trained on it; else they are compared with nothing.
    device       cpu, cuda or auto. Few molecules are made in this process, many on Ray.
    task, judge_task  workloads that are not among WORKLOADS.
    Raises UsageError for a way or column that is not there, OutputConflictError when `out` holds
    something else, PackageError for a package that makes nothing, DataError when no molecule could
    be kept at all, MedrayError when a worker fails. Run again, it goes on.
    """
    started = time.monotonic()
    require("molecules")
    tell = progress or (lambda _: None)
    run = _prepare(package_uri, out, asked, toxicity, dataset, device, tell, (task, judge_task))
    done = _claim(run)
    if done is not None:
        return done.model_copy(
            update={"already_done": True, "seconds": round(time.monotonic() - started, 3)}
        )
    with locked(storage.join(run.out, ".staging"), "generate"):
        if run.dataset is not None:
            files = known.prepare(
                run.dataset, storage.join(run.staging, "known"), run.stage("known", "parts")
            )
            run = replace(run, job=replace(run.job, known=files))
        found, resumed = _draw(run)
        summary = _publish(run, found, resumed, started)
        storage.remove_tree(run.staging)
    return summary


def _prepare(
    package_uri: str,
    out: str,
    asked: Asked,
    toxicity: Sequence[str],
    dataset_uri: str | None,
    device: str,
    tell: Progress,
    tasks: tuple[Task | None, Task | None],
) -> _Run:
    """Check everything that can be checked before work begins. Writes nothing."""
    maker = Predictor(package_uri, device, tasks[0])
    package, way = maker.package, asked.way or maker.ways[0]
    if way not in maker.ways:
        raise UsageError(
            f"{package.ref} cannot draw by {way!r}", remedy=f"one of: {', '.join(maker.ways)}"
        )
    molecules = package.molecules
    if molecules is None:
        raise PackageError(f"{package.ref} makes something else than molecules")
    judges = open_judges(toxicity, device, tasks[1])
    columns = tuple(name for judge in judges for name in judge.columns)
    require_column(asked, columns)
    dataset = _training(package_uri, dataset_uri)
    fingerprint = dataset.fingerprint() if dataset is not None else None
    if dataset_uri is None and fingerprint != package.lineage.get("dataset"):
        dataset, fingerprint = None, None  # of another run: it says nothing of this package
    if dataset is None and asked.unlike_training is not None:
        raise UsageError(
            "there is no training set to be unlike: none that the package was trained on lies "
            "beside it",
            remedy="name it: --dataset DIR",
        )
    job = Job(
        package_uri=storage.absolute(package_uri),
        device=maker.device.type,
        seed=asked.seed,
        way=way,
        temperature=asked.temperature,
        filters=asked.filters,
        unlike_training=asked.unlike_training,
        standard=molecules.standard,
        judges=tuple(storage.absolute(uri) for uri in toxicity),
        columns=columns,
        task=tasks[0],
        judge_task=tasks[1],
    )
    software = [medray.__version__, version("rdkit"), version("torch"), CHUNK]
    drawn = [job.device, job.seed, way, job.temperature, job.filters, job.unlike_training]
    told = [judge.ref for judge in judges]
    job_identity = canonical_sha256([package.digest, software, drawn, told, fingerprint])
    return _Run(
        asked=asked,
        package=package.ref,
        job=job,
        judges=judges,
        dataset=dataset,
        of_training=None if dataset is None else fingerprint == package.lineage.get("dataset"),
        job_identity=job_identity,
        identity=canonical_sha256([job_identity, asked]),
        out=storage.absolute(out),
        gpus=1.0 if job.device == "cuda" else 0.0,
        tell=tell,
    )


def _training(package_uri: str, dataset: str | None) -> MoleculesDataset | None:
    """The dataset that was named, or the one beside the package; None where there is none."""
    place = dataset or storage.absolute(package_uri).rstrip("/").rpartition("/")[0]
    try:
        found = open_any(place)
    except DataError:
        if dataset is not None:
            raise
        return None
    if isinstance(found, MoleculesDataset):
        return found
    if dataset is None:
        return None
    raise UsageError("this is no dataset of molecules", remedy="name one that is: --dataset DIR")


def _claim(run: _Run) -> GenerateSummary | None:
    """What stands in the output if this very work is done; None where it is to be done.

    Raises OutputConflictError when the folder holds something else.
    """
    conflict = OutputConflictError(
        "the output holds another generation, or something that medray did not make",
        remedy="name a new folder as --out",
    )
    uri = storage.join(run.out, "summary.json")
    if storage.exists(uri):
        try:
            held = GenerateSummary.model_validate_json(storage.read_bytes(uri))
        except ValidationError:
            raise conflict from None
        if held.identity != run.identity:
            raise conflict
        return held
    if storage.is_local(run.out) and os.path.exists(run.out):
        names = set(os.listdir(run.out)) if os.path.isdir(run.out) else {""}
        if names - _OWN - {".staging"}:
            raise conflict
    return None


# ---------------------------------------------------------------- drawing


def _draw(run: _Run) -> tuple[Picked, int]:
    """Draw chunks until enough molecules are kept, or GIVE_UP is reached; and draws resumed."""
    wanted, most = run.asked.count, GIVE_UP * math.ceil(run.asked.count / CHUNK)
    chunks, resumed = min(most, math.ceil(_MARGIN * wanted / CHUNK)), -1
    while True:
        done = draw_chunks(
            run.job,
            chunks,
            storage.join(run.staging, "chunks"),
            gpus=run.gpus,
            progress=run.stage("draw", "draws", CHUNK),
        )
        resumed = done.resumed * CHUNK if resumed < 0 else resumed  # later rounds go on with ours
        found = pick(read_chunks(run.job, done), done.receipts, filters=run.asked.filters)
        if found.counts.kept >= wanted or chunks >= most:
            return found, resumed
        share = max(found.counts.kept / found.counts.drawn, 1 / GIVE_UP)
        missing = math.ceil((wanted - found.counts.kept) / share / CHUNK)
        chunks = min(most, chunks + missing)


# ---------------------------------------------------------------- publishing


def _nothing(counts: Counts) -> DataError:
    return DataError(
        f"none of {counts.drawn:,} draws is a molecule that can be kept: {counts.valid:,} are "
        f"valid, {counts.alerts:,} of the distinct have alerts, {counts.alike:,} are too similar "
        "to train",
        remedy="train longer, or ask with --no-filters or a higher --unlike-training",
    )


def _summary(
    run: _Run,
    counts: Counts,
    table: pa.Table,
    train: Mapping[str, NDArray[np.float64]],
    files: dict[str, str],
    resumed: int,
    seconds: float,
) -> GenerateSummary:
    """All that is said of a generation. `train`: property → values of some of `train`."""
    asked = run.asked
    made = max(0, counts.drawn - resumed) / counts.drawn * table.num_rows
    names = (*PROPERTIES, "similarity", *run.job.columns)
    return GenerateSummary(
        identity=run.identity,
        package=run.package,
        way=run.job.way,
        seed=asked.seed,
        temperature=asked.temperature,
        toxicity=tuple(judge.ref for judge in run.judges),
        wanted=asked.count,
        kept=table.num_rows,
        short=table.num_rows < asked.count,
        drawn=counts.drawn,
        valid=counts.valid,
        refused=counts.refused,
        distinct=counts.distinct,
        novel=counts.novel,
        alerts=counts.alerts,
        filtered=asked.filters,
        alike=counts.alike,
        spare=counts.kept - table.num_rows,
        means={name: compute.mean(table[name]).as_py() for name in names},
        train_means={name: float(values.mean()) for name, values in train.items()},
        of_training=run.of_training,
        resumed=resumed,
        seconds=round(seconds, 3),
        molecules_per_s=round(made / max(seconds, 1e-9), 2),
        files=files,
    )


def _order(by: str, lowest: bool) -> str:
    return f"Ranked by {by}, the {'lowest' if lowest else 'highest'} first."


def _publish(run: _Run, found: Picked, resumed: int, started: float) -> GenerateSummary:
    """Write table, files and page, and last the summary. Raises DataError without molecules."""
    if not found.counts.kept:
        raise _nothing(found.counts)
    asked = run.asked
    lowest = lowest_first(asked, tuple(name for judge in run.judges for name in judge.risks))
    table = ranked(found, asked, run.job.columns, lowest=lowest)
    tell = run.stage("publish", "molecules")
    tell(0, table.num_rows)
    files = {"molecules": storage.join(run.out, "molecules")}
    storage.replace_table(files["molecules"], table, run.identity[:24], 1)
    for name in asked.formats:
        files[name] = storage.join(run.out, f"molecules.{name}")
        storage.write_atomic(files[name], WRITERS[name](table))
    files["gallery"] = storage.join(run.out, "gallery.html")
    train = known.sampled_properties(run.job.known) if run.job.known else {}
    seconds = time.monotonic() - started
    summary = _summary(run, found.counts, table, train, files, resumed, seconds)
    page = render_gallery(gallery_of(summary, table, _order(asked.by, lowest), train))
    storage.write_atomic(files["gallery"], page.encode())
    tell(table.num_rows, table.num_rows)
    told = (summary.model_dump_json(indent=1) + "\n").encode()
    storage.write_atomic(storage.join(run.out, "summary.json"), told)
    return summary
