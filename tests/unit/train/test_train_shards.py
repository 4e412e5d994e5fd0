"""Timelines read shard by shard: every item once, in an order that (seed, epoch, rank) decide."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator

from medray import api
from medray.dataset import RecordsDataset
from medray.dataset.shards import SplitShards, taken
from medray.errors import DataError
from medray.records.tasks import TIMELINE
from medray.spec.models import RunSpec
from medray.train import source as sources
from medray.train.ahead import ahead
from medray.train.feed import Place
from medray.train.shards import ShardFeed, Share, buffered, deal, regrouped
from medray.workload import Columns
from medray.workloads import WORKLOADS

CPU = torch.device("cpu")
TASK = WORKLOADS["timeline"]
SUBJECTS, SHARDS = 150, 5


def write_tables(folder: Path) -> None:
    """Some events of each subject, by the hour; whose lab runs high dies."""
    rng = np.random.default_rng(3)
    rows, outcomes = ["subject,time,code,value"], ["subject,died"]
    for number in range(SUBJECTS):
        ill = number % 3 == 0
        outcomes.append(f"s{number},{int(ill)}")
        for hour in range(int(rng.integers(1, 7))):
            rows.append(f"s{number},{hour},lab,{rng.normal(3 if ill else 0, 1):.3f}")
            if rng.random() < 0.4:
                rows.append(f"s{number},{hour},drug {rng.integers(3)},")
    folder.mkdir()
    (folder / "events.csv").write_text("\n".join(rows) + "\n")
    (folder / "outcomes.csv").write_text("\n".join(outcomes) + "\n")


def run_spec(root: Path, output: str = "run", **changes: Any) -> RunSpec:
    tables = root / "tables"
    long = {"format": "long", "path": str(tables / "events.csv"), "subject": "subject"}
    return RunSpec.model_validate(
        {
            "name": "shards",
            "output": str(root / output),
            "dataset": str(root / "run" / "dataset"),
            "records": {
                "sources": [{**long, "time_unit": "hours", "value": "value"}],
                "tables": [{"path": str(tables / "outcomes.csv"), "key": "subject"}],
                "shards": SHARDS,
            },
            "split": {
                "fractions": {"train": 0.5, "tuning": 0.25, "held_out": 0.25},
                "identical_images": "drop",
            },
            "workload": "timeline",
            "params": {
                "outcome": {"column": "died"},
                "hidden": 8,
                "min_patients": 2,
                "dropout": 0.0,
            },
            "train": {
                "epochs": 4,
                "batch_size": 16,
                "cache": "stream",
                "optimizer": {"lr": 0.02},
                **changes,
            },
            "evaluate": {"subgroups": [], "replicates": 100, "min_patients": 2},
        }
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_tables(folder / "tables")
    api.ingest(run_spec(folder))
    return folder


def open_source(root: Path, **changes: Any) -> sources.Source:
    spec = run_spec(root, **changes)
    params = TASK.params_model.model_validate(spec.params)
    return sources.open_source(sources.open_run(spec), TASK, params, spec)


def as_rows(columns: Columns) -> dict[str, list[Any]]:
    """Every item as plain values, by name; `row` only numbers the patients of one reading."""
    names = [name for name in columns if name != "row"]
    return {
        item: [
            columns[name][at].tobytes() if name in TIMELINE else str(columns[name][at])
            for name in names
        ]
        for at, item in enumerate(columns["item_id"])
    }


def train_feed(source: sources.Source, place: Place, split: str = "train") -> ShardFeed:
    """The feed, with item_ids in the place of tensors."""
    assert isinstance(source.dataset, RecordsDataset)
    items = sources.shard_items(source.dataset, split, TASK, source.params)
    return ShardFeed(items, names_of, TASK.sizes, TASK.inputs, 16, 0, place, CPU)


def names_of(columns: Columns) -> dict[str, torch.Tensor]:
    """item_ids as numbers: of the patient's last digits and the prediction time."""
    numbers = [hash(item) for item in columns["item_id"]]
    return {"names": torch.tensor(numbers), "sizes": torch.from_numpy(TASK.sizes(columns))}


