"""Batches of like length: everybody in turn, nobody left out for being long."""

import itertools

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from medray.train.feed import MemoryFeed, Place, bucketed


@given(count=st.integers(0, 400), batch=st.integers(1, 12), seed=st.integers(0, 99))
def test_the_same_items_in_batches_of_like_length(count: int, batch: int, seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(1, 500, count)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator)
    found = bucketed(order, sizes, batch, generator)
    assert sorted(found.tolist()) == list(range(count))
    whole = count // batch * batch
    assert found[whole:].tolist() == order[whole:].tolist()
    # within one window, batches follow each other in length without overlap
    if 1 < count <= 16 * batch and whole:
        spans = sorted(
            (sizes[rows].min(), sizes[rows].max()) for rows in found[:whole].split(batch)
        )
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_nobody_is_left_out_of_every_epoch() -> None:
    """30 items in batches of 8: six are left out of an epoch, others each time, long ones too."""
    sizes = np.arange(30)
    batch = {"x": torch.arange(30.0)}
    feed = MemoryFeed(batch, {}, 8, 0, Place(), torch.device("cpu"), sizes=sizes)
    epochs = [torch.cat([part["x"] for part in feed.epoch(number)]) for number in range(1, 21)]
    assert all(len(set(epoch.tolist())) == 24 for epoch in epochs)
    seen = torch.stack([torch.bincount(epoch.long(), minlength=30) for epoch in epochs]).sum(0)
    assert seen.min() > 5
    longest = sum(29.0 in epoch.tolist() for epoch in epochs)
    assert 8 < longest < 20


def test_workers_share_the_batches_of_one() -> None:
    sizes = np.random.default_rng(0).integers(1, 99, 50)
    batch = {"x": torch.arange(50.0)}
    alone = MemoryFeed(batch, {}, 8, 3, Place(), torch.device("cpu"), sizes=sizes)
    places = [Place(rank, 2) for rank in (0, 1)]
    both = [MemoryFeed(batch, {}, 8, 3, p, torch.device("cpu"), sizes=sizes) for p in places]
    parts = zip(*(feed.epoch(1) for feed in both), strict=True)
    for one, two in zip(alone.epoch(1), parts, strict=True):
        assert one["x"].tolist() == torch.cat([half["x"] for half in two]).tolist()
