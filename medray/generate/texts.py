"""Draws as they come, valid or not, in the order they were made: what a generator is measured by.

Chunks with a seed of their own, as receipts: a killed run goes on, and who draws changes nothing.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from medray import storage
from medray.generate.draws import CHUNK, chunk_seed
from medray.ingest.parts import IN_PROCESS_COST, KEY_FIELDS, Row, Work, finish
from medray.package import Task
from medray.score.predictor import Predictor

_FEW = 8  # chunks that are drawn in this process
_SUFFIX = ".texts.parquet"
TEXTS = pa.schema(
    [pa.field("at", pa.int64(), nullable=False), pa.field("text", pa.string(), nullable=False)]
)


@dataclass(frozen=True, slots=True)
class TextJob:
    """What to draw from which package; picklable. task: see `Predictor`."""

    package_uri: str
    device: str
    way: str
    seed: int
    task: Task | None = None


def draw_texts(
    job: TextJob,
    count: int,
    folder: str,
    *,
    gpus: float = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """So many draws of a job; chunks lie in `folder` until the caller removes it.

    Raises MedrayError when a worker fails.
    """
    rows: list[Row] = [
        {"file_id": f"chunk-{at // CHUNK}", "size": min(CHUNK, count - at), "mtime_ns": at}
        for at in range(0, count, CHUNK)
    ]
    done = finish(
        rows,
        partial(_open, job),
        pa.schema(KEY_FIELDS),
        folder=folder,
        rows_per_part=1,
        cost=lambda row: IN_PROCESS_COST // _FEW,
        progress=progress,
        gpus=gpus,
    )
    drawn = storage.read_parquet([base + _SUFFIX for base in done.bases], TEXTS).sort_by("at")
    return drawn["text"].to_pylist()


@contextmanager
def _open(job: TextJob) -> Generator[Work]:
    maker = Predictor(job.package_uri, job.device, job.task)

    def work(rows: list[Row], base: str) -> pa.Table:
        for row in rows:
            seed = chunk_seed(job.seed, row["mtime_ns"] // CHUNK)
            texts = maker.sample(row["size"], seed, job.way)
            places = range(row["mtime_ns"], row["mtime_ns"] + len(texts))
            table = pa.table([list(places), texts], schema=TEXTS)
            storage.write_parquet(base + _SUFFIX, table)
        return pa.Table.from_pylist(rows, schema=pa.schema(KEY_FIELDS))

    yield work
