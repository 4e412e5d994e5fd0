"""What waits is computed together; a fault is that of its batch alone."""

import asyncio
from collections.abc import Sequence

import pytest

from medray.serve.batches import Batches


def test_what_came_meanwhile_is_the_next_batch():
    seen: list[list[int]] = []

    async def compute(batch: Sequence[int]) -> list[int]:
        seen.append(list(batch))
        await asyncio.sleep(0.01)
        return [2 * one for one in batch]

    async def ask() -> list[int]:
        batches = Batches(compute, most=4, wait_s=0)
        first = asyncio.create_task(batches.ask(0))
        await asyncio.sleep(0.005)
        rest = [asyncio.create_task(batches.ask(one)) for one in range(1, 8)]
        found = list(await asyncio.gather(first, *rest))
        found.append(await batches.ask(8))  # after an idle time
        return found

    assert asyncio.run(ask()) == [2 * one for one in range(9)]
    assert seen == [[0], [1, 2, 3, 4], [5, 6, 7], [8]]


def test_a_wait_gathers_the_first_ones():
    seen: list[int] = []

    async def compute(batch: Sequence[int]) -> Sequence[int]:
        seen.append(len(batch))
        return batch

    async def ask() -> None:
        batches = Batches(compute, most=16, wait_s=0.05)
        early = asyncio.create_task(batches.ask(1))
        await asyncio.sleep(0.01)
        await asyncio.gather(early, batches.ask(2))

    asyncio.run(ask())
    assert seen == [2]


def test_a_fault_is_told_to_its_batch_and_the_next_goes_on():
    async def compute(batch: Sequence[int]) -> Sequence[int]:
        if 1 in batch:
            raise ValueError("broken")
        return batch

    async def ask() -> list[object]:
        batches = Batches(compute, most=1, wait_s=0)
        asked = [batches.ask(one) for one in (0, 1, 2)]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    found = asyncio.run(ask())
    assert (found[0], found[2]) == (0, 2)
    assert isinstance(found[1], ValueError)


def test_who_has_gone_is_not_computed():
    seen: list[list[int]] = []

    async def compute(batch: Sequence[int]) -> Sequence[int]:
        seen.append(list(batch))
        await asyncio.sleep(0.01)
        return batch

    async def ask() -> None:
        batches = Batches(compute, most=8, wait_s=0)
        first = asyncio.create_task(batches.ask(0))
        await asyncio.sleep(0.005)
        gone, stays = (asyncio.create_task(batches.ask(one)) for one in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == 2
        assert await first == 0
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(ask())
    assert seen == [[0], [2]]
