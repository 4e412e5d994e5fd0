"""Figure 7: training throughput with conv3 beside a bare torch loop doing the same arithmetic.

Both train the same network on the same tensors in memory: 64 × 64 pixels, batches of 128, float32,
AdamW, clipping, cosine schedule. Updates alternate in one process, so that both meet the same
machine. On shared cores single updates vary by half, always upwards: what is compared is the mean
of each one's fastest quarter.
"""

import math
import time
from collections.abc import Iterator
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.figures import Figure
from medray.spec.models import OptimizerSpec, TrainSpec
from medray.train import loop
from medray.train.feed import MemoryFeed, Place
from medray.train.state import TrainState, new_state
from medray.workloads.imaging import Imaging, ImagingParams

BATCH, STEPS, EPOCHS, SIZE, LR = 128, 10, 9, 64, 1e-3
CPU = torch.device("cpu")


class Bare:
    """What one would write by hand: indexing, normalising, forward, backward, clip, step."""

    def __init__(
        self, network: nn.Module, pixels: Tensor, labels: Tensor, mean: float, std: float
    ) -> None:
        self.network = network
        self.pixels, self.labels, self.mean, self.std = pixels, labels, mean, std
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 0.01},
                {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=LR,
        )
        self.step = 0

    def updates(self) -> Iterator[None]:
        """One update per turn, for ever."""
        while True:
            order = torch.randperm(len(self.labels))
            self.network.train()
            for rows in order.split(BATCH):
                yield self._update(rows)

    def _update(self, rows: Tensor) -> None:
        for group in self.optimizer.param_groups:
            done = self.step / (STEPS * EPOCHS)
            group["lr"] = LR * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        x = (self.pixels[rows].float() - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last)
        loss = functional.binary_cross_entropy_with_logits(self.network(x), self.labels[rows])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1


def figures() -> list[Figure]:
    """The fastest quarter of each one's updates."""
    ours, bare = measure()
    ratio = _fastest(bare) / _fastest(ours)
    pairs = median(b / o for b, o in zip(bare, ours, strict=True))
    return [
        Figure(
            name="training throughput with conv3, of a bare torch loop",
            value=f"{ratio:.3f}",
            bar=".95",
            ok=ratio >= 0.95,
            note=f"{BATCH / _fastest(ours):.0f} and {BATCH / _fastest(bare):.0f} images/s over the "
            f"fastest quarter of {len(ours)} updates each, {torch.get_num_threads()} threads; "
            f"median ratio of neighbours {pairs:.3f}",
        )
    ]


def _fastest(seconds: list[float]) -> float:
    return mean(sorted(seconds)[: max(1, len(seconds) // 4)])


def measure() -> tuple[list[float], list[float]]:
    """Seconds per update of both, the first epoch (warm-up) left out.

    Ours runs from one update's end to the next one's: it holds the batch, the progress report and,
    once per epoch, seeding and shuffling; not the evaluation of `tuning`, which the bare loop
    does not do.
    """
    plan, state = _plan()
    torch.manual_seed(0)
    task, params, fitted = _task()
    twin = task.build_modules(params, fitted)["classifier"].get_submodule("network")
    twin.load_state_dict(state.modules["classifier"].get_submodule("network").state_dict())
    pixels, labels = _tensors()
    bare = Bare(twin, pixels, labels, fitted.mean[0], fitted.std[0]).updates()
    theirs: list[float] = []
    ours: list[float] = []
    since = time.perf_counter()

    def after_step(progress: dict[str, Any]) -> None:
        nonlocal since
        between = time.perf_counter()
        next(bare)
        done = time.perf_counter()
        ours.append(between - since)
        theirs.append(done - between)
        since = time.perf_counter()

    def after_epoch(state: TrainState, record: dict[str, Any], improved: bool) -> None:
        nonlocal since
        since = time.perf_counter()

    loop.run(plan, state, after_epoch=after_epoch, after_step=after_step)
    return ours[STEPS:], theirs[STEPS:]


def _columns() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (BATCH * STEPS, SIZE, SIZE), dtype=np.uint8)
    return {"pixels": pixels, "y": np.arange(BATCH * STEPS) % 2.0}


def _tensors() -> tuple[Tensor, Tensor]:
    columns = _columns()
    labels = torch.from_numpy(columns["y"]).float()[:, None]
    return torch.from_numpy(columns["pixels"])[:, None], labels


def _task() -> tuple[Imaging, ImagingParams, Any]:
    task = Imaging()
    params = ImagingParams(label="y", network="conv3")
    return task, params, task.fit(task.summarize(_columns(), params), params)


def _plan() -> tuple[loop.Plan, TrainState]:
    task, params, fitted = _task()
    spec = TrainSpec(
        epochs=EPOCHS,
        batch_size=BATCH,
        precision="float32",
        optimizer=OptimizerSpec(name="adamw", lr=LR, weight_decay=0.01),
    )
    columns = _columns()
    few = {name: values[:8] for name, values in columns.items()}
    train, tuning = (
        MemoryFeed(task.collate(c, params, fitted), {"y": c["y"]}, BATCH, 0, Place(), CPU)
        for c in (columns, few)
    )
    objectives = task.objectives(params, fitted)
    plan = loop.Plan(
        spec=spec,
        seed=0,
        objectives=objectives,
        monitor=task.monitor(params),
        predict=lambda modules, batch: task.predict(modules, batch, params),
        measure=lambda logits, columns: task.measure(logits, columns, params, fitted),
        train=train,
        tuning=tuning,
        device=CPU,
    )
    return plan, new_state(task.build_modules(params, fitted), objectives, spec)
