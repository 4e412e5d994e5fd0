"""The one training loop: any list of objectives, on one process or on every rank of a group.

Knows no task, no file format and no Ray. Ranks talk through torch.distributed when it is
initialised; every decision (skip, best, stop) is then taken from the same numbers everywhere.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from medray.errors import TrainingError
from medray.spec.models import TrainSpec
from medray.train.diagnose import first_bad
from medray.train.feed import Feed, Place
from medray.train.schedule import autocast, derive_seed, learning_rate
from medray.train.state import TrainState, update_averages
from medray.workload import Batch, Columns, Modules, Monitor, Objective

Array = np.ndarray[Any, Any]
Logits = Mapping[str, Array]
SKIPS_IN_A_ROW = 10


@dataclass(frozen=True)
class Plan:
    """What the loop is asked to do.

    wrap     what a module is called through (DDP); the state keeps the plain modules.
    predict  modules, batch → target → logits. measure: logits, label columns → metrics.
    """

    spec: TrainSpec
    seed: int
    objectives: Sequence[Objective]
    monitor: Monitor
    predict: Callable[[Modules, Batch], Mapping[str, Tensor]]
    measure: Callable[[Logits, Columns], Mapping[str, float]]
    train: Feed
    tuning: Feed
    device: torch.device
    place: Place = field(default_factory=Place)
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module


@dataclass(slots=True)
class _Tally:
    """Sums of one epoch, on the device: nothing waits for a number that is only printed."""

    losses: dict[str, list[Tensor]] = field(default_factory=dict[str, list[Tensor]])
    items: int = 0
    skipped: int = 0


def run(
    plan: Plan,
    state: TrainState,
    *,
    after_epoch: Callable[[TrainState, dict[str, Any], bool], None],
    after_step: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Train until the last epoch, or until early stopping says so.

    after_epoch(state, record, improved) keeps checkpoints; the record is one line of history.
    Raises TrainingError when ten updates in a row were not finite.
    """
    called = {name: plan.wrap(module) for name, module in state.modules.items()}
    patience = plan.spec.early_stopping
    while state.epoch < plan.spec.epochs and not (patience and state.stale >= patience.patience):
        started = time.perf_counter()
        tally = _train_epoch(plan, state, called, after_step)
        trained = time.perf_counter() - started
        state.epoch += 1
        _share_buffers(state.judged)
        logits, columns = evaluate(plan.predict, state.judged, plan.tuning, plan.place)
        tuning = {name: float(value) for name, value in plan.measure(logits, columns).items()}
        improved = _judge(plan, state, tuning[plan.monitor.name])
        record = _record(plan, state, tally, tuning, trained, time.perf_counter() - started)
        state.history.append(record)
        after_epoch(state, record, improved)


def _train_epoch(
    plan: Plan,
    state: TrainState,
    called: Modules,
    after_step: Callable[[dict[str, Any]], None] | None,
) -> _Tally:
    epoch = state.epoch + 1
    tally = _Tally({objective.name: [] for objective in plan.objectives})
    rng = _seed_everything(plan, epoch)
    for module in called.values():
        module.train()
    for number, batch in enumerate(plan.train.epoch(epoch)):
        _set_learning_rate(plan, state)
        for objective in plan.objectives:
            if (state.step + 1) % objective.every == 0:
                _update(plan, state, called, objective, batch, rng, tally)
        state.step += 1
        if state.averages:
            update_averages(state, plan.spec.average)
        tally.items += len(next(iter(batch.values()))) * plan.place.world
        if after_step:
            after_step({"epoch": epoch, "done": number + 1, "total": plan.train.steps})
    state.skipped += tally.skipped
    return tally


def _seed_everything(plan: Plan, epoch: int) -> torch.Generator:
    """Dropout draws from torch's own generator, losses from the one returned."""
    torch.manual_seed(derive_seed(plan.seed, epoch, plan.place.rank, 1))
    rng = torch.Generator(plan.device)
    return rng.manual_seed(derive_seed(plan.seed, epoch, plan.place.rank, 2))


def _set_learning_rate(plan: Plan, state: TrainState) -> None:
    spec = plan.spec
    lr = learning_rate(state.step, plan.train.steps, spec.epochs, spec.optimizer.lr, spec.schedule)
    for objective in plan.objectives:
        for group in state.optimizers[objective.name].param_groups:
            group["lr"] = lr * objective.lr_share


def _update(
    plan: Plan,
    state: TrainState,
    called: Modules,
    objective: Objective,
    batch: Batch,
    rng: torch.Generator,
    tally: _Tally,
) -> None:
    """One optimizer update; left out on every rank when any rank's is not finite."""
    optimizer = state.optimizers[objective.name]
    parameters = [p for name in objective.trains for p in state.modules[name].parameters()]
    optimizer.zero_grad(set_to_none=True)
    with _only_training(state, called, objective) as modules:
        with autocast(plan.spec, plan.device):
            loss = objective.loss(modules, batch, rng)
        total = loss + plan.spec.l1 * _l1(parameters) if plan.spec.l1 else loss
        total.backward()
    # the norm is finite exactly when every gradient is; clipping to infinity changes nothing
    norm = nn.utils.clip_grad_norm_(parameters, plan.spec.clip_norm or float("inf"))
    if not _all_finite(loss.detach(), norm):
        optimizer.zero_grad(set_to_none=True)
        tally.skipped += 1
        state.failing[objective.name] = state.failing.get(objective.name, 0) + 1
        if state.failing[objective.name] >= SKIPS_IN_A_ROW:
            raise _not_finite(state, objective, batch, rng)
        return
    state.failing[objective.name] = 0
    optimizer.step()
    tally.losses[objective.name].append(loss.detach())


