"""Patients' records shard by shard: items of a split that memory need not hold.

A shard is one file of whole patients. An epoch draws from a few shards at a time, through a buffer
of bounded size; its order is a function of (seed, epoch, rank). Shapes: M items.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Generator

from medray.dataset import RecordsDataset
from medray.dataset.shards import SplitShards, taken
from medray.errors import DataError
from medray.train.ahead import ahead
from medray.train.feed import EVALUATION_ROWS, Place, bucketed
from medray.train.schedule import derive_seed
from medray.workload import Batch, Columns

Array = np.ndarray[Any, Any]

_PATIENTS = 64  # cut into items at once
_OPEN = 4  # shards that an epoch draws from at once
_WINDOW_BATCHES = 16  # as many are sorted by length together
_WAITING = 1 << 13  # items in the buffer, at most, and their bytes
_WAITING_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Share:
    """Patients `first`, `first + step` and so on of one shard."""

    uri: str
    first: int = 0
    step: int = 1


def deal(uris: Sequence[str], place: Place) -> list[Share]:
    """What one of several workers reads: whole shards, and its part of those left over."""
    whole = len(uris) // place.world * place.world
    mine = [Share(uri) for uri in uris[:whole][place.rank :: place.world]]
    return mine + [Share(uri, place.rank, place.world) for uri in uris[whole:]]


class ShardItems:
    """Items of a split; `items` cuts patients into them (see `Workload.items`)."""

    def __init__(
        self, dataset: RecordsDataset, split: str, items: Callable[[Columns], Columns]
    ) -> None:
        self.split = split
        self.shards = SplitShards(dataset, split)
        self._items = items

    def blocks(self, shares: Sequence[Share]) -> Iterator[Columns]:
        """Items of some patients at a time, in the order of the files."""
        for share in shares:
            yield from self._of(share, None)

    def drawn(self, shares: Sequence[Share], generator: Generator) -> Iterator[Columns]:
        """The same in a drawn order: of shards, of patients in them, and of a few open shards."""
        left = [shares[place] for place in _drawn(len(shares), generator)]
        opened: list[Iterator[Columns]] = []
        while left or opened:
            while left and len(opened) < _OPEN:
                opened.append(self._of(left.pop(), generator))
            one = opened[int(torch.randint(len(opened), (1,), generator=generator))]
            block = next(one, None)
            if block is None:
                opened.remove(one)
            else:
                yield block

    def _of(self, share: Share, generator: Generator | None) -> Iterator[Columns]:
        patients = self.shards.read(share.uri)
        rows = np.arange(share.first, len(patients["item_id"]), share.step)
        if generator is not None:
            rows = rows[_drawn(len(rows), generator)]
        for start in range(0, len(rows), _PATIENTS):
            block = self._items(taken(patients, rows[start : start + _PATIENTS]))
            if len(block["item_id"]):
                yield block

    def require_any(self) -> None:
        """Raise DataError when there is no item at all."""
        if next(self.blocks([Share(uri) for uri in self.shards.uris]), None) is None:
            raise no_items(self.split)


def no_items(split: str) -> DataError:
    """What is said of a split without items."""
    return DataError(
        f"the split {split!r} has no item",
        remedy="check the task's prediction times, and the times of the records",
    )


def _drawn(count: int, generator: Generator) -> Array:
    return torch.randperm(count, generator=generator).numpy()


def joined(blocks: Sequence[Columns]) -> Columns:
    """Items of several blocks, one after the other."""
    if len(blocks) == 1:
        return blocks[0]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def some(columns: Columns, rows: Array | slice) -> Columns:
    """Some of the items."""
    return {name: values[rows] for name, values in columns.items()}


def regrouped(blocks: Iterator[Columns], rows: int) -> Iterator[Columns]:
    """The same items in the same order, so many at a time; the last are fewer."""
    waiting: list[Columns] = []
    held = 0
    for block in blocks:
        waiting.append(block)
        held += len(block["item_id"])
        if held >= rows:
            whole = joined(waiting)
            for start in range(0, held - rows + 1, rows):
                yield some(whole, slice(start, start + rows))
            waiting, held = [some(whole, slice(held - held % rows, held))], held % rows
    if held:
        yield joined(waiting)


def buffered(
    blocks: Iterator[Columns], window: int, most: int, generator: Generator
) -> Iterator[Columns]:
    """Every item once, in windows drawn from those that wait; the last window may be shorter.

    There wait never more than `most` items and one block's.
    """
    waiting: list[Columns] = []
    held = 0
    for block in blocks:
        waiting.append(block)
        held += len(block["item_id"])
        while held >= most:
            whole = joined(waiting)
            order = _drawn(held, generator)
            yield some(whole, order[:window])
            waiting, held = [some(whole, order[window:])], held - window
    if held:
        whole = joined(waiting)
        order = _drawn(held, generator)
        for start in range(0, held, window):
            yield some(whole, order[start : start + window])


class ShardFeed:
    """A split of timelines, read again in every epoch; see `Feed`.

    collate  items → tensors. sizes: lengths of items, or None. inputs: columns that only
             `collate` reads.
    """

    def __init__(
        self,
        items: ShardItems,
        collate: Callable[[Columns], Batch],
        sizes: Callable[[Columns], Array | None],
        inputs: Sequence[str],
        batch_size: int,
        seed: int,
        place: Place,
        device: torch.device,
    ) -> None:
        self._items = items
        self._collate = collate
        self._sizes = sizes
        self._inputs = inputs
        self._batch_size = batch_size
        self._seed = seed
        self._place = place
        self._device = device
        self._shares = deal(items.shards.uris, place)

    @cached_property
    def items(self) -> int:
        """Items that every worker has: counted once, before the first epoch."""
        count = sum(len(block["item_id"]) for block in self._items.blocks(self._shares))
        if dist.is_initialized():
            least = torch.tensor([count], device=self._device)
            dist.all_reduce(least, op=dist.ReduceOp.MIN)
            count = int(least.item())
        if not count:
            raise no_items(self._items.split)
        return count

    @property
    def steps(self) -> int:
        """Updates per epoch; the same for every rank."""
        return max(1, self.items // self._share)

    @property
    def _share(self) -> int:
        return min(self._place.share(self._batch_size), self.items)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Full batches; the items left over differ from epoch to epoch."""
        generator = Generator().manual_seed(derive_seed(self._seed, epoch, self._place.rank))
        for batch in ahead(islice(self._batches(self._share, generator), self.steps)):
            yield self._on_device(batch)

    def whole(self) -> Iterator[tuple[Batch, Columns]]:
        """This rank's part of the items, in the order of the files."""
        for batch, rest in ahead(self._in_order()):
            yield self._on_device(batch), rest

    def _batches(self, share: int, generator: Generator) -> Iterator[Batch]:
        window = _WINDOW_BATCHES * share
        most = min(_WAITING, _WAITING_BYTES // max(1, self._items.shards.patient_bytes))
        drawn = self._items.drawn(self._shares, generator)
        for items in buffered(drawn, window, max(most, 2 * window), generator):
            order = torch.arange(len(items["item_id"]))
            sizes = self._sizes(items)
            if sizes is not None:
                order = bucketed(order, sizes, share, generator)
            for rows in order.split(share):
                if len(rows) == share:
                    yield self._collate(some(items, rows.numpy()))

    def _in_order(self) -> Iterator[tuple[Batch, Columns]]:
        for items in regrouped(self._items.blocks(self._shares), EVALUATION_ROWS):
            rest = {name: v for name, v in items.items() if name not in self._inputs}
            yield self._collate(items), rest

    def _on_device(self, batch: Batch) -> Batch:
        return {name: values.to(self._device) for name, values in batch.items()}
