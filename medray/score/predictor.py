"""The only way from pixels to a score: `predict`, the nightly actors and online serving use it.

A network's answer for a row changes in the last bits with the number of rows beside it, because
libraries choose other kernels. So rows always go through in chunks of one fixed size, padded:
the same item gives the same score to the bit whatever it is batched with.

Owns no Ray. Row-level faults are outcomes; they never raise and never touch their neighbours.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medray.errors import Code, RejectError, UsageError
from medray.package import Task, forward, load_modules, open_package, replay_selftest
from medray.score.prediction import Outcome, Score
from medray.workload import Columns

if TYPE_CHECKING:
    from medray.workload import Target

Array = np.ndarray[Any, Any]

# Large enough for a processor's kernels, small enough for one file; a GPU wants more at once.
CHUNK_ROWS = {"cpu": 4, "cuda": 64}


class Predictor:
    """A package's model, loaded once and checked against its own self-test.

    device   "cpu", "cuda", or "auto": a GPU when there is one.
    workload the task that the package was made for; absent: looked up in WORKLOADS by name.
    Raises PackageError when the package is not intact, UsageError for a device that is absent.
    """

    def __init__(self, package_uri: str, device: str = "cpu", workload: Task | None = None) -> None:
        self.package = open_package(package_uri)
        self.device = _device(device)
        self._task = workload or _workload(self.package.workload)
        self._params, self._fitted, self._modules = load_modules(
            self.package, self._task, self.device
        )
        replay_selftest(
            self.package, self._task, self._params, self._fitted, self._modules, self.device
        )
        self._chunk = CHUNK_ROWS[self.device.type]

    @property
    def targets(self) -> "tuple[Target, ...]":
        """What the package predicts."""
        return self._task.targets(self._params)

    def logits(self, columns: Columns) -> dict[str, Array]:
        """Uncalibrated logits per target, float32 (B,) or (B, K), of columns with B rows.

        Raises RejectError (unexpected_shape) when the package does not take such rows.
        """
        rows = len(next(iter(columns.values())))
        parts = [
            self._forward({name: values[at : at + self._chunk] for name, values in columns.items()})
            for at in range(0, rows, self._chunk)
        ]
        names = parts[0] if parts else ()
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _forward(self, columns: dict[str, Array]) -> dict[str, Array]:
        """Logits of at most one chunk of rows, run as exactly one chunk."""
        rows = len(next(iter(columns.values())))
        padded = {
            name: np.concatenate([values, np.repeat(values[:1], self._chunk - rows, axis=0)])
            for name, values in columns.items()
        }
        answered = forward(
            self._task, self._modules, padded, self._params, self._fitted, self.device
        )
        return {name: values[:rows] for name, values in answered.items()}

    def predict_columns(self, columns: Columns) -> list[Outcome]:
        """One outcome per row of columns whose rows are alike (`pixels` is (B, H, W[, C]))."""
        rows = len(next(iter(columns.values())))
        if not rows:
            return []
        try:
            logits = self.logits(columns)
        except RejectError as reject:
            return [Outcome((), reject.code, reject.detail)] * rows
        finite = np.ones(rows, dtype=bool)
        for values in logits.values():
            finite &= np.isfinite(values.reshape(rows, -1)).all(axis=1)
        scores = [self._scores(target, logits[target.name]) for target in self.targets]
        return [
            Outcome(tuple(score for target in scores for score in target[row]))
            if finite[row]
            else Outcome((), Code.NOT_FINITE, "the model's answer is not a finite number")
            for row in range(rows)
        ]

    def predict_arrays(self, pixels: Sequence[Array]) -> list[Outcome]:
        """One outcome per picture, in order; pictures may differ in shape and type."""
        alike: dict[tuple[tuple[int, ...], str], list[int]] = defaultdict(list)
        for row, picture in enumerate(pixels):
            alike[picture.shape, picture.dtype.str].append(row)
        outcomes: dict[int, Outcome] = {}
        for rows in alike.values():
            found = self.predict_columns({"pixels": np.stack([pixels[row] for row in rows])})
            outcomes.update(zip(rows, found, strict=True))
        return [outcomes[row] for row in range(len(pixels))]

    def heatmap(self, picture: Array, target: str | None = None) -> Array:
        """Where the model looked in one picture: float32 (H, W) in 0..1.

        target  absent: the first. Of a multi-class target the most probable class is explained.
        Raises RejectError when the package does not take the picture, UsageError for a target
        it does not have.
        """
        known = {one.name: one for one in self.targets}
        chosen = known.get(target or next(iter(known)))
        if chosen is None:
            raise UsageError(
                f"{self.package.ref} does not predict {target!r}",
                remedy=f"one of: {', '.join(known)}",
            )
        columns = {"pixels": picture[None]}
        multiclass = chosen.kind == "multiclass"
        index = int(self.logits(columns)[chosen.name][0].argmax()) if multiclass else 0
        collated = self._task.collate(columns, self._params, self._fitted)
        batch = {name: values.to(self.device) for name, values in collated.items()}
        found = self._task.explain(self._modules, batch, chosen.name, index, self._params)
        return found["heatmap"][0].detach().float().cpu().numpy()

    def _scores(self, target: "Target", logits: Array) -> list[tuple[Score, ...]]:
        """Scores of every row of one target: one, or one per class."""
        calibration = self.package.calibration
        with np.errstate(invalid="ignore"):  # rows that are not finite are refused by the caller
            probabilities = calibration.apply(target.name, logits)
        decisions = calibration.decide(target.name, probabilities)
        names: tuple[str | None, ...] = target.classes or (None,)
        table = zip(
            probabilities.reshape(len(logits), -1), decisions.reshape(len(logits), -1), strict=True
        )
        return [
            tuple(
                Score(target.name, name, float(p), bool(d))
                for name, p, d in zip(names, row_p, row_d, strict=True)
            )
            for row_p, row_d in table
        ]


def _workload(name: str) -> Task:
    from medray.workloads import WORKLOADS

    found: Mapping[str, Task] = WORKLOADS
    if name not in found:
        raise UsageError(
            f"this medray has no workload {name!r}", remedy=f"one of: {', '.join(found)}"
        )
    return found[name]


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in CHUNK_ROWS:
        raise UsageError(f"no device {name!r}", remedy=f"one of: auto, {', '.join(CHUNK_ROWS)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine has no CUDA device", remedy="use device cpu or auto")
    return torch.device(name)
