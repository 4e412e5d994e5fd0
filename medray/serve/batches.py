"""Requests computed together: whatever came while the batch before was computed is the next one.

`serve.batch` closes a batch before it knows when it will be computed, so that without a wait every
batch holds one request, however many are waiting.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class Batches(Generic[A, B]):
    """One batch at a time. For one event loop.

    compute  answers of as many, in order. most: in one batch. wait_s: how long the first of an idle
             time waits for others.
    """

    def __init__(
        self, compute: Callable[[Sequence[A]], Awaitable[Sequence[B]]], most: int, wait_s: float
    ) -> None:
        self._compute, self._most, self._wait_s = compute, most, wait_s
        self._waiting: deque[tuple[A, asyncio.Future[B]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def ask(self, one: A) -> B:
        """The answer to one. Raises what the computing of its batch raised."""
        answer: asyncio.Future[B] = asyncio.get_running_loop().create_future()
        self._waiting.append((one, answer))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        await asyncio.sleep(self._wait_s)
        while self._waiting:
            count = min(self._most, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            batch = [(one, answer) for one, answer in batch if not answer.done()]  # gone: cancelled
            if not batch:
                continue
            try:
                found = await self._compute([one for one, _ in batch])
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), mine in zip(batch, found, strict=True):
                if not answer.done():
                    answer.set_result(mine)
