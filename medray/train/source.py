"""From a dataset to what the loop eats: fitted preprocessing and feeds of its splits.

A split is held in memory when it fits in a quarter of the machine's. Else images are streamed by
Ray Data, and timelines read shard by shard.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import BaseModel

from medray import storage
from medray.dataset import (
    AnyDataset,
    Dataset,
    MoleculesDataset,
    RecordsDataset,
    open_any,
    to_columns,
)
from medray.errors import DataError, LeakError, RejectError, UsageError
from medray.spec.models import RunSpec, TrainSpec
from medray.train.feed import Feed, MemoryFeed, Place, StreamFeed, bucketed
from medray.train.shards import ShardFeed, ShardItems, Share, no_items, regrouped, some
from medray.workload import Batch, Columns, Workload

if TYPE_CHECKING:
    import ray.data

Task = Workload[Any, Any]
Array = np.ndarray[Any, Any]
Cache = Literal["memory", "stream"]

_ROWS = 256
_BLOCK_BYTES = 32 << 20
_SHUFFLE_BUFFER_BYTES = 256 << 20
_STORED = ("item_id", "pixels", "shape", "dtype")


@dataclass(frozen=True)
class Source:
    """A dataset as one workload sees it."""

    dataset: AnyDataset
    task: Task
    params: BaseModel
    spec: RunSpec
    train: TrainSpec
    cache: Cache


def open_run(spec: RunSpec) -> AnyDataset:
    """The dataset of a run, with the fold that its spec asks for held out."""
    return as_split(open_any(spec.dataset_uri), spec)


def as_split(dataset: AnyDataset, spec: RunSpec) -> AnyDataset:
    """The dataset with the fold that a spec asks for held out, or as it was split at ingest."""
    split = spec.split
    if split.fold is None or split.folds is None:
        return dataset
    if isinstance(dataset, RecordsDataset) and any(
        source.pseudonyms for source in dataset.meta.records.sources
    ):
        raise LeakError(
            "folds would hold out patients whose scans the imaging network learned from",
            remedy="leave `split.folds` out: patients with scans keep the split of their scans",
        )
    return dataset.fold(split.fold, split.folds, split.tuning_share)


def open_source(dataset: AnyDataset, task: Task, params: BaseModel, spec: RunSpec) -> Source:
    """Check that the dataset supports the task. Raises DataError."""
    settings = spec.train or TrainSpec()
    present = set(dataset.labels().column_names)
    absent = [name for name in task.label_columns(params) if name not in present]
    if absent:
        known = sorted(present - {"item_id", "subject_id", "study_id", "split"})
        raise DataError(
            f"the dataset has no label column {', '.join(map(repr, absent))}",
            remedy=f"its columns are {', '.join(known)}; join a table in `ingest.tables`",
        )
    counts = dataset.counts()
    for split in ("train", "tuning"):
        if not counts[split]["items"]:
            raise DataError(
                f"the split {split!r} is empty",
                remedy="check split.column or split.fractions, and ingest again",
            )
    return Source(dataset, task, params, spec, settings, _cache(dataset, settings))


def _cache(dataset: AnyDataset, settings: TrainSpec) -> Cache:
    """Where the split is held. Raises UsageError for what cannot be streamed."""
    cache = settings.cache
    if isinstance(dataset, MoleculesDataset) and cache == "auto":  # a million are 60 MB
        cache = "memory"
    if cache == "auto":
        bytes_held = dataset.nbytes("train") + dataset.nbytes("tuning")
        cache = "memory" if bytes_held <= _memory_bytes() / 4 else "stream"
    if cache == "stream" and isinstance(dataset, MoleculesDataset):
        raise UsageError("molecules are held in memory", remedy="leave train.cache out")
    if cache == "stream" and settings.epoch_steps is not None:
        raise UsageError(
            "train.epoch_steps cuts passes over what is held in memory",
            remedy="leave it out, or set train.cache to memory",
        )
    return cache


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def fit(source: Source) -> BaseModel:
    """What preprocessing learns from `train`, in this process or in Ray Data."""
    task, params = source.task, source.params
    if isinstance(source.dataset, RecordsDataset):
        parts = list(_summaries_of_timelines(source, source.dataset))
    elif source.cache == "memory" or isinstance(source.dataset, MoleculesDataset):
        columns = _items(source, "train")
        rows = len(columns["item_id"])
        parts = [
            task.summarize(some(columns, slice(at, at + _ROWS)), params)
            for at in range(0, rows, _ROWS)
        ]
    else:
        parts = _summaries_by_ray(source, source.dataset)
    return task.fit(pa.concat_tables(parts), params)


def _summaries_of_timelines(source: Source, dataset: RecordsDataset) -> Iterator[pa.Table]:
    """Sums of a few patients' items at a time: the same to the bit however training reads them."""
    items = shard_items(dataset, "train", source.task, source.params)
    items.require_any()
    whole = [Share(uri) for uri in items.shards.uris]
    for block in regrouped(items.blocks(whole), _ROWS):
        yield source.task.summarize(block, source.params)


