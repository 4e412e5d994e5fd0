"""The only way from data to a score: `predict`, the nightly actors and online serving use it.

A network's answer for a row changes in the last bits with what is computed beside it, because
libraries choose other kernels for other shapes. So what is computed at once is decided by the shape
of a row alone: so many pictures of one size, so many histories or molecules of one frame, padded
with copies. The same item gives the same score whatever it is batched with.

Owns no Ray, and knows neither files nor tables: `pictures`, `timelines` and `molecules` do.
Row-level faults are outcomes; they never raise and never touch their neighbours.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medray.errors import Code, PackageError, RejectError, UsageError
from medray.package import (
    Task,
    answer,
    exactly,
    forward,
    load_modules,
    open_package,
    repeatable,
    replay_selftest,
)
from medray.score.prediction import Outcome, Score
from medray.workload import (
    Batch,
    Columns,
    EmbeddingWorkload,
    Explained,
    GenerativeWorkload,
    Heatmaps,
    RaggedWorkload,
    RecordsWorkload,
)

if TYPE_CHECKING:
    from medray.workload import Target

Array = np.ndarray[Any, Any]
RecordsTask = RecordsWorkload[Any, Any]
GenerativeTask = GenerativeWorkload[Any, Any]

# Values per chunk, and rows at most: on a processor little more than one picture of 128×128, so
# that one file alone is not slowed by padding; a GPU wants more at once.
_CHUNKS = {"cpu": (1 << 14, 16), "cuda": (1 << 22, 64)}
_RAGGED = {"cpu": (1 << 16, 16), "cuda": (1 << 22, 64)}  # the same of items that differ in size
_COLLATED = 32  # of these made into tensors at once: padding is to the largest


class Predictor:
    """A package's model, loaded once and checked against its own self-test.

    device   "cpu", "cuda", or "auto": a GPU when there is one.
    workload the task that the package was made for; absent: looked up in WORKLOADS by name.
    Raises PackageError when the package is not intact, UsageError for a device that is absent.
    """

    def __init__(self, package_uri: str, device: str = "cpu", workload: Task | None = None) -> None:
        self.package = open_package(package_uri)
        self.device = _device(device)
        self.task = workload or _workload(self.package.workload)
        self._params, self._fitted, self._modules = load_modules(
            self.package, self.task, self.device
        )
        replay_selftest(
            self.package, self.task, self._params, self._fitted, self._modules, self.device
        )

    @property
    def targets(self) -> "tuple[Target, ...]":
        """What the package predicts."""
        return self.task.targets(self._params, self._fitted)

    @property
    def of_records(self) -> RecordsTask:
        """The task, which must be one on timelines. Raises PackageError for another."""
        if not isinstance(self.task, RecordsWorkload):
            raise PackageError(
                f"{self.package.ref} does not predict from patients' records",
                remedy="see `medray predict --help` for what a package takes",
            )
        return self.task

    @property
    def learned(self) -> tuple[Any, Any]:
        """The task's params, and what preprocessing learned."""
        return self._params, self._fitted

    def logits(self, columns: Columns) -> dict[str, Array]:
        """Uncalibrated logits per target, float32 (B,) or (B, K), of columns with B rows.

        Raises RejectError (unexpected_shape) when the package does not take such rows.
        """
        if not len(next(iter(columns.values()))):
            return {}
        if isinstance(self.task, RaggedWorkload):
            return self._of_ragged(columns, self.task)

        def predict(rows: Columns) -> dict[str, Array]:
            return forward(self.task, self._modules, rows, self._params, self._fitted, self.device)

        return self._of_rows(columns, predict)

    def embed(self, columns: Columns) -> Array:
        """What the last layer of the networks reads of B rows (B, D) float32.

        Raises PackageError when the package has no such layer, RejectError when it does not take
        such rows.
        """
        task = self.task
        if not isinstance(task, EmbeddingWorkload):
            raise PackageError(
                f"{self.package.ref} gives no embedding",
                remedy="name a package of the workload `imaging`",
            )

        def embed(rows: Columns) -> dict[str, Array]:
            batch = task.collate(rows, self._params, self._fitted)
            return exactly(
                lambda there: {"": task.embed(self._modules, there, self._params)},
                batch,
                self.device,
            )

        return self._of_rows(columns, embed)[""]

    @property
    def maker(self) -> GenerativeTask:
        """The task, which must make items. Raises PackageError for one that judges them."""
        if not isinstance(self.task, GenerativeWorkload):
            raise PackageError(
                f"{self.package.ref} makes nothing: it judges what it is given",
                remedy="name a package of the workload `molecule`",
            )
        return self.task

    @property
    def ways(self) -> tuple[str, ...]:
        """How items can be drawn; the first is what the package is meant for."""
        return self.maker.ways(self._params)

    def sample(self, count: int, seed: int, way: str, temperature: float = 1.0) -> list[str]:
        """So many new items as text; the same seed gives the same on the same machine.

        Raises PackageError when the package makes nothing, UsageError for a way it has not.
        """
        rng = torch.Generator(self.device).manual_seed(seed)
        with torch.inference_mode(), repeatable(self.device):
            return self.maker.sample(
                self._modules,
                count,
                rng,
                self._params,
                self._fitted,
                way=way,
                temperature=temperature,
            )

    def latents(self, columns: Columns, seed: int) -> dict[str, Array]:
        """Way → latents (B, D) float32 of as many items; `data`: those of the B rows.

        Nothing of a package without latents.
        """
        rng = torch.Generator(self.device).manual_seed(seed)

        def ask(there: Batch) -> Mapping[str, torch.Tensor]:
            return self.maker.latents(self._modules, there, rng, self._params, self._fitted)

        batch = self.maker.collate(columns, self._params, self._fitted)
        return exactly(ask, batch, self.device)

    def _of_rows(
        self, columns: Columns, ask: Callable[[Columns], dict[str, Array]]
    ) -> dict[str, Array]:
        rows = len(next(iter(columns.values())))
        chunk = chunk_rows(columns, self.device.type)
        parts = [
            _padded({name: values[at : at + chunk] for name, values in columns.items()}, chunk, ask)
            for at in range(0, rows, chunk)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _of_ragged(self, columns: Columns, task: RaggedWorkload[Any, Any]) -> dict[str, Array]:
        """Logits of rows of any size: those of one shape are gathered until they fill a chunk."""
        rows = len(next(iter(columns.values())))
        waiting: dict[tuple[Any, ...], list[tuple[int, Batch]]] = defaultdict(list)
        found: list[tuple[list[int], dict[str, Array]]] = []
        for at in range(0, rows, _COLLATED):
            some = {name: values[at : at + _COLLATED] for name, values in columns.items()}
            batch = task.collate(some, self._params, self._fitted)
            for row in range(min(_COLLATED, rows - at)):
                one = task.framed({name: v[row : row + 1] for name, v in batch.items()})
                alike = waiting[tuple(tuple(values.shape) for values in one.values())]
                alike.append((at + row, one))
                if len(alike) == self._most(one):
                    found.append(self._answer(alike))
                    alike.clear()
        found += [self._answer(alike) for alike in waiting.values() if alike]
        order = np.argsort(np.concatenate([numbers for numbers, _ in found]))
        return {
            name: np.concatenate([part[name] for _, part in found])[order] for name in found[0][1]
        }

    def _most(self, one: Batch) -> int:
        """Rows of this shape that are computed at once."""
        values, most = _RAGGED[self.device.type]
        return max(1, min(most, values // sum(tensor.numel() for tensor in one.values())))

    def _answer(self, alike: Sequence[tuple[int, Batch]]) -> tuple[list[int], dict[str, Array]]:
        """Numbers and logits of rows of one shape, run as exactly one chunk."""
        numbers, ones = zip(*alike, strict=True)
        full = [*ones, *[ones[0]] * (self._most(ones[0]) - len(ones))]
        batch = {name: torch.cat([one[name] for one in full]) for name in full[0]}
        answered = answer(self.task, self._modules, batch, self._params, self.device)
        return list(numbers), {name: values[: len(ones)] for name, values in answered.items()}

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

    def heatmap(self, picture: Array, target: str | None = None) -> tuple[str, Array]:
        """Where the model looked in one picture: the target, and float32 (H, W) in 0..1.

        target  absent: the one of the highest score. Of a multi-class target the most probable
                class is explained.
        Raises RejectError when the package does not take the picture, UsageError for a target
        it does not have.
        """
        chosen, found = self.explain_columns({"pixels": picture[None]}, target)
        if not isinstance(found, Heatmaps):
            raise UsageError(f"{self.package.ref} does not explain pictures")
        return chosen, found.values[0].detach().float().cpu().numpy()

    def explain_columns(self, columns: Columns, target: str | None = None) -> tuple[str, Explained]:
        """What in one item (columns of one row) the model went by, and of which target.

        target  absent: the one of the highest score. Of a multi-class target the most probable
                class is explained.
        Raises RejectError when the package does not take the item, UsageError for a target it
        does not have.
        """
        highest = {
            name: self.package.calibration.apply(name, values)[0]
            for name, values in self.logits(columns).items()
            if self.package.calibration.targets[name].kind != "domain"
        }
        chosen = target or max(highest, key=lambda name: float(np.max(highest[name])))
        if chosen not in highest:
            raise UsageError(
                f"{self.package.ref} does not predict {target!r}",
                remedy=f"one of: {', '.join(highest)}",
            )
        index = int(np.argmax(highest[chosen]))
        return chosen, self.task.explain(
            self._modules, columns, chosen, index, self._params, self._fitted
        )

    def _scores(self, target: "Target", logits: Array) -> list[tuple[Score, ...]]:
        """Scores of every row of one target: one, or one per class, horizon or quantile."""
        with np.errstate(invalid="ignore"):  # rows that are not finite are refused by the caller
            answers = self.package.calibration.answers(target.name, logits)
        return [
            tuple(
                Score(
                    answer.name,
                    answer.text_value,
                    float(answer.values[row]),
                    None if answer.decisions is None else bool(answer.decisions[row]),
                )
                for answer in answers
            )
            for row in range(len(logits))
        ]


def _padded(
    columns: Columns, chunk: int, ask: Callable[[Columns], dict[str, Array]]
) -> dict[str, Array]:
    """Answers for at most one chunk of rows, asked as exactly one chunk."""
    rows = len(next(iter(columns.values())))
    padded = {
        name: np.concatenate([values, np.repeat(values[:1], chunk - rows, axis=0)])
        for name, values in columns.items()
    }
    return {name: values[:rows] for name, values in ask(padded).items()}


def chunk_rows(columns: Columns, device: str) -> int:
    """Rows that go through the model at once: decided by the shape of a row, never by how many."""
    values, most = _CHUNKS[device]
    return max(1, min(most, values // max(1, sum(v[0].size for v in columns.values() if len(v)))))


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
    if name not in _CHUNKS:
        raise UsageError(f"no device {name!r}", remedy=f"one of: auto, {', '.join(_CHUNKS)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine has no CUDA device", remedy="use device cpu or auto")
    return torch.device(name)
