"""A spec, a dataset and a place → the plan and state that the loop runs on. Same for all ranks."""

import json
from collections.abc import Callable
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn

from medray import storage
from medray.train.feed import Place
from medray.train.loop import Plan
from medray.train.schedule import derive_seed
from medray.train.source import Source, feeds
from medray.train.state import (
    Checkpoints,
    TrainState,
    dump_state,
    dump_weights,
    load_state,
    new_state,
)


def assemble(
    source: Source,
    fitted: BaseModel,
    place: Place,
    device: torch.device,
    *,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
    shard: Any = None,
) -> tuple[Plan, TrainState]:
    """Build plan and fresh state; the modules depend on the seed alone, not on the rank."""
    task, params = source.task, source.params
    torch.manual_seed(derive_seed(source.spec.seed, 0))
    modules = {
        name: module.to(device) for name, module in task.build_modules(params, fitted).items()
    }
    objectives = task.objectives(params, fitted)
    train, tuning = feeds(source, fitted, place, device, shard)
    plan = Plan(
        spec=source.train,
        seed=source.spec.seed,
        objectives=objectives,
        monitor=task.monitor(params),
        predict=lambda modules, batch: task.predict(modules, batch, params),
        measure=lambda logits, columns: task.measure(logits, columns, params, fitted),
        train=train,
        tuning=tuning,
        device=device,
        place=place,
        wrap=wrap or (lambda module: module),
    )
    return plan, new_state(modules, objectives, source.train)


def resume(state: TrainState, kept: Checkpoints, device: torch.device) -> bool:
    """Fill the state from the last checkpoint, if there is one."""
    if not storage.exists(kept.last):
        return False
    load_state(state, storage.read_bytes(kept.last), device)
    return True


def keep(state: TrainState, kept: Checkpoints, improved: bool) -> None:
    """Write `best` (when it improved), then `last`, then the history: each atomically.

    Killed in between, the next run repeats the epoch and writes the same again.
    """
    if improved:
        storage.write_atomic(kept.best, dump_weights(state.judged))
    storage.write_atomic(kept.last, dump_state(state))
    lines = "".join(json.dumps(record) + "\n" for record in state.history)
    storage.write_atomic(kept.history, lines.encode())