def _summaries_by_ray(source: Source, dataset: Dataset) -> list[pa.Table]:
    labels = dataset.columns("train")

    def summarize(table: pa.Table) -> pa.Table:
        return source.task.summarize(to_columns(table, labels), source.params)

    summaries = stream(dataset, "train").map_batches(
        summarize, batch_size=_ROWS, batch_format="pyarrow"
    )
    batches: Any = summaries.iter_batches(batch_size=None, batch_format="pyarrow")
    return [part for part in batches if part.num_rows]


def shard_items(dataset: RecordsDataset, split: str, task: Task, params: BaseModel) -> ShardItems:
    """Items of a split of timelines, read shard by shard."""
    return ShardItems(dataset, split, lambda patients: task.items(patients, params))


def collate(source: Source, fitted: BaseModel) -> Callable[[Columns], Batch]:
    """The workload's collate; a refused shape is the dataset's fault here, not a row's."""

    def apply(columns: Columns) -> Batch:
        try:
            return source.task.collate(columns, source.params, fitted)
        except RejectError as error:
            raise DataError(f"the dataset does not fit the model: {error}") from error

    return apply


def feeds(
    source: Source,
    fitted: BaseModel,
    place: Place,
    device: torch.device,
    shard: Any = None,
) -> tuple[Feed, Feed]:
    """Feeds of `train` and `tuning` for one worker.

    shard  Ray Data's iterator over this worker's images of `train`; absent: all of them.
    """
    if source.cache == "memory" or isinstance(source.dataset, MoleculesDataset):
        train = _memory_feed(source, fitted, "train", place, device)
        return train, _memory_feed(source, fitted, "tuning", place, device)
    if isinstance(source.dataset, RecordsDataset):
        train, tuning = (
            _shard_feed(source, source.dataset, fitted, split, place, device)
            for split in ("train", "tuning")
        )
        return train, tuning
    train = _stream_feed(source, source.dataset, fitted, "train", place, device, shard)
    return train, _stream_feed(source, source.dataset, fitted, "tuning", place, device, None)


def _memory_feed(
    source: Source, fitted: BaseModel, split: str, place: Place, device: torch.device
) -> Feed:
    columns = _items(source, split)
    apply, task = collate(source, fitted), source.task
    sizes = task.sizes(columns)
    settings = (source.train.batch_size, source.spec.seed, place, device)
    rest = {name: values for name, values in columns.items() if name not in task.inputs}
    if sizes is None:
        return MemoryFeed(apply(columns), rest, *settings, epoch_steps=source.train.epoch_steps)
    if _padded_bytes(columns, sizes, apply) <= _memory_bytes() / 8:
        return MemoryFeed(
            apply(columns),
            rest,
            *settings,
            sizes=sizes,
            trim=task.trim,
            epoch_steps=source.train.epoch_steps,
        )
    return _ragged_feed(source, columns, sizes, apply, place, device)


def _items(source: Source, split: str) -> Columns:
    """Items of a split. Raises DataError when there is none."""
    columns = source.task.items(source.dataset.read(split), source.params)
    if not len(columns["item_id"]):
        raise no_items(split)
    return columns


def _padded_bytes(columns: Columns, sizes: Array, apply: Callable[[Columns], Batch]) -> float:
    """Estimate the size of all items padded to the longest, from the longest few."""
    longest = np.argsort(sizes)[-16:]
    batch = apply({name: values[longest] for name, values in columns.items()})
    held = sum(values.element_size() * values.nelement() for values in batch.values())
    return held / len(longest) * len(sizes)


