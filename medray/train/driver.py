"""`train`: from a dataset to a package, resumed where it was interrupted.

    training/run.json            what is being trained, and whether it is done
    training/history.jsonl       one line per epoch
    training/checkpoints/        last.pt, best.pt

The same spec on the same data goes on, or finds the work done; anything else is refused.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from pydantic import BaseModel, ValidationError

from medray import storage
from medray.calibration import fit_calibration
from medray.dataset import MoleculesDataset, RecordsDataset
from medray.errors import OutputConflictError, PackageError, TrainingError, UsageError
from medray.package import Package, open_package, write_package
from medray.provenance import canonical_sha256
from medray.spec.models import RunSpec
from medray.train import assemble, loop
from medray.train.feed import Place
from medray.train.loop import Plan
from medray.train.schedule import pick_device
from medray.train.source import Source, Task, fit, open_run, open_source
from medray.train.state import Checkpoints, TrainState, load_weights
from medray.workloads import WORKLOADS

Progress = Callable[[dict[str, Any]], None]

# How the work is spread changes no result that is asked for: the run may be resumed elsewhere.
_PLACEMENT = {"workers", "gpus_per_worker", "cpus_per_worker", "cache"}


@dataclass(frozen=True)
class TrainResult:
    """What training made. `epochs` were run in all, `seconds` spent by this call."""

    package: str
    ref: str
    epochs: int
    best_epoch: int
    monitor: str
    best: float | None
    skipped_steps: int
    seconds: float
    resumed: bool
    already_done: bool
    items: dict[str, int]

    def headline(self) -> str:
        """One line for people."""
        value = "undefined" if self.best is None else f"{self.best:.3f}"
        done = "already trained: " if self.already_done else ""
        return (
            f"{done}{self.ref}: {self.monitor.replace('_', ' ')} {value} "
            f"at epoch {self.best_epoch} of {self.epochs}"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return asdict(self)


def train(spec: RunSpec, *, progress: Progress | None = None) -> TrainResult:
    """Train what `spec` describes and write its package.

    Raises UsageError for a spec without `train:` or params that the workload refuses,
    OutputConflictError when the output holds another run's training, DataError when the data
    cannot support the task, TrainingError when the loop cannot go on.
    """
    started = time.perf_counter()
    tell = progress or (lambda event: None)
    task, params = _task(spec)
    source = open_source(open_run(spec), task, params, spec)
    kept = Checkpoints(storage.absolute(storage.join(spec.output_uri, "training")))
    package_uri = storage.join(spec.output_uri, "package")
    identity = _identity(source)
    run = _claim(kept, package_uri, identity)
    if run.get("result"):
        done = _finished(package_uri, run["result"], time.perf_counter() - started)
        if done:
            return done
    with torch.random.fork_rng(devices=[]):
        tell({"stage": "fit", "done": 0, "total": 1, "unit": "passes"})
        fitted = fit(source)
        tell({"stage": "fit", "done": 1, "total": 1, "unit": "passes"})
        plan, state, resumed = _loop(source, fitted, kept, tell)
        package = _package(source, fitted, plan, state, kept, package_uri, identity)
    result = TrainResult(
        package=package_uri,
        ref=package.ref,
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        monitor=f"tuning_{plan.monitor.name}",
        best=None if state.best is None or state.best != state.best else state.best,
        skipped_steps=state.skipped,
        seconds=round(time.perf_counter() - started, 3),
        resumed=resumed,
        already_done=False,
        items={split: count["items"] for split, count in source.dataset.counts().items()},
    )
    _write_json(storage.join(kept.uri, "run.json"), {**run, "result": result.to_dict()})
    return result


def _task(spec: RunSpec) -> tuple[Task, BaseModel]:
    if spec.train is None:
        raise UsageError("the spec has no `train:` section", remedy="add one, even an empty one")
    if spec.workload not in WORKLOADS:
        raise UsageError(
            f"there is no workload {spec.workload!r}", remedy=f"one of {', '.join(WORKLOADS)}"
        )
    task = WORKLOADS[spec.workload]
    try:
        return task, task.params_model.model_validate(spec.params)
    except ValidationError as error:
        raise UsageError(
            f"the workload {spec.workload!r} does not take these params: {error}",
            remedy="`medray validate` shows the lines",
        ) from error


def _identity(source: Source) -> dict[str, str]:
    """What decides the result: the spec, less placement and later verbs, and the data."""
    spec = source.spec
    chosen = {
        "name": spec.name,
        "version": spec.version,
        "seed": spec.seed,
        "workload": spec.workload,
        "params": source.params.model_dump(mode="json"),
        "train": source.train.model_dump(mode="json", exclude=_PLACEMENT),
        "operating_point": spec.evaluate.model_dump(mode="json")["operating_point"],
    }
    return {"spec": canonical_sha256(chosen), "dataset": source.dataset.fingerprint()}


def _claim(kept: Checkpoints, package_uri: str, identity: dict[str, str]) -> dict[str, Any]:
    """Take the training folder for this run.

    Raises OutputConflictError when it holds another run's work, or the package of one. A claim
    without a checkpoint is no work: a corrected spec may take it over.
    """
    uri = storage.join(kept.uri, "run.json")
    run: dict[str, Any] = {"identity": identity, "result": None}
    if storage.exists(uri):
        try:
            held = json.loads(storage.read_bytes(uri))
            found, worked = held["identity"], bool(held["result"]) or storage.exists(kept.last)
        except (ValueError, KeyError, TypeError):
            raise _conflict("`training` folder holds a run.json that cannot be read") from None
        if found == identity:
            return held
        if worked:
            differs = [name for name in ("spec", "dataset") if found.get(name) != identity[name]]
            raise _conflict(f"`training` folder holds work on another {' and '.join(differs)}")
    elif storage.list_files(kept.uri):
        raise _conflict("`training` folder holds files that no training made")
    _refuse_other_package(package_uri, identity)
    _write_json(uri, run)
    return run


def _refuse_other_package(package_uri: str, identity: dict[str, str]) -> None:
    """A package cannot be replaced: better said before training than after."""
    if not storage.list_files(package_uri):
        return
    try:
        lineage = open_package(package_uri).lineage
    except PackageError as error:
        raise _conflict(f"`package` folder cannot be read: {error.what}") from error
    if (lineage.get("training"), lineage.get("dataset")) != (identity["spec"], identity["dataset"]):
        raise _conflict("`package` folder holds another run's package")


def _conflict(what: str) -> OutputConflictError:
    return OutputConflictError(
        f"the output's {what}",
        remedy="choose another `output`, or remove its `training` and `package` folders",
    )


def _finished(package_uri: str, result: dict[str, Any], seconds: float) -> TrainResult | None:
    """The result of a run that is done; None when its package is gone or damaged."""
    try:
        package = open_package(package_uri)
    except PackageError:
        if storage.exists(package_uri):
            raise
        return None
    if package.ref != result["ref"]:
        return None
    now: dict[str, Any] = {
        "package": package_uri,
        "seconds": round(seconds, 3),
        "already_done": True,
    }
    return TrainResult(**{**result, **now})


def _loop(
    source: Source, fitted: BaseModel, kept: Checkpoints, tell: Progress
) -> tuple[Plan, TrainState, bool]:
    """Train here or on workers; the state that comes back is the last one kept."""
    report = _Reporter(source.train.epochs, tell)
    here = source.train.workers == 0
    device = pick_device(source.train) if here else torch.device("cpu")
    plan, state = assemble.assemble(source, fitted, Place(), device)
    resumed = assemble.resume(state, kept, device)
    if not here:
        from medray.train.workers import run_workers

        run_workers(source, fitted.model_dump(mode="json"), kept, report.epoch)
        if not assemble.resume(state, kept, device):
            raise TrainingError(
                "the workers kept no checkpoint where this process can read it",
                remedy="`output` must lie on storage that every machine of the cluster reaches",
            )
        return plan, state, resumed

    def after_epoch(state: TrainState, record: dict[str, Any], improved: bool) -> None:
        assemble.keep(state, kept, improved)
        report.epoch(record)

    loop.run(plan, state, after_epoch=after_epoch, after_step=report.step)
    return plan, state, resumed


class _Reporter:
    """Progress of the loop: finished epochs with their numbers, and updates in between."""

    def __init__(self, epochs: int, tell: Progress) -> None:
        self._epochs = epochs
        self._tell = tell
        self._told = 0.0
        self._numbers: dict[str, Any] = {}

    def epoch(self, record: dict[str, Any]) -> None:
        """One line of history."""
        monitor = record["monitor"]
        numbers = {
            "loss": record["loss"],
            monitor.removeprefix("tuning_"): record[monitor],
            "best": record["best_epoch"],
            "items/s": record["items_per_s"],
        }
        self._numbers = {name: value for name, value in numbers.items() if value is not None}
        self._send(record["epoch"])

    def step(self, event: dict[str, Any]) -> None:
        """One update; told at most four times a second."""
        now = time.monotonic()
        if now - self._told >= 0.25 and event["done"] < event["total"]:
            self._told = now
            self._send(round(event["epoch"] - 1 + event["done"] / event["total"], 2))

    def _send(self, done: float) -> None:
        event = {"stage": "train", "done": done, "total": self._epochs, "unit": "epochs"}
        self._tell({**event, **self._numbers})


def _package(
    source: Source,
    fitted: BaseModel,
    plan: Plan,
    state: TrainState,
    kept: Checkpoints,
    package_uri: str,
    identity: dict[str, str],
) -> Package:
    """Best weights → calibration on `tuning` → package."""
    task, params, spec = source.task, source.params, source.spec
    load_weights(state.judged, storage.read_bytes(kept.best))
    logits, columns = loop.evaluate(plan.predict, state.judged, plan.tuning)
    calibration = fit_calibration(
        task.targets(params, fitted),
        logits,
        task.truth(columns, params),
        spec.evaluate.operating_point,
    )
    meta = source.dataset.meta
    return write_package(
        package_uri,
        spec=spec,
        workload=task,
        params=params,
        fitted=fitted,
        modules={name: module.cpu().eval() for name, module in state.judged.items()},
        calibration=calibration,
        lineage={
            "dataset": identity["dataset"],
            "dataset_name": meta.name,
            "training": identity["spec"],
            "seed": spec.seed,
            "split": source.dataset.counts(),
            "best_epoch": state.best_epoch,
            "epochs": state.epoch,
        },
        history=state.history,
        **_reading(source),
    )


def _reading(source: Source) -> dict[str, Any]:
    """How the items were made, which scoring must repeat."""
    dataset = source.dataset
    if isinstance(dataset, RecordsDataset):
        return {"records": dataset.meta.records, "names": dataset.names()}
    if isinstance(dataset, MoleculesDataset):
        return {"molecules": dataset.meta.molecules}
    return {"pixels": dataset.meta.pixels, "columns": dataset.meta.columns}


def _write_json(uri: str, value: dict[str, Any]) -> None:
    storage.write_atomic(uri, (json.dumps(value, indent=2) + "\n").encode())