@contextmanager
def _only_training(
    state: TrainState, called: Modules, objective: Objective
) -> Generator[dict[str, nn.Module]]:
    """Modules of one objective: those it trains as ranks share them, the others frozen.

    A frozen module is called without its DDP wrapper, whose reducer would wait for gradients
    that never come.
    """
    frozen = [name for name in state.modules if name not in objective.trains]
    modules = dict(called) | {name: state.modules[name] for name in frozen}
    wanted = [p for name in frozen for p in state.modules[name].parameters() if p.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield modules
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def _l1(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Sum of absolute weights; biases and norms are left alone."""
    weights = [p.abs().sum() for p in parameters if p.ndim > 1]
    return torch.stack(weights).sum() if weights else torch.zeros(())


def _all_finite(loss: Tensor, norm: Tensor) -> bool:
    finite = torch.isfinite(loss) & torch.isfinite(norm)
    if dist.is_initialized():
        verdict = finite.to(torch.int32).reshape(1)
        dist.all_reduce(verdict, op=dist.ReduceOp.MIN)
        return bool(verdict.item())
    return bool(finite)


def _not_finite(
    state: TrainState, objective: Objective, batch: Batch, rng: torch.Generator
) -> TrainingError:
    where = first_bad(state.modules, objective, batch, rng)
    return TrainingError(
        f"{SKIPS_IN_A_ROW} updates in a row of {objective.name!r} were not finite; first: {where}",
        remedy="lower train.optimizer.lr, add train.schedule.warmup_epochs, or check the pixels; "
        "run again to go on from the last finished epoch",
    )


@torch.no_grad()
def _share_buffers(modules: Modules) -> None:
    """Give every rank rank 0's running statistics: what is measured is what is kept."""
    if dist.is_initialized():
        for module in modules.values():
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)


@torch.no_grad()
def evaluate(
    predict: Callable[[Modules, Batch], Mapping[str, Tensor]],
    modules: Modules,
    feed: Feed,
    place: Place = Place(),  # noqa: B008 - frozen
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Logits and label columns of a whole split, on every rank, in one order for all."""
    for module in modules.values():
        module.eval()
    logits: list[dict[str, Array]] = []
    columns: list[Columns] = []
    for batch, rest in feed.whole():
        answered = predict(modules, batch)
        logits.append({name: values.float().cpu().numpy() for name, values in answered.items()})
        columns.append(rest)
    pieces = [(_concatenate(logits), _concatenate(columns))]
    if dist.is_initialized() and place.world > 1:
        gathered: list[Any] = [None] * place.world
        dist.all_gather_object(gathered, pieces[0])
        pieces = gathered
    return _concatenate([p[0] for p in pieces]), _concatenate([p[1] for p in pieces])


def _concatenate(parts: Sequence[Columns]) -> dict[str, Array]:
    filled = [part for part in parts if part]
    names = filled[0] if filled else ()
    return {name: np.concatenate([part[name] for part in filled]) for name in names}


def _judge(plan: Plan, state: TrainState, value: float) -> bool:
    """Keep count of the epoch to package; NaN is never better, but the first epoch is kept."""
    better = state.best is None or plan.spec.keep == "last"
    if state.best is not None and not better:
        gain = value - state.best if plan.monitor.best == "max" else state.best - value
        spec = plan.spec.early_stopping
        better = gain > (spec.min_delta if spec else 0.0) or (
            np.isnan(state.best) and not np.isnan(value)
        )
    if better:
        state.best, state.best_epoch, state.stale = value, state.epoch, 0
    else:
        state.stale += 1
    return bool(better)


def _record(
    plan: Plan,
    state: TrainState,
    tally: _Tally,
    tuning: Mapping[str, float],
    trained_s: float,
    seconds: float,
) -> dict[str, Any]:
    """One line of history; JSON has no NaN, so that an undefined metric is null."""
    losses = {
        name: float(torch.stack(values).mean()) if values else float("nan")
        for name, values in tally.losses.items()
    }
    lr = next(iter(state.optimizers.values())).param_groups[0]["lr"]
    each = {f"loss_{name}": _or_null(loss) for name, loss in losses.items()}
    return {
        "epoch": state.epoch,
        "loss": _or_null(float(np.mean(list(losses.values())))),
        **(each if len(each) > 1 else {}),
        **{f"tuning_{name}": _or_null(value) for name, value in tuning.items()},
        "monitor": f"tuning_{plan.monitor.name}",
        "best_epoch": state.best_epoch,
        "lr": lr,
        "items_per_s": round(tally.items / max(trained_s, 1e-9), 1),
        "seconds": round(seconds, 3),
        "skipped_steps": tally.skipped,
    }


def _or_null(value: float) -> float | None:
    return value if np.isfinite(value) else None
