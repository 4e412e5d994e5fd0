"""Everything a training run carries from one epoch to the next, and how it is kept.

One checkpoint is one file, replaced atomically: `last` after every epoch, `best` when the
monitored metric improved, and always before `last` that says so. Nothing random crosses the border
of an epoch: every generator is seeded from (seed, epoch, rank) at its start, so that a resumed
run repeats the interrupted one to the bit.
"""

import copy
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from medray import storage
from medray.errors import TrainingError
from medray.spec.models import TrainSpec
from medray.train.schedule import average_share, build_optimizer
from medray.workload import Objective

FORMAT = 1


@dataclass(slots=True)
class TrainState:
    """Modules, their moving averages, optimizers by objective, and where the run stands.

    epoch and step count what is done; `stale` epochs have passed since the best one; `failing`
    says how many updates in a row an objective has skipped.
    """

    modules: dict[str, nn.Module]
    averages: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    epoch: int = 0
    step: int = 0
    skipped: int = 0
    best: float | None = None
    best_epoch: int = 0
    stale: int = 0
    failing: dict[str, int] = field(default_factory=dict[str, int])
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def judged(self) -> dict[str, nn.Module]:
        """The modules that are tuned on and packaged: the averages where there are any."""
        return self.averages or self.modules


def new_state(
    modules: Mapping[str, nn.Module], objectives: Sequence[Objective], spec: TrainSpec
) -> TrainState:
    """State before the first update. Raises TrainingError for an objective without modules."""
    for objective in objectives:
        if not objective.trains or any(name not in modules for name in objective.trains):
            raise TrainingError(
                f"the objective {objective.name!r} trains modules that are not there"
            )
    averages: dict[str, nn.Module] = {}
    if spec.average:
        averages = {name: copy.deepcopy(module).eval() for name, module in modules.items()}
        for module in averages.values():
            module.requires_grad_(False)
    return TrainState(
        modules=dict(modules),
        averages=averages,
        optimizers={
            objective.name: build_optimizer(
                [modules[name] for name in objective.trains], spec.optimizer, objective.betas
            )
            for objective in objectives
        },
    )


@torch.no_grad()
def update_averages(state: TrainState, average: float) -> None:
    """Move the averages one update towards the modules; counters are copied."""
    share = average_share(state.step, average)
    move = get_ema_multi_avg_fn(share)
    for name, averaged in state.averages.items():
        old = [*averaged.parameters(), *averaged.buffers()]
        new = [*state.modules[name].parameters(), *state.modules[name].buffers()]
        floats = [(a, b) for a, b in zip(old, new, strict=True) if a.is_floating_point()]
        if floats:
            move([a.detach() for a, _ in floats], [b.detach() for _, b in floats], state.step)
        for a, b in zip(old, new, strict=True):
            if not a.is_floating_point():
                a.copy_(b)


def dump_state(state: TrainState) -> bytes:
    """The state as bytes that `torch.load(weights_only=True)` reads."""
    sink = io.BytesIO()
    torch.save(
        {
            "format": FORMAT,
            "modules": {name: m.state_dict() for name, m in state.modules.items()},
            "averages": {name: m.state_dict() for name, m in state.averages.items()},
            "optimizers": {name: o.state_dict() for name, o in state.optimizers.items()},
            "progress": _progress(state),
        },
        sink,
    )
    return sink.getvalue()


def _progress(state: TrainState) -> dict[str, Any]:
    return {
        "epoch": state.epoch,
        "step": state.step,
        "skipped": state.skipped,
        "best": state.best,
        "best_epoch": state.best_epoch,
        "stale": state.stale,
        "failing": state.failing,
        "history": state.history,
    }


def load_state(state: TrainState, data: bytes, device: torch.device) -> None:
    """Fill a fresh state from a checkpoint. Raises TrainingError when it does not fit."""
    try:
        held: dict[str, Any] = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
        if held["format"] != FORMAT:
            raise ValueError("written by another version")
        for kind, targets in (("modules", state.modules), ("averages", state.averages)):
            for name, module in targets.items():
                module.load_state_dict(held[kind][name])
        for name, optimizer in state.optimizers.items():
            optimizer.load_state_dict(held["optimizers"][name])
        progress = held["progress"]
        for key in _progress(state):
            setattr(state, key, progress[key])
    except Exception as error:
        raise TrainingError(
            f"the checkpoint cannot be read ({type(error).__name__})",
            remedy="remove the output's `training` folder to train from the start",
        ) from error


def dump_weights(modules: Mapping[str, nn.Module]) -> bytes:
    """Weights alone, for the best checkpoint."""
    sink = io.BytesIO()
    torch.save({name: module.state_dict() for name, module in modules.items()}, sink)
    return sink.getvalue()


def load_weights(modules: Mapping[str, nn.Module], data: bytes) -> None:
    """Fill modules from `dump_weights`."""
    held: dict[str, dict[str, Tensor]] = torch.load(
        io.BytesIO(data), map_location="cpu", weights_only=True
    )
    for name, module in modules.items():
        module.load_state_dict(held[name])


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where the checkpoints and the history of one run lie."""

    uri: str

    @property
    def last(self) -> str:
        """State after the last finished epoch."""
        return storage.join(self.uri, "checkpoints", "last.pt")

    @property
    def best(self) -> str:
        """Weights of the best epoch so far."""
        return storage.join(self.uri, "checkpoints", "best.pt")

    @property
    def history(self) -> str:
        """One JSON line per epoch."""
        return storage.join(self.uri, "history.jsonl")
