"""The verb: package → rewarded updates → a new package. The old one stays as it is.

    training/run.json             what is being done
    training/history.jsonl        one line per update
    training/checkpoints/last.pt  the state after the last kept update

The same spec on the same packages goes on, or finds the work done; anything else is refused.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import mean
from typing import Any

import torch

from medray import storage
from medray.errors import OutputConflictError, PackageError, UsageError
from medray.extras import require
from medray.package import Package, Task, load_modules, open_package, replay_selftest, write_package
from medray.provenance import canonical_sha256
from medray.reinforce import learning
from medray.reinforce.learning import Policy, State
from medray.reinforce.rewards import Rewards
from medray.spec.models import RunSpec
from medray.spec.reinforce import ReinforceSpec
from medray.train.state import Checkpoints
from medray.workload import SteerableWorkload
from medray.workloads import WORKLOADS

Progress = Callable[[dict[str, Any]], None]

_NEAR = 20  # updates whose mean is told of the start and the end


@dataclass(frozen=True, slots=True)
class ReinforceResult:
    """What was made. before, after: means over the first and the last updates."""

    package: str
    ref: str
    prior: str
    steps: int
    before: dict[str, float | None]
    after: dict[str, float | None]
    seconds: float
    resumed_at: int
    already_done: bool

    def headline(self) -> str:
        """One line for people."""
        again = "already made: " if self.already_done else ""
        one, other = self.before["reward"] or 0.0, self.after["reward"] or 0.0
        return f"{again}{self.ref}: mean reward {one:.3f} → {other:.3f} in {self.steps} updates"

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return asdict(self)


def reinforce(
    spec: RunSpec,
    *,
    progress: Progress | None = None,
    task: Task | None = None,
    judge_task: Task | None = None,
) -> ReinforceResult:
    """Steer the package that `spec.reinforce` names, and write the run's own package.

    Raises UsageError for a spec without the section or a wish that nothing can grant,
    PackageError for a package that cannot be steered, OutputConflictError when the output holds
    another work, TrainingError when an update is not finite.
    """
    started = time.perf_counter()
    require("molecules")
    asked = spec.reinforce
    if asked is None:
        raise UsageError("the spec has no `reinforce:` section", remedy="add one")
    tell = progress or (lambda _: None)
    package = open_package(storage.absolute(asked.package))
    policy = _policy(package, asked, task or WORKLOADS.get(package.workload))
    molecules = package.molecules
    if molecules is None:
        raise PackageError(f"{package.ref} makes something else than molecules")
    rewards = Rewards(asked, molecules.standard, judge_task=judge_task)
    identity = _identity(spec, asked, package, rewards.refs)
    kept = Checkpoints(storage.absolute(storage.join(spec.output_uri, "training")))
    package_uri = storage.absolute(storage.join(spec.output_uri, "package"))
    done = _claim(kept, package_uri, identity)
    if done is not None:
        seconds = round(time.perf_counter() - started, 3)
        return replace(ReinforceResult(**done), seconds=seconds, already_done=True)
    state = learning.new_state(policy, asked)
    if storage.exists(kept.last):
        learning.load(policy, state, storage.read_bytes(kept.last))
    resumed_at = state.step
    while state.step < asked.steps:
        record = learning.update(policy, state, rewards, asked, spec.seed)
        numbers = {name: value for name, value in record.items() if name in _TOLD and value}
        event = {"stage": "reinforce", "done": state.step, "total": asked.steps}
        tell({**event, "unit": "updates", **numbers})
        if state.step % asked.keep_steps == 0 or state.step == asked.steps:
            _keep(policy, state, kept)
    made = _package(spec, asked, policy, package, state, package_uri, identity)
    result = ReinforceResult(
        package=package_uri,
        ref=made.ref,
        prior=package.ref,
        steps=state.step,
        before=_means(state.history[:_NEAR]),
        after=_means(state.history[-_NEAR:]),
        seconds=round(time.perf_counter() - started, 3),
        resumed_at=resumed_at,
        already_done=False,
    )
    _write_run(kept, identity, result.to_dict())
    return result


_TOLD = ("reward", "nats", "valid")


def _policy(package: Package, asked: ReinforceSpec, task: Task | None) -> Policy:
    if not isinstance(task, SteerableWorkload):
        raise PackageError(
            f"{package.ref} cannot be steered by rewards",
            remedy="name a package of the workload `molecule`",
        )
    params, fitted, modules = load_modules(package, task)
    replay_selftest(package, task, params, fitted, modules)
    for module in modules.values():
        module.requires_grad_(False)
    ways = task.ways(params)
    way = asked.way or ways[0]
    if way not in ways:
        raise UsageError(
            f"{package.ref} cannot draw by {way!r}", remedy=f"one of: {', '.join(ways)}"
        )
    return Policy(task, modules, params, fitted, way, torch.device("cpu"))


def _identity(spec: RunSpec, asked: ReinforceSpec, package: Package, judges: Sequence[str]) -> str:
    """What decides the result; where packages lie does not."""
    wishes = [one.model_dump(mode="json", exclude={"package"}) for one in asked.rewards]
    rest = asked.model_dump(mode="json", exclude={"package", "rewards", "keep_steps"})
    named = [spec.name, spec.version, spec.seed]
    return canonical_sha256([named, package.digest, list(judges), wishes, rest])


def _claim(kept: Checkpoints, package_uri: str, identity: str) -> dict[str, Any] | None:
    """Take the training folder for this work; the result if it is done and its package there.

    Raises OutputConflictError when the folders hold another work.
    """
    conflict = OutputConflictError(
        "the output holds another run's `training` or `package`", remedy="choose another `output`"
    )
    uri = storage.join(kept.uri, "run.json")
    if not storage.exists(uri):
        if storage.list_files(kept.uri) or storage.list_files(package_uri):
            raise conflict
        _write_run(kept, identity, None)
        return None
    held = json.loads(storage.read_bytes(uri))
    if held.get("identity") != identity:
        if storage.exists(kept.last) or storage.list_files(package_uri):
            raise conflict
        _write_run(kept, identity, None)  # a claim without work: a corrected spec takes it over
        return None
    there = storage.exists(storage.join(package_uri, "package.json"))
    return held["result"] if there else None


def _write_run(kept: Checkpoints, identity: str, result: dict[str, Any] | None) -> None:
    content = json.dumps({"identity": identity, "result": result}, indent=2) + "\n"
    storage.write_atomic(storage.join(kept.uri, "run.json"), content.encode())


def _keep(policy: Policy, state: State, kept: Checkpoints) -> None:
    storage.write_atomic(kept.last, learning.dump(policy, state))
    lines = "".join(json.dumps(record) + "\n" for record in state.history)
    storage.write_atomic(kept.history, lines.encode())


def _package(
    spec: RunSpec,
    asked: ReinforceSpec,
    policy: Policy,
    prior: Package,
    state: State,
    uri: str,
    identity: str,
) -> Package:
    """The new package: everything but the steered modules is the prior's."""
    update = {"workload": prior.workload, "params": prior.spec.params}
    return write_package(
        uri,
        spec=spec.model_copy(update=update),
        workload=policy.task,
        params=policy.params,
        fitted=policy.fitted,
        modules={name: module.eval() for name, module in state.modules.items()},
        calibration=prior.calibration,
        lineage={
            **prior.lineage,
            "prior": prior.ref,
            "prior_digest": prior.digest,
            "reinforcement": identity,
            "updates": state.step,
        },
        history=_epochs(state.history, asked.keep_steps),
        molecules=prior.molecules,
    )


def _epochs(history: Sequence[Mapping[str, Any]], steps: int) -> list[dict[str, Any]]:
    """Learning curves as reports draw them: means over so many updates."""
    found: list[dict[str, Any]] = []
    for start in range(0, len(history), steps):
        block = history[start : start + steps]
        means = {f"tuning_{name}": value for name, value in _means(block).items()}
        found.append({"epoch": block[-1]["step"], "loss": means["tuning_nats"], **means})
    return found


def _means(records: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Mean of every number over updates; None where it is never known."""
    names = [name for name in records[0] if name != "step"]
    known = {name: [r[name] for r in records if r[name] is not None] for name in names}
    return {name: mean(values) if values else None for name, values in known.items()}
