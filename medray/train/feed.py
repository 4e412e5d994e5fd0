"""Where batches come from: a split held in memory, or Ray Data streaming it.

Order is a function of (seed, epoch); ranks take slices of the same order. Every rank gets the
same number of batches, or the others would wait for ever.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from medray.train.schedule import derive_seed
from medray.workload import Batch, Columns

Array = np.ndarray[Any, Any]
EVALUATION_ROWS = 256
_WINDOW_BATCHES = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Which worker this is, and how large a slice of the global batch it takes."""

    rank: int = 0
    world: int = 1

    def share(self, batch_size: int) -> int:
        """Items per update of one worker."""
        return max(1, batch_size // self.world)


def bucketed(order: Tensor, sizes: Array, batch: int, generator: torch.Generator) -> Tensor:
    """The same items in another order: batches of like length, each anywhere in the epoch.

    Only items that stood within so many batches of each other come together, so that a batch is
    still a draw from all. Those left over stay the last of `order`: an epoch leaves them out, and
    they must not be the longest every time.
    """
    whole, rest = order[: len(order) // batch * batch], order[len(order) // batch * batch :]
    length = torch.from_numpy(np.ascontiguousarray(sizes))
    batches: list[Tensor] = []
    for part in whole.split(_WINDOW_BATCHES * batch):
        batches.extend(part[torch.argsort(length[part], stable=True)].split(batch))
    turn = torch.randperm(len(batches), generator=generator).tolist()
    return torch.cat([*(batches[place] for place in turn), rest])


class Feed(Protocol):
    """Batches of one split, on the training device."""

    @property
    def steps(self) -> int:
        """Updates per epoch, at most; the same for every rank."""
        ...

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """This rank's batches in the shuffled order of `epoch` (from 1)."""
        ...

    def whole(self) -> Iterator[tuple[Batch, Columns]]:
        """This rank's part of all items, unshuffled, each with its label columns."""
        ...


class MemoryFeed:
    """A whole split, collated once."""

    def __init__(
        self,
        batch: Batch,
        columns: Columns,
        batch_size: int,
        seed: int,
        place: Place,
        device: torch.device,
        *,
        sizes: Array | None = None,
        trim: Callable[[Batch], Batch] = lambda batch: batch,
        epoch_steps: int | None = None,
    ) -> None:
        self._sizes = sizes
        self._trim = trim
        self._batch = {name: values.to(device) for name, values in batch.items()}
        self._columns = columns
        self._seed = seed
        self._place = place
        self.items = len(next(iter(batch.values())))
        self._share = min(place.share(batch_size), max(1, self.items // place.world))
        self._whole = max(1, self.items // (self._share * place.world))
        self.steps = epoch_steps or self._whole

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Batches of equal size; the few items left over differ from pass to pass.

        Where an epoch is a number of updates, passes over the items run on from one to the next.
        """
        first = (epoch - 1) * self.steps
        order = self._order(first // self._whole + 1)
        for done in range(first, first + self.steps):
            turn, step = divmod(done, self._whole)
            if step == 0 and done > first:
                order = self._order(turn + 1)
            start = (step * self._place.world + self._place.rank) * self._share
            yield self._take(order[start : start + self._share])

    def whole(self) -> Iterator[tuple[Batch, Columns]]:
        """Every `world`-th item, from `rank` on."""
        mine = np.arange(self._place.rank, self.items, self._place.world)
        for start in range(0, len(mine), EVALUATION_ROWS):
            rows = mine[start : start + EVALUATION_ROWS]
            yield (
                self._take(torch.from_numpy(rows)),
                {name: values[rows] for name, values in self._columns.items()},
            )

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self._seed, epoch))
        order = torch.randperm(self.items, generator=generator)
        if self._sizes is not None:
            order = bucketed(order, self._sizes, self._share * self._place.world, generator)
        return order.to(next(iter(self._batch.values())).device)

    def _take(self, rows: Tensor) -> Batch:
        return self._trim({name: values[rows] for name, values in self._batch.items()})


class StreamFeed:
    """A split too large for memory; shuffled in a buffer, not to the bit repeatable.

    shuffled(batch_size, seed)  this rank's rows, in batches of exactly so many.
    in_order(batch_size)        this rank's part of all rows; batches may be short.
    """

    def __init__(
        self,
        shuffled: Callable[[int, int], Iterator[Columns]],
        in_order: Callable[[int], Iterator[Columns]],
        collate: Callable[[Columns], Batch],
        items: int,
        batch_size: int,
        seed: int,
        place: Place,
        device: torch.device,
        *,
        inputs: tuple[str, ...] = ("pixels",),
    ) -> None:
        self._inputs = inputs
        self._shuffled = shuffled
        self._in_order = in_order
        self._collate = collate
        self._seed = seed
        self._device = device
        self.items = items
        self._share = min(place.share(batch_size), max(1, items // place.world))
        self.steps = max(1, items // (self._share * place.world))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """At most `steps` full batches."""
        seed = derive_seed(self._seed, epoch) % 2**31
        for columns in islice(self._shuffled(self._share, seed), self.steps):
            yield self._to_device(columns)

    def whole(self) -> Iterator[tuple[Batch, Columns]]:
        """This rank's files."""
        for columns in self._in_order(EVALUATION_ROWS):
            rest = {name: values for name, values in columns.items() if name not in self._inputs}
            yield self._to_device(columns), rest

    def _to_device(self, columns: Columns) -> Batch:
        return {name: values.to(self._device) for name, values in self._collate(columns).items()}