def _ragged_feed(
    source: Source,
    columns: Columns,
    sizes: Array,
    apply: Callable[[Columns], Batch],
    place: Place,
    device: torch.device,
) -> Feed:
    """Items of very different length: padded batch by batch, never all to the longest."""
    mine = np.arange(place.rank, len(sizes), place.world)

    def shuffled(batch_size: int, seed: int) -> Iterator[Columns]:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(mine), generator=generator)
        for rows in bucketed(order, sizes[mine], batch_size, generator).split(batch_size):
            if len(rows) == batch_size:
                yield {name: values[mine[rows.numpy()]] for name, values in columns.items()}

    def in_order(batch_size: int) -> Iterator[Columns]:
        for start in range(0, len(mine), batch_size):
            rows = mine[start : start + batch_size]
            yield {name: values[rows] for name, values in columns.items()}

    settings = (len(sizes), source.train.batch_size, source.spec.seed, place, device)
    return StreamFeed(shuffled, in_order, apply, *settings, inputs=source.task.inputs)


def _shard_feed(
    source: Source,
    dataset: RecordsDataset,
    fitted: BaseModel,
    split: str,
    place: Place,
    device: torch.device,
) -> Feed:
    task = source.task
    items = shard_items(dataset, split, task, source.params)
    items.require_any()
    settings = (source.train.batch_size, source.spec.seed, place, device)
    return ShardFeed(items, collate(source, fitted), task.sizes, task.inputs, *settings)


def _stream_feed(
    source: Source,
    dataset: Dataset,
    fitted: BaseModel,
    split: str,
    place: Place,
    device: torch.device,
    shard: Any,
) -> Feed:
    labels = dataset.columns(split)
    items = len(labels["item_id"])
    item_bytes = max(1, dataset.nbytes(split) // max(items, 1))

    def shuffled(batch_size: int, seed: int) -> Iterator[Columns]:
        buffer = max(2 * batch_size, _SHUFFLE_BUFFER_BYTES // item_bytes)
        rows = shard if shard is not None else stream(dataset, split)
        for table in rows.iter_batches(
            batch_size=batch_size,
            batch_format="pyarrow",
            drop_last=True,
            local_shuffle_buffer_size=min(buffer, max(items, 1)),
            local_shuffle_seed=seed,
        ):
            yield to_columns(table, labels)

    def in_order(batch_size: int) -> Iterator[Columns]:
        yield from _read_files(dataset, labels, batch_size, place)

    return StreamFeed(
        shuffled,
        in_order,
        collate(source, fitted),
        items,
        source.train.batch_size,
        source.spec.seed,
        place,
        device,
    )


def _read_files(
    dataset: Dataset, labels: Columns, batch_size: int, place: Place
) -> Iterator[Columns]:
    """Rows of one split from every `world`-th file, without a cluster's help.

    Evaluating through Ray Data would have to wait for the CPUs that feed the training.
    """
    for rows in dataset.blocks(batch_size, place.rank, place.world):
        columns = to_columns(rows, labels)
        if len(columns["item_id"]):
            yield columns


def stream(dataset: Dataset, split: str) -> "ray.data.Dataset":
    """Rows of one split (item_id, pixels, shape, dtype) as a Ray Data dataset."""
    import ray.data

    from medray.ingest.cluster import ensure_ray

    ensure_ray()
    files = dataset.image_files()
    fs, _ = storage.filesystem(dataset.images_uri)
    paths = [storage.filesystem(uri)[1] for uri in files]
    wanted = pa.array(dataset.columns(split)["item_id"], pa.string())
    item_bytes = max(1, dataset.nbytes(split) // max(len(wanted), 1))
    # files are packed into few tasks whatever is asked for; a repartition spreads them again
    rows = ray.data.read_parquet(paths, filesystem=fs, columns=list(_STORED)).repartition(
        target_num_rows_per_block=max(1, _BLOCK_BYTES // item_bytes)
    )

    def keep(table: pa.Table) -> pa.Table:
        return table.filter(pc.is_in(table["item_id"], value_set=wanted))  # pyright: ignore[reportAttributeAccessIssue]

    return rows.map_batches(keep, batch_size=None, batch_format="pyarrow")
