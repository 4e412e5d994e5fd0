"""The stages on Ray Data: readers on processors, scorers wherever the model should run.

Readers and scorers are actors, so that a decode child and a model are started once per actor.
Ray holds only what is between the stages; everything durable is written by the scorers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from medray import storage
from medray.errors import MedrayError
from medray.ingest.parts import Row
from medray.score.stages import Job, Reader, Scorer
from medray.spec.models import ScoreSpec
from medray.spec.pixels import PixelSpec

if TYPE_CHECKING:
    from ray.data import Dataset


def images_on_ray(
    files: Sequence[Row], job: Job, pixels: PixelSpec, section: ScoreSpec
) -> Iterator[pa.Table]:
    """Read, decode and score files; yields file_id and file_items of what has been written.

    Raises MedrayError when a worker fails for another reason than its data.
    """
    import ray.data

    size = section.files_per_task
    tasks = [files[at : at + size] for at in range(0, len(files), size)]
    planned = _planned([{"files": json.dumps(list(task))} for task in tasks], job)
    readers, reader_cpus, scorer_cpus = _share(_cpus(), section.actors, len(tasks))
    read = planned.map_batches(
        _ReaderActor,
        fn_constructor_args=(pixels,),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=readers),
        num_cpus=reader_cpus,
        batch_format="pyarrow",
        batch_size=1,
    )
    yield from _drained(_scored(read, Scorer, job, section, scorer_cpus, section.batch_size))


def rows_on_ray(
    tasks: Sequence[Mapping[str, Any]], scorer: type, job: Job, section: ScoreSpec
) -> Iterator[pa.Table]:
    """Score shards of records or molecules, a row of `tasks` each; yields as `images_on_ray`."""
    planned = _planned(tasks, job)
    cpus = min(1.0, _cpus() / section.actors)
    yield from _drained(_scored(planned, scorer, job, section, cpus, 1))


def _planned(rows: Sequence[Mapping[str, Any]], job: Job) -> "Dataset":
    """Read a plan whose every row is a task.

    The plan is a file, not an argument, so that Ray never holds the whole job; the reader packs
    small files into one block, so the plan is cut into blocks of one row again.
    """
    import ray.data

    from medray.ingest.cluster import ensure_ray

    ensure_ray()
    plan = storage.join(job.folder, "plan", "plan.parquet")
    storage.write_parquet(plan, pa.Table.from_pylist([dict(row) for row in rows]))
    fs, path = storage.filesystem(plan)
    return ray.data.read_parquet(path, filesystem=fs).repartition(target_num_rows_per_block=1)


def _scored(
    data: "Dataset", scorer: type, job: Job, section: ScoreSpec, cpus: float, batch_size: int
) -> "Dataset":
    """The second stage: every actor loads the model once."""
    import ray.data

    return data.map_batches(
        scorer,
        fn_constructor_args=(job,),
        compute=ray.data.ActorPoolStrategy(size=section.actors),
        num_cpus=cpus,
        num_gpus=section.gpus_per_actor or None,
        batch_format="pyarrow",
        batch_size=batch_size,
    )


def _drained(data: "Dataset") -> Iterator[pa.Table]:
    from ray.exceptions import RayError

    try:
        for batch in data.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield pa.table(batch)
    except RayError as error:
        raise _as_medray(error) from error


def _cpus() -> float:
    import ray

    return float(ray.cluster_resources().get("CPU", 1.0))


class _ReaderActor:
    """Stage one as an actor: what it holds open ends with its process."""

    def __init__(self, pixels: PixelSpec) -> None:
        self._reader = Reader(pixels)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for row in batch.to_pylist():
            yield from self._reader.tables(json.loads(row["files"]))


def _share(cpus: float, actors: int, tasks: int) -> tuple[int, float, float]:
    """Readers, and processors per reader and per scorer, so that both stages always fit."""
    if cpus >= actors + 1:
        return max(1, min(tasks, int(cpus - actors))), 1.0, 1.0
    return 1, cpus / 2, cpus / (2 * actors)


def _as_medray(error: BaseException) -> MedrayError:
    """What a worker's failure means for the run; a MedrayError in it is passed on as it is."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MedrayError):
            return cause
        inner = getattr(cause, "cause", None)
        cause = inner if isinstance(inner, BaseException) else cause.__cause__
    return MedrayError(
        f"a worker failed: {type(getattr(error, 'cause', None) or error).__name__}",
        remedy="run the same command again: finished work is kept. If it fails again, look into "
        "Ray's logs for the worker's own message",
    )
