"""Work over many rows that can be killed at any moment and goes on where it stopped.

A part is a chunk of rows worked on by one task of Ray Data, or in this process when there are
few. It writes its data files into a staging folder and, last and atomically, its receipt:
a Parquet table with one row per input row. A receipt is the proof that a part is done; a run
that starts again skips the rows of all receipts it finds. Nothing here is visible to readers;
the caller publishes what the receipts name, then removes the folder.

Rows are dicts with `file_id`, `size` and `mtime_ns`, which together identify one version of a
file. Part names are hashes of the rows in it, so that repeating a part overwrites it.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import pyarrow as pa

from medray import storage
from medray.errors import MedrayError

Row = dict[str, Any]
Key = tuple[str, int, int]
Part = tuple[str, list[Row]]
Work = Callable[[list[Row], str], pa.Table]
"""(rows, base URI) → receipt. Writes its data to base URI + a suffix of its own, and returns
one row per input row, with `file_id`, `size` and `mtime_ns`. Raises only when the run must
stop."""
OpenWork = Callable[[], AbstractContextManager[Work]]
"""Makes the work, with what it holds open (a decode child), once per worker process. Must be
picklable: a function of a module, or a `partial` of one."""

KEY_FIELDS = (
    pa.field("file_id", pa.string(), nullable=False),
    pa.field("size", pa.int64(), nullable=False),
    pa.field("mtime_ns", pa.int64(), nullable=False),
)
# Starting Ray costs more CPU than reading so few files does (see also `cost` of `finish`).
IN_PROCESS_ROWS = 1000
IN_PROCESS_COST = 64 << 20
_RECEIPT = ".receipt.parquet"


@dataclass(frozen=True, slots=True)
class Finished:
    """All parts of a job: their base URIs, and their receipts as one table in no fixed order."""

    bases: list[str]
    receipts: pa.Table
    resumed: int  # rows that an interrupted run had finished


def key_of(row: Row) -> Key:
    """Which version of which file a row is about."""
    return row["file_id"], row["size"], row["mtime_ns"]


def finish(
    todo: Sequence[Row],
    open_work: OpenWork,
    receipt: pa.Schema,
    *,
    folder: str,
    rows_per_part: int,
    cost: Callable[[Row], int] = lambda row: 1,
    cost_per_part: int = 1 << 62,
    progress: Callable[[int, int], None] = lambda done, total: None,
    gpus: float = 0,
) -> Finished:
    """Work on every row of `todo` that no receipt in `folder` covers; returns all receipts.

    A part takes rows in order, up to `rows_per_part` and (but for a single row) a sum of `cost`
    (bytes to hold, for work that holds any) up to `cost_per_part`. `gpus`: what a task of Ray
    asks for beside its CPU. Raises MedrayError when a
    worker fails for another reason than its data, or when the receipts do not cover `todo`
    exactly once.
    """
    bases = _resumable(folder, {key_of(row) for row in todo})
    done = _receipts(bases, receipt)
    covered = {key_of(row) for row in _keys(done)}
    rest = [row for row in todo if key_of(row) not in covered]
    parts = _parts(rest, rows_per_part, cost, cost_per_part)
    resumed = len(covered)
    progress(resumed, len(todo))
    count = resumed
    for name, rows in _run(parts, open_work, folder, sum(map(cost, rest)), gpus):
        bases.append(storage.join(folder, name))
        count += rows
        progress(count, len(todo))
    receipts = _receipts(bases, receipt)
    _require_each_once(receipts, todo)
    return Finished(bases, receipts, resumed)


def _resumable(folder: str, wanted: set[Key]) -> list[str]:
    """Name parts that an interrupted run finished, of wanted rows only, no row twice.

    Others stay where they are, unused: a later round of the same run may want them.
    """
    bases: list[str] = []
    taken: set[Key] = set()
    for uri in storage.list_files(folder):
        if not uri.endswith(_RECEIPT):
            continue
        keys = {key_of(row) for row in _keys(storage.read_parquet([uri], pa.schema(KEY_FIELDS)))}
        if keys <= wanted and not keys & taken:
            taken |= keys
            bases.append(uri.removesuffix(_RECEIPT))
    return bases


def _receipts(bases: Sequence[str], schema: pa.Schema) -> pa.Table:
    return storage.read_parquet([base + _RECEIPT for base in bases], schema)


def _keys(table: pa.Table) -> list[Row]:
    return table.select([field.name for field in KEY_FIELDS]).to_pylist()


def _require_each_once(receipts: pa.Table, todo: Sequence[Row]) -> None:
    got = [key_of(row) for row in _keys(receipts)]
    if len(got) != len(todo) or set(got) != {key_of(row) for row in todo}:
        raise MedrayError(
            f"{len(todo)} files went in and {len(got)} came out: nothing was published",
            remedy="this is a defect of medray; run again with a new output folder and report it",
        )


def _parts(
    todo: Sequence[Row], rows_per_part: int, cost: Callable[[Row], int], cost_per_part: int
) -> list[Part]:
    """Cut rows into named parts."""
    parts: list[list[Row]] = []
    current: list[Row] = []
    spent = 0
    for row in todo:
        price = cost(row)
        if current and (len(current) >= rows_per_part or spent + price > cost_per_part):
            parts.append(current)
            current, spent = [], 0
        current.append(row)
        spent += price
    if current:
        parts.append(current)
    return [(_name(rows), rows) for rows in parts]


def _name(rows: Sequence[Row]) -> str:
    keys = json.dumps([key_of(row) for row in rows])
    return hashlib.sha256(keys.encode()).hexdigest()[:24]


# ---------------------------------------------------------------- running


def _run(
    parts: list[Part], open_work: OpenWork, folder: str, price: int, gpus: float
) -> Iterator[tuple[str, int]]:
    """Yield (part name, rows) as parts finish; `price` is their cost."""
    few = sum(len(rows) for _, rows in parts) <= IN_PROCESS_ROWS and price <= IN_PROCESS_COST
    if not parts:
        return
    if few and not os.environ.get("RAY_ADDRESS"):
        with open_work() as work:
            for name, rows in parts:
                _work_on(name, rows, work, folder)
                yield name, len(rows)
    else:
        yield from _run_on_ray(parts, open_work, folder, gpus)


def _work_on(name: str, rows: list[Row], work: Work, folder: str) -> None:
    base = storage.join(folder, name)
    storage.write_parquet(base + _RECEIPT, work(rows, base))


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker process opens once: two jobs are the same when their names are."""

    name: str
    open_work: OpenWork = field(compare=False)


