"""What Serve starts for a model: decoding in threads, and one thread that computes.

Requests that come while a batch is computed make up the next one, so that a replica alone with one
client adds no waiting, and under load shares the cost. What may be computed at once is the
Predictor's affair: it never mixes shapes, and a score does not depend on its company.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import ray
import torch
from ray import serve

from medray.errors import PackageError
from medray.serve.asked import Explained, Request
from medray.serve.batches import Batches
from medray.serve.model import open_model
from medray.serve.problems import ProblemError
from medray.spec.serve import BatchSpec

T = TypeVar("T")
_DECODERS = 2  # threads that read requests: they wait for the contained child, or let go of the GIL


class Worker:
    """A loaded package with its threads. Raises PackageError for one that is not intact."""

    def __init__(self, package: str, device: str, batch: BatchSpec) -> None:
        self.model = open_model(package, device)
        self._read = ThreadPoolExecutor(_DECODERS, "read")
        self._compute = ThreadPoolExecutor(1, "compute")
        self._batches = Batches(self._answer_all, batch.most, batch.wait_ms / 1000)

    async def predict(self, request: Request) -> dict[str, Any] | ProblemError:
        """The answer, or what is wrong with the request; `timing`: seconds of each step."""
        started = time.perf_counter()
        try:
            asked = await _in(self._read, partial(self.model.read, request))
            read = time.perf_counter()
            answer, computed = await self._batches.ask(asked)
        except ProblemError as problem:
            return problem
        waited = time.perf_counter() - read - computed
        timing = {"decode": read - started, "queue": waited, "compute": computed}
        return {**answer, "package": self.model.package.ref, "timing": timing}

    async def explain(self, request: Request) -> Explained | ProblemError:
        """What the answer rests on."""
        try:
            asked = await _in(self._read, partial(self.model.read, request))
            return await _in(self._compute, partial(self.model.explain, asked, request.target))
        except ProblemError as problem:
            return problem

    async def _answer_all(self, asked: Sequence[Any]) -> list[tuple[dict[str, Any], float]]:
        """Each answer, with the seconds that all of them took together."""
        started = time.perf_counter()
        answers = await _in(self._compute, partial(self.model.answer, asked))
        seconds = time.perf_counter() - started
        return [(answer, seconds) for answer in answers]

    def close(self) -> None:
        """End the threads."""
        self._read.shutdown(wait=False, cancel_futures=True)
        self._compute.shutdown(wait=False, cancel_futures=True)


class Replica:
    """One process with one loaded model."""

    def __init__(self, package: str, digest: str, device: str, batch: dict[str, Any]) -> None:
        _threads()
        self._worker = Worker(package, device, BatchSpec.model_validate(batch))
        if self._worker.model.package.digest != digest:
            raise PackageError(
                f"{self._worker.model.package.ref} is not what was deployed",
                remedy="a package does not change: deploy another version from another folder",
            )

    async def predict(self, request: Request) -> dict[str, Any] | ProblemError:
        """See `Worker.predict`."""
        return await self._worker.predict(request)

    async def explain(self, request: Request) -> Explained | ProblemError:
        """See `Worker.explain`."""
        return await self._worker.explain(request)

    async def ready(self) -> int:
        """The process that answers."""
        return os.getpid()


class Pool:
    """One process that holds some of many models: what is asked for, the last ones longest."""

    def __init__(self, resident: int, device: str, batch: dict[str, Any]) -> None:
        _threads()
        batching = BatchSpec.model_validate(batch)

        async def load(package: str) -> Worker:
            return await asyncio.to_thread(Worker, package, device, batching)

        self._load: Any = serve.multiplexed(load, max_num_models_per_replica=resident)

    async def predict(self, request: Request) -> dict[str, Any] | ProblemError:
        """See `Worker.predict`."""
        return await (await self._worker()).predict(request)

    async def explain(self, request: Request) -> Explained | ProblemError:
        """See `Worker.explain`."""
        return await (await self._worker()).explain(request)

    async def ready(self) -> int:
        """The process that answers."""
        return os.getpid()

    async def _worker(self) -> Worker:
        return await self._load(serve.get_multiplexed_model_id())


async def _in(executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, work)


def _threads() -> None:
    """As many threads of torch as the replica has processors; the machine's others are not its."""
    # Threads that read take turns with the one that computes, which asks for its turn between any
    # two operators: the default of 5 ms would be waited for each time.
    sys.setswitchinterval(0.0005)
    mine = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
    torch.set_num_threads(max(1, int(mine)))