@pytest.mark.parametrize("split", ["train", "tuning", "held_out"])
def test_shards_hold_the_items_that_reading_the_whole_split_gives(root: Path, split: str) -> None:
    source = open_source(root)
    assert isinstance(source.dataset, RecordsDataset)
    assert len(source.dataset.event_files()) == SHARDS
    whole = TASK.items(source.dataset.read(split), source.params)
    found: dict[str, list[Any]] = {}
    for block in sources.shard_items(source.dataset, split, TASK, source.params).blocks(
        [Share(uri) for uri in source.dataset.event_files()]
    ):
        rows = as_rows(block)
        assert not rows.keys() & found.keys()
        found |= rows
    assert found == as_rows(whole)
    assert len(found) > 50


def test_taken_patients_let_the_shard_go(root: Path) -> None:
    dataset = open_source(root).dataset
    assert isinstance(dataset, RecordsDataset)
    shards = SplitShards(dataset, "train")
    patients = shards.read(shards.uris[0])
    some = taken(patients, np.array([2, 0]))
    for name in TIMELINE:
        assert all(events.base is None for events in some[name])
        assert np.array_equal(some[name][0], patients[name][2], equal_nan=name == "event_value")
    assert some["item_id"].tolist() == [patients["item_id"][2], patients["item_id"][0]]


def test_an_epoch_holds_every_item_once_but_for_those_left_over(root: Path) -> None:
    feed = train_feed(open_source(root), Place())
    seen: list[Counter[int]] = []
    for epoch in (1, 2):
        batches = [batch["names"] for batch in feed.epoch(epoch)]
        assert len(batches) == feed.steps == feed.items // 16
        assert all(len(batch) == 16 for batch in batches)
        seen.append(Counter(torch.cat(batches).tolist()))
        assert max(seen[-1].values()) == 1
    everything = {name for batch, _ in feed.whole() for name in batch["names"].tolist()}
    assert len(everything) == feed.items
    assert seen[0].keys() | seen[1].keys() <= everything
    assert len(seen[0]) > 0.8 * feed.items


def test_the_order_is_a_function_of_seed_and_epoch(root: Path) -> None:
    def order(epoch: int) -> list[int]:
        feed = train_feed(open_source(root), Place())
        return torch.cat([batch["names"] for batch in feed.epoch(epoch)]).tolist()

    assert order(3) == order(3)
    assert order(3) != order(4)


def test_batches_hold_items_of_like_length(root: Path) -> None:
    feed = train_feed(open_source(root), Place())
    spread = [float(batch["sizes"].float().std()) for batch in feed.epoch(1)]
    every = torch.cat([batch["sizes"] for batch in feed.epoch(1)]).float().std()
    assert np.mean(spread) < 0.5 * float(every)


@pytest.mark.parametrize("world", [2, 3, 7])
def test_ranks_share_the_items_and_have_none_in_common(root: Path, world: int) -> None:
    source = open_source(root)
    everything = train_feed(source, Place())
    parts: list[set[int]] = []
    for rank in range(world):
        feed = train_feed(source, Place(rank, world))
        names = [name for batch, _ in feed.whole() for name in batch["names"].tolist()]
        drawn = torch.cat([batch["names"] for batch in feed.epoch(1)]).tolist()
        assert len(names) == len(set(names)) == feed.items
        assert set(drawn) <= set(names)
        parts.append(set(names))
    assert sum(map(len, parts)) == len(set[int]().union(*parts)) == everything.items


@given(shards=st.integers(0, 40), world=st.integers(1, 9))
def test_every_patient_of_every_shard_is_dealt_once(shards: int, world: int) -> None:
    uris = [f"shard {number}" for number in range(shards)]
    dealt = Counter(
        (share.uri, patient)
        for rank in range(world)
        for share in deal(uris, Place(rank, world))
        for patient in range(share.first, 20, share.step)
    )
    assert dealt == Counter((uri, patient) for uri in uris for patient in range(20))


