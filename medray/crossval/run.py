"""The verb `crossval`: one package and report per fold, and what they say together.

    crossval/fold-<k>/    an output folder like any other: training, package, report
    crossval/summary.json  means over folds

Folds are Ray tasks. A killed run goes on: a fold that is done is read, not repeated.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medray import storage
from medray.dataset import open_any
from medray.errors import MedrayError, UsageError
from medray.evaluate import evaluate
from medray.report.document import Report
from medray.report.numbers import by_model
from medray.spec.load import spec_sha256
from medray.spec.models import RunSpec
from medray.train import train
from medray.train.source import open_run

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of one model: its mean and standard deviation over folds, and each of them.

    A fold where it is not defined is None; mean and deviation are of the others, None where they
    are too few.
    """

    target: str
    model: str
    name: str
    mean: float | None
    deviation: float | None
    folds: tuple[float | None, ...]

    def in_words(self) -> str:
        """The mean with its deviation, and how many folds have none."""
        if self.mean is None:
            return "undefined in every fold"
        lacking = sum(value is None for value in self.folds)
        spread = "" if self.deviation is None else f" ± {self.deviation:.4f}"
        return f"{self.mean:.4f}{spread}" + (f" ({lacking} folds undefined)" if lacking else "")


@dataclass(frozen=True, slots=True)
class CrossvalResult:
    """What the folds say together. `seconds`: of this call, finished folds not repeated."""

    folds: int
    seconds: float
    measures: tuple[Measure, ...]
    reports: tuple[str, ...]
    summary: str

    def headline(self) -> str:
        """One line for a terminal."""
        first = self.measures[0]
        return (
            f"{self.folds} folds, {first.target}: {first.name} {first.in_words()} "
            "(± standard deviation over folds)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in summary.json."""
        return asdict(self)


def crossval(spec: RunSpec, *, progress: Progress | None = None) -> CrossvalResult:
    """Train and judge every fold of `split.folds`.

    Raises UsageError without `split.folds`, or with a single `split.fold`; what a fold raises.
    """
    started = time.monotonic()
    tell = progress or (lambda _: None)
    folds = spec.split.folds
    if folds is None or spec.split.fold is not None:
        raise UsageError(
            "crossval goes through all folds of the spec",
            remedy="set `split: {folds: 5}`, and leave `split.fold` out",
        )
    home = storage.absolute(storage.join(spec.output_uri, "crossval"))
    specs = [_of_fold(spec, number, home) for number in range(folds)]
    open_run(specs[0])  # refused before a cluster is started
    tell({"stage": "crossval", "done": 0, "total": folds, "unit": "folds"})
    for done, _ in enumerate(_finish(specs), start=1):
        tell({"stage": "crossval", "done": done, "total": folds, "unit": "folds"})
    reports = [_report(one) for one in specs]
    result = CrossvalResult(
        folds=folds,
        seconds=round(time.monotonic() - started, 3),
        measures=tuple(_measures([Report.model_validate_json(data) for data in reports])),
        reports=tuple(storage.join(one.output_uri, "report", "report.html") for one in specs),
        summary=storage.join(home, "summary.json"),
    )
    text = json.dumps(result.to_dict(), indent=1) + "\n"
    storage.write_atomic(result.summary, text.encode())
    return result


def _of_fold(spec: RunSpec, number: int, home: str) -> RunSpec:
    return spec.model_copy(
        update={
            "output": storage.join(home, f"fold-{number}"),
            "dataset": storage.absolute(spec.dataset_uri),
            "split": spec.split.model_copy(update={"fold": number}),
        }
    )


def _report(spec: RunSpec) -> bytes:
    return storage.read_bytes(storage.join(spec.output_uri, "report", "report.json"))


def _finish(specs: Sequence[RunSpec]) -> Iterator[int]:
    """Do the folds that are not done; yields their numbers as they end."""
    left = [number for number, spec in enumerate(specs) if not _is_done(spec)]
    yield from (number for number in range(len(specs)) if number not in left)
    if len(left) == 1 and not os.environ.get("RAY_ADDRESS"):
        _run(specs[left[0]].model_dump_json())
        yield left[0]
        return
    if left:
        yield from _on_ray({number: specs[number].model_dump_json() for number in left})


def _is_done(spec: RunSpec) -> bool:
    """Whether this very spec has been judged, on the data that is there now."""
    try:
        report = Report.model_validate_json(_report(spec))
    except (FileNotFoundError, ValueError):
        return False
    fingerprint = open_any(spec.dataset_uri).fold(*_fold(spec)).fingerprint()
    provenance = report.provenance
    return (provenance.spec_sha256, provenance.data_fingerprint) == (
        spec_sha256(spec),
        fingerprint,
    )


def _fold(spec: RunSpec) -> tuple[int, int, float]:
    split = spec.split
    return split.fold or 0, split.folds or 2, split.tuning_share


def _run(spec_json: str) -> None:
    spec = RunSpec.model_validate_json(spec_json)
    train(spec)
    evaluate(spec)


def _on_ray(specs: Mapping[int, str]) -> Iterator[int]:
    """Folds as tasks of a CPU (and the GPUs of a worker) each."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    from medray.ingest.cluster import ensure_ray

    ensure_ray()

    def alone(spec_json: str) -> None:
        import torch

        torch.set_num_threads(1)
        _run(spec_json)

    one = RunSpec.model_validate_json(next(iter(specs.values()))).train
    task = ray.remote(num_cpus=1, num_gpus=one.gpus_per_worker if one else 0)(alone)
    waiting: dict[Any, int] = {task.remote(text): number for number, text in specs.items()}
    while waiting:
        ready, _ = ray.wait(list(waiting), num_returns=1)
        number = waiting.pop(ready[0])
        try:
            ray.get(ready[0])
        except RayTaskError as error:
            for reference in waiting:
                ray.cancel(reference, force=True)
            raise (error.cause if error.cause is not None else error) from error
        except RayError as error:
            raise MedrayError(
                f"the worker of fold {number} was lost: {type(error).__name__}",
                remedy="run the same command again: finished folds are kept",
            ) from error
        yield number


def _measures(reports: Sequence[Report]) -> Iterator[Measure]:
    """Means over folds, the network first, then the simple models."""
    for index, target in enumerate(reports[0].targets):
        folds = [by_model(report.targets[index]) for report in reports]
        for model, name in dict.fromkeys(key for numbers in folds for key in numbers):
            values = tuple(numbers.get((model, name)) for numbers in folds)
            there = [value for value in values if value is not None]
            mean = float(np.mean(there)) if there else None
            deviation = float(np.std(there, ddof=1)) if len(there) > 1 else None
            yield Measure(target.name, model, name, mean, deviation, values)
