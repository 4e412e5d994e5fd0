"""Items of a dataset as evaluation needs them: of timelines, a few histories at a time.

Images of a split are held whole, because its mistakes are drawn. Shapes: N items.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medray.dataset import AnyDataset, RecordsDataset
from medray.errors import DataError, RejectError
from medray.evaluate.cohort import UNSEEN
from medray.evaluate.results import Scored
from medray.package import Task
from medray.score.predictor import Predictor
from medray.spec.models import SPLITS
from medray.train.shards import ShardItems, Share, joined, regrouped, some
from medray.workload import Columns, Rivals

Array = NDArray[Any]

# Rows predicted between two words of progress; the predictor cuts them further.
ROWS = 256
RIVAL_ITEMS = 20_000  # of `train`, that simple models learn from at most
_ASKED = 20_000  # items of `held_out` that they are asked about at once


@dataclass(frozen=True, slots=True)
class Split:
    """One split: the columns of its items, and by target truth and logits."""

    columns: Mapping[str, Array]
    truth: Mapping[str, Array]
    logits: Mapping[str, Array]

    def scored(self, target: str) -> Scored | None:
        """One target of it; None where the split is empty."""
        if not len(self.columns["item_id"]):
            return None
        return Scored(
            item_ids=self.columns["item_id"],
            subject_ids=self.columns["subject_id"],
            truth=np.asarray(self.truth[target]),
            logits=self.logits[target],
        )


@dataclass(frozen=True, slots=True)
class Reading:
    """A dataset as one package sees it, without the items that the split's policy leaves out."""

    dataset: AnyDataset
    left_out: set[str]
    task: Task
    predictor: Predictor

    def labels(self) -> dict[str, Array]:
        """Label columns of the items of all splits; of images without reading a pixel."""
        parts = [self._labels(split) for split in SPLITS]
        return dict(joined([part for part in parts if len(part["item_id"])]))

    def truth(self, columns: Columns) -> dict[str, Array]:
        """Target → what was observed, in the shape of its kind."""
        params, _ = self.predictor.learned
        return {name: np.asarray(v) for name, v in self.task.truth(columns, params).items()}

    def blocks(self, split: str) -> Iterator[Columns]:
        """Items of a split, some at a time, those of one subject in their order; images all."""
        params, _ = self.predictor.learned

        def items(rows: Columns) -> Columns:
            return self.task.items(self._without(rows), params)

        if isinstance(self.dataset, RecordsDataset):
            shards = ShardItems(self.dataset, split, items)
            yield from shards.blocks([Share(uri) for uri in shards.shards.uris])
        else:
            yield items(self.dataset.read(split))

    def predict(self, split: str, told: Callable[[int], None]) -> Split:
        """Predict a split, some items at a time; `told`: how many are done.

        Raises DataError when the package does not take the items.
        """
        kept: list[Columns] = []
        logits: list[Columns] = []
        done = 0
        blocks = self.blocks(split)
        if isinstance(self.dataset, RecordsDataset):
            blocks = regrouped(blocks, ROWS)
        for block in blocks:
            kept.append(self._kept(block))
            for items in regrouped(iter([block]), ROWS):
                logits.append(self._logits(items))
                done += len(items["item_id"])
                told(done)
        if not done:
            return Split(_NOTHING, {}, {})
        columns, answers = joined(kept), joined(logits)
        if isinstance(self.dataset, RecordsDataset):  # in which shard a subject stands is nothing
            order = _by_subject(columns)
            columns, answers = some(columns, order), some(answers, order)
        return Split(columns, self.truth(columns), answers)

    def _logits(self, items: Columns) -> Columns:
        try:
            return self.predictor.logits({name: items[name] for name in self.task.inputs})
        except RejectError as reject:
            raise DataError(
                f"the package does not take the items of this dataset: {reject.detail}",
                remedy="evaluate the package with the dataset it was trained on",
            ) from reject

    def rivals(self, labels: Columns, held_out: Split, seed: int) -> Rivals:
        """Simple models, learned from a part of `train`: see `Workload.baselines`.

        They are fitted again for every _ASKED items of `held_out`, with the same result, so that
        no more histories are held.
        """
        train = self._drawn(labels, seed)
        params, fitted = self.predictor.learned
        parts: list[Rivals] = []
        ids: list[Array] = []
        for items in regrouped(self.blocks("held_out"), _ASKED):
            parts.append(self.task.baselines(train, items, params, fitted, seed))
            ids.append(items["item_id"])
        place = {one: row for row, one in enumerate(np.concatenate(ids))}
        order = np.array([place[one] for one in held_out.columns["item_id"]], np.int64)
        return _joined_rivals(parts, order)

    def _drawn(self, labels: Columns, seed: int) -> Columns:
        """Items of `train`, at most RIVAL_ITEMS of them, ordered by subject."""
        ids = labels["item_id"][labels["split"] == "train"]
        if len(ids) > RIVAL_ITEMS:
            ids = np.random.default_rng(seed).choice(ids, RIVAL_ITEMS, replace=False)
        wanted = set(ids)
        parts = [
            some(block, np.array([one in wanted for one in block["item_id"]], bool))
            for block in self.blocks("train")
        ]
        columns = joined(parts)
        return some(columns, _by_subject(columns))

    def _labels(self, split: str) -> Columns:
        if not isinstance(self.dataset, RecordsDataset):
            return self._without(self.dataset.columns(split))
        params, fitted = self.predictor.learned
        parts: list[Columns] = []
        for items in regrouped(self.blocks(split), ROWS):
            unseen = self.task.unseen(items, params, fitted)
            counted = {} if unseen is None else {UNSEEN: unseen}
            parts.append({**self._kept(items), **counted})
        if not parts:
            return _NOTHING
        columns = joined(parts)
        return some(columns, _by_subject(columns))

    def _kept(self, items: Columns) -> Columns:
        if not isinstance(self.dataset, RecordsDataset):
            return items
        return {name: v for name, v in items.items() if name not in self.task.inputs}

    def _without(self, columns: Columns) -> Columns:
        keep_N = np.array([one not in self.left_out for one in columns["item_id"]], bool)
        return columns if keep_N.all() else some(columns, keep_N)


_NOTHING: Columns = {"item_id": np.empty(0, object), "subject_id": np.empty(0, object)}


def _by_subject(columns: Columns) -> Array:
    return np.argsort(columns["subject_id"], kind="stable")


def _joined_rivals(parts: list[Rivals], order: Array) -> Rivals:
    """Answers of several calls as one, in another order."""
    found: dict[str, Mapping[str, Array] | str] = {}
    for name, first in parts[0].items():
        if isinstance(first, str):
            found[name] = first
            continue
        answers = [part[name] for part in parts]
        found[name] = some(joined([one for one in answers if not isinstance(one, str)]), order)
    return found