@given(
    sizes=st.lists(st.integers(1, 30), max_size=40),
    window=st.integers(1, 40),
    most=st.integers(1, 120),
    seed=st.integers(0, 99),
)
def test_the_buffer_is_bounded_and_loses_nothing(
    sizes: list[int], window: int, most: int, seed: int
) -> None:
    most = max(most, window)
    came = went = 0

    def blocks() -> Iterator[Columns]:
        nonlocal came
        for size in sizes:
            assert came - went <= most
            yield {"item_id": np.arange(came, came + size)}
            came += size

    windows: list[list[int]] = []
    for items in buffered(blocks(), window, most, Generator().manual_seed(seed)):
        windows.append(items["item_id"].tolist())
        went += len(windows[-1])
    assert sorted(item for each in windows for item in each) == list(range(sum(sizes)))
    assert all(len(each) == window for each in windows[:-1])


def test_the_buffer_mixes_items_far_apart() -> None:
    blocks = [{"item_id": np.arange(start, start + 10)} for start in range(0, 1000, 10)]
    first = next(buffered(iter(blocks), 50, 500, Generator().manual_seed(0)))["item_id"]
    assert first.min() < 100
    assert first.max() > 400


@given(sizes=st.lists(st.integers(1, 30), max_size=30), rows=st.integers(1, 50))
def test_regrouped_rows_keep_their_order(sizes: list[int], rows: int) -> None:
    edges = np.cumsum([0, *sizes])
    blocks = ({"item_id": np.arange(a, b)} for a, b in pairwise(edges))
    found = [block["item_id"] for block in regrouped(blocks, rows)]
    assert all(len(block) == rows for block in found[:-1])
    assert np.concatenate([*found, np.empty(0)]).tolist() == list(range(sum(sizes)))


def test_fitting_does_not_depend_on_the_cache(root: Path) -> None:
    streamed = sources.fit(open_source(root))
    assert streamed == sources.fit(open_source(root, cache="memory"))


def test_streamed_fit_equals_the_sums_of_all_items_at_once(root: Path) -> None:
    source = open_source(root)
    items = TASK.items(source.dataset.read("train"), source.params)
    whole = TASK.fit(TASK.summarize(items, source.params), source.params)
    streamed = sources.fit(source)
    one, other = (fitted.model_dump()["vocabulary"] for fitted in (streamed, whole))
    assert one["presence"] == other["presence"]
    for kind in ("timed", "static"):
        assert [(c["code"], c["text"], c["transform"]) for c in one[kind]] == [
            (c["code"], c["text"], c["transform"]) for c in other[kind]
        ]
        numbers = [[(c["mean"], c["std"]) for c in found[kind]] for found in (one, other)]
        assert np.allclose(*numbers, rtol=1e-12)
    assert len(one["timed"]) == 1
    assert len(one["presence"]) == 3


def test_a_split_without_items_is_refused(root: Path) -> None:
    source = open_source(root)
    assert isinstance(source.dataset, RecordsDataset)
    items = sources.shard_items(
        source.dataset,
        "tuning",
        TASK,
        source.params.model_copy(
            update={
                "predict_at": TASK.params_model.model_validate(
                    {"outcome": {"column": "died"}, "predict_at": {"days": [-5]}}
                ).predict_at
            }
        ),
    )
    with pytest.raises(DataError, match="'tuning' has no item"):
        items.require_any()


class TestAhead:
    def test_gives_the_same_values_in_order(self) -> None:
        assert list(ahead(iter(range(50)), most=3)) == list(range(50))

    def test_is_never_more_than_so_many_ahead(self) -> None:
        made = 0

        def count() -> Iterator[int]:
            nonlocal made
            for number in range(40):
                made += 1
                yield number

        for taken_ in ahead(count(), most=4):
            assert made <= taken_ + 1 + 4 + 1  # those that wait, and the one in hand

    def test_raises_what_was_raised_after_what_came_before(self) -> None:
        def broken() -> Iterator[int]:
            yield 1
            raise DataError("broken")

        found = ahead(broken())
        assert next(found) == 1
        with pytest.raises(DataError, match="broken"):
            next(found)

    def test_ends_its_thread_when_nobody_asks(self) -> None:
        import threading

        found = ahead(iter(range(1000)), most=2)
        assert next(found) == 0
        found.close()  # pyright: ignore[reportAttributeAccessIssue]
        assert not [t for t in threading.enumerate() if t.name == "medray-ahead"]