@lru_cache(maxsize=1)
def _work_of_process(job: _Job) -> tuple[AbstractContextManager[Work], Work]:
    """Open the work once in a worker process; what it holds ends with the process.

    The context comes along because it would close what is open if nobody held it.
    """
    context = job.open_work()
    return context, context.__enter__()


def _run_on_ray(
    parts: list[Part], open_work: OpenWork, folder: str, gpus: float
) -> Iterator[tuple[str, int]]:
    """Run parts as tasks of Ray Data; one row of the plan is one part and one task.

    The plan is a file, not an argument, so that Ray never holds the whole job; the reader packs
    small files into one block, so the plan is cut into blocks of one row again.
    """
    import ray.data
    from ray.exceptions import RayError

    from medray.ingest.cluster import ensure_ray

    ensure_ray()
    plan = storage.join(folder, "plan.parquet")
    rows = [{"part": name, "rows": json.dumps(rows), "count": len(rows)} for name, rows in parts]
    storage.write_parquet(plan, pa.Table.from_pylist(rows))
    fs, path = storage.filesystem(plan)
    job = _Job(f"{folder} {secrets.token_hex(8)}", open_work)

    def task(batch: pa.Table) -> pa.Table:
        _, work = _work_of_process(job)
        for row in batch.to_pylist():
            _work_on(row["part"], json.loads(row["rows"]), work, folder)
        return batch.select(["part", "count"])

    finished = (
        ray.data.read_parquet(path, filesystem=fs)
        .repartition(target_num_rows_per_block=1)
        .map_batches(task, batch_format="pyarrow", batch_size=1, num_gpus=gpus or None)
    )
    try:
        for batch in finished.iter_batches(batch_size=1, batch_format="pyarrow"):
            for row in cast(pa.Table, batch).to_pylist():
                yield row["part"], row["count"]
    except RayError as error:
        cause = getattr(error, "cause", None) or error
        raise MedrayError(
            f"a worker failed: {type(cause).__name__}",
            remedy="run the same command again: finished work is kept. If it fails again, look "
            "into Ray's logs for the worker's own message",
        ) from error
