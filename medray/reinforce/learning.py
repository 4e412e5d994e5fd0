"""One update of REINFORCE on a leash: more of what is worth something, near to the prior.

What is maximised is E[reward] - leash * KL(policy | prior): each molecule's return is its reward
less the leash times how many nats likelier it is now than under the prior, so that the best policy
is prior * exp(reward / leash). Olivecrona et al. 2017, J. Cheminform. 9:48, with the KL of Jaques
et al. 2017 in the place of their square. Nothing random crosses the border of an update.

Shapes: B molecules.
"""

import copy
import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from medray.errors import TrainingError
from medray.package import repeatable
from medray.reinforce.rewards import Memory, Rewards
from medray.spec.reinforce import ReinforceSpec
from medray.train.schedule import derive_seed
from medray.workload import Modules, SteerableWorkload

FORMAT = 1
_CLIP = 1.0  # norm of an update's gradient


@dataclass(slots=True)
class State:
    """Everything that one update hands to the next."""

    modules: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    memory: Memory
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


@dataclass(frozen=True, slots=True)
class Policy:
    """What is steered, and what does not change while it is.

    modules  of the prior: they stay as they are.
    """

    task: SteerableWorkload[Any, Any]
    prior: Modules
    params: Any
    fitted: Any
    way: str
    device: torch.device


def new_state(policy: Policy, spec: ReinforceSpec) -> State:
    """The prior's modules, copied where they learn."""
    modules = {
        name: copy.deepcopy(module) if name in policy.task.steers else module
        for name, module in policy.prior.items()
    }
    parameters = [p for name in policy.task.steers for p in modules[name].parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    return State(
        modules=modules,
        optimizer=torch.optim.Adam(parameters, lr=spec.lr),
        memory=Memory(spec.per_scaffold),
    )


def update(
    policy: Policy, state: State, rewards: Rewards, spec: ReinforceSpec, seed: int
) -> dict[str, Any]:
    """One update; returns a line of history. Raises TrainingError when it is not finite."""
    rng = torch.Generator(policy.device).manual_seed(derive_seed(seed, state.step))
    with repeatable(policy.device):
        texts, rollout = policy.task.rollout(
            state.modules,
            spec.batch_size,
            rng,
            policy.params,
            policy.fitted,
            way=policy.way,
        )
        worth = rewards(texts, state.memory)
        likely_B = policy.task.log_likelihood(state.modules, rollout, policy.params)
        with torch.no_grad():
            before_B = policy.task.log_likelihood(policy.prior, rollout, policy.params)
            nats_B = likely_B.detach() - before_B
            return_B = torch.from_numpy(worth.rewards).to(nats_B) - spec.leash * nats_B
            gain_B = return_B - return_B.mean()
        loss = -(gain_B * likely_B).mean()
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, _CLIP)
        if not bool(torch.isfinite(norm)):
            raise TrainingError(
                f"update {state.step + 1} of reinforcement is not finite",
                remedy="lower reinforce.lr, or raise reinforce.leash",
            )
        state.optimizer.step()
    state.step += 1
    count = len(texts)
    record = {
        "step": state.step,
        "reward": float(worth.rewards.mean()),
        "nats": float(nats_B.mean()),
        "valid": worth.valid / count,
        "repeated": worth.repeated / count,
        "alerts": worth.alerts / count,
        "familiar": worth.familiar / count,
        **{name: _mean(values) for name, values in worth.values.items()},
    }
    state.history.append(record)
    return record


def _mean(values: np.ndarray[Any, Any]) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None


def dump(policy: Policy, state: State) -> bytes:
    """The state as bytes that `torch.load(weights_only=True)` reads."""
    sink = io.BytesIO()
    held = {
        "format": FORMAT,
        "modules": {name: state.modules[name].state_dict() for name in policy.task.steers},
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "memory": json.dumps(state.memory.seen),
        "history": json.dumps(state.history),
    }
    torch.save(held, sink)
    return sink.getvalue()


def load(policy: Policy, state: State, data: bytes) -> None:
    """Fill a fresh state from a checkpoint. Raises TrainingError when it does not fit."""
    try:
        held: Mapping[str, Any] = torch.load(
            io.BytesIO(data), map_location=policy.device, weights_only=True
        )
        if held["format"] != FORMAT:
            raise ValueError("written by another version")
        for name in policy.task.steers:
            state.modules[name].load_state_dict(held["modules"][name])
        state.optimizer.load_state_dict(held["optimizer"])
        state.step = held["step"]
        state.memory.seen = Counter(json.loads(held["memory"]))
        state.history = json.loads(held["history"])
    except Exception as error:
        raise TrainingError(
            f"the checkpoint cannot be read ({type(error).__name__})",
            remedy="remove the output's `training` folder to start again",
        ) from error
