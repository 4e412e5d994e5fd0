"""The two stages on Ray Data: readers on processors, scorers wherever the model should run.

Readers and scorers are actors, so that a decode child and a model are started once per actor.
Ray holds only what is between the stages; everything durable is written by the scorers.
"""

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa

from medray import storage
from medray.errors import MedrayError
from medray.ingest.parts import Row
from medray.score.stages import Job, Reader, Scorer
from medray.spec.pixels import PixelSpec


def run_on_ray(
    files: Sequence[Row],
    job: Job,
    *,
    actors: int,
    gpus_per_actor: float,
    batch_size: int,
    files_per_task: int,
) -> Iterator[pa.Table]:
    """Read, decode and score files; yields file_id and file_items of what has been written.

    The plan is a file, not an argument, so that Ray never holds the whole job; the reader packs
    small files into one block, so the plan is cut into blocks of one row again.
    Raises MedrayError when a worker fails for another reason than its data.
    """
    import ray.data
    from ray.exceptions import RayError

    from medray.ingest.cluster import ensure_ray

    ensure_ray()
    plan = storage.join(job.folder, "plan", "plan.parquet")
    tasks = [files[at : at + files_per_task] for at in range(0, len(files), files_per_task)]
    rows = [{"files": json.dumps(list(task))} for task in tasks]
    storage.write_parquet(plan, pa.Table.from_pylist(rows))
    fs, path = storage.filesystem(plan)
    readers, reader_cpus, scorer_cpus = _share(
        ray.cluster_resources().get("CPU", 1.0), actors, len(tasks)
    )
    scored = (
        ray.data.read_parquet(path, filesystem=fs)
        .repartition(target_num_rows_per_block=1)
        .map_batches(
            _ReaderActor,
            fn_constructor_args=(job.pixels,),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=readers),
            num_cpus=reader_cpus,
            batch_format="pyarrow",
            batch_size=1,
        )
        .map_batches(
            Scorer,
            fn_constructor_args=(job,),
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=scorer_cpus,
            num_gpus=gpus_per_actor or None,
            batch_format="pyarrow",
            batch_size=batch_size,
        )
    )
    try:
        for batch in scored.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield pa.table(batch)
    except RayError as error:
        raise _as_medray(error) from error


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
