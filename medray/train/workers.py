"""Training on N workers of a Ray cluster: Ray Train starts them, DDP shares their gradients.

Each worker runs the same loop; rank 0 keeps the checkpoints in the run's own folder, which all
workers must reach. A worker group that dies is started again and goes on from the last epoch.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from medray import storage
from medray.dataset import Dataset, open_any
from medray.errors import MedrayError, TrainingError
from medray.spec.models import RunSpec
from medray.train import assemble, loop
from medray.train.feed import Place
from medray.train.schedule import pick_device
from medray.train.source import Source, as_split, open_source, stream
from medray.train.state import Checkpoints, TrainState
from medray.workloads import WORKLOADS

MAX_FAILURES = 2
_POLL_S = 1.0


def run_workers(
    source: Source,
    fitted: dict[str, Any],
    kept: Checkpoints,
    told: Callable[[dict[str, Any]], None],
) -> None:
    """Run the loop on `train.workers` workers; `told` gets every new line of history.

    Raises TrainingError with the workers' own message.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from medray.ingest.cluster import ensure_ray

    ensure_ray()
    spec = source.train
    dataset = source.dataset
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "spec": source.spec.model_dump(mode="json"),
            "dataset": source.dataset.uri,
            "cache": source.cache,
            "fitted": fitted,
            "training": kept.uri,
        },
        scaling_config=ScalingConfig(
            num_workers=spec.workers,
            use_gpu=spec.gpus_per_worker > 0,
            resources_per_worker=_resources(spec.cpus_per_worker, spec.gpus_per_worker),
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=kept.uri,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
        datasets={"train": stream(dataset, "train")}
        if source.cache == "stream" and isinstance(dataset, Dataset)
        else None,
    )
    for left in (_stopped(kept), storage.join(kept.uri, "ray")):  # by a run that was killed
        storage.remove_tree(left)
    with _Tail(kept, told):
        try:
            trainer.fit()
        except MedrayError:
            raise
        except Exception as error:
            raise TrainingError(
                f"the workers stopped: {_innermost(error)}",
                remedy="run again to go on from the last finished epoch",
            ) from error
    # what Ray Train notes about its own run is of no use once it has ended
    storage.remove_tree(storage.join(kept.uri, "ray"))
    if storage.exists(_stopped(kept)):
        note = json.loads(storage.read_bytes(_stopped(kept)))
        storage.remove_tree(_stopped(kept))
        raise TrainingError(note["what"], remedy=note["remedy"])


def _resources(cpus: float, gpus: float) -> dict[str, float]:
    return {"CPU": cpus, **({"GPU": gpus} if gpus else {})}


def _worker(config: dict[str, Any]) -> None:
    """One rank: rebuild everything from plain data, run the loop, keep checkpoints on rank 0."""
    import ray.train
    from ray.train.torch import get_device, prepare_model

    context = ray.train.get_context()
    place = Place(context.get_world_rank(), context.get_world_size())
    spec = RunSpec.model_validate(config["spec"])
    task = WORKLOADS[spec.workload]
    params = task.params_model.model_validate(spec.params)
    fitted = task.fitted_model.model_validate(config["fitted"])
    # whether the data fits in memory was decided once, not by each machine for itself
    source = replace(
        open_source(as_split(open_any(config["dataset"]), spec), task, params, spec),
        cache=config["cache"],
    )
    device = get_device() if source.train.gpus_per_worker > 0 else pick_device(source.train)
    streamed = source.cache == "stream" and isinstance(source.dataset, Dataset)
    shard = ray.train.get_dataset_shard("train") if streamed else None

    def wrap(module: nn.Module) -> nn.Module:
        return prepare_model(module, move_to_device=False)

    kept = Checkpoints(config["training"])
    plan, state = assemble.assemble(
        source, fitted, place, torch.device(device), wrap=wrap, shard=shard
    )
    assemble.resume(state, kept, torch.device(device))

    def after_epoch(state: TrainState, record: dict[str, Any], improved: bool) -> None:
        if place.rank == 0:
            assemble.keep(state, kept, improved)
        ray.train.report({"epoch": record["epoch"], "loss": record["loss"]})

    try:
        loop.run(plan, state, after_epoch=after_epoch)
    except TrainingError as error:
        # all ranks come here together, and would again: left to Ray Train, it would start anew
        if place.rank == 0:
            note = {"what": error.what, "remedy": error.remedy}
            storage.write_atomic(_stopped(kept), json.dumps(note).encode())


def _stopped(kept: Checkpoints) -> str:
    """Where rank 0 says why the loop cannot go on."""
    return storage.join(kept.uri, "stopped.json")


def _innermost(error: BaseException) -> str:
    """What went wrong first, without the layers it came through."""
    failures = getattr(error, "worker_failures", None)
    if failures:
        return _innermost(next(iter(failures.values())))
    while error.__cause__ is not None:
        error = error.__cause__
    return error.what if isinstance(error, MedrayError) else f"{type(error).__name__}: {error}"


class _Tail:
    """Tells new lines of history while the workers write them elsewhere."""

    def __init__(self, kept: Checkpoints, told: Callable[[dict[str, Any]], None]) -> None:
        self._kept = kept
        self._told = told
        self._seen = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._seen = len(self._lines())
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._tell()

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_S):
            self._tell()

    def _tell(self) -> None:
        lines = self._lines()
        for line in lines[self._seen :]:
            self._told(json.loads(line))
        self._seen = max(self._seen, len(lines))

    def _lines(self) -> list[str]:
        try:
            return storage.read_bytes(self._kept.history).decode().splitlines()
        except FileNotFoundError:
            return []
