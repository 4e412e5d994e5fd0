"""Optimizers, learning rates, precision and seeds: pure functions of the spec."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from medray.errors import UsageError
from medray.spec.models import OptimizerSpec, ScheduleSpec, TrainSpec

_BETAS = (0.9, 0.999)


def build_optimizer(
    modules: Iterable[nn.Module],
    spec: OptimizerSpec,
    betas: tuple[float, float] | None = None,
) -> Optimizer:
    """An optimizer over all parameters of `modules`; biases and norms are not decayed.

    betas  of Adam and AdamW, where they are not the usual (0.9, 0.999).
    """
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": spec.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if spec.name == "adamw":
        return AdamW(groups, lr=spec.lr, betas=betas or _BETAS)
    if spec.name == "adam":
        return Adam(groups, lr=spec.lr, betas=betas or _BETAS)
    if spec.name == "rmsprop":
        return RMSprop(groups, lr=spec.lr, momentum=0.0)
    return SGD(groups, lr=spec.lr, momentum=spec.momentum, nesterov=spec.momentum > 0)


def learning_rate(
    step: int, steps_per_epoch: int, epochs: int, lr: float, spec: ScheduleSpec
) -> float:
    """Learning rate of update `step` (from 0): linear warm-up, then constant or cosine."""
    warmup = spec.warmup_epochs * steps_per_epoch
    if step < warmup:
        return lr * (step + 1) / warmup if warmup >= 1 else lr
    if spec.decay == "constant":
        return lr
    total = max(1.0, epochs * steps_per_epoch - warmup)
    progress = min(1.0, (step - warmup) / total)
    return lr * (spec.floor + (1 - spec.floor) * 0.5 * (1 + math.cos(math.pi * progress)))


def average_share(step: int, average: float) -> float:
    """Share the moving average keeps at update `step`: small at first, when weights are new."""
    return min(average, (1 + step) / (10 + step))


def autocast(spec: TrainSpec, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 where asked for, or where the GPU supports it; else float32."""
    wanted = spec.precision == "bfloat16" or (
        spec.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.autocast(device.type, dtype=torch.bfloat16) if wanted else nullcontext()


def pick_device(spec: TrainSpec) -> torch.device:
    """The first GPU when the spec asks for GPUs, else the CPU; never one for the other.

    Raises UsageError when a GPU is asked for and there is none.
    """
    if spec.gpus_per_worker <= 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(
            "the spec asks for a GPU and torch finds none",
            remedy="set train.gpus_per_worker to 0, or install a driver and a CUDA build of torch",
        )
    return torch.device("cuda", torch.cuda.current_device())


def derive_seed(seed: int, *path: int) -> int:
    """A seed for one purpose: (run seed, epoch, rank, …) → independent 62-bit numbers."""
    state = np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)
    return int(state[0]) >> 2
