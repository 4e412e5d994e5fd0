"""What a prediction task is. A workload is a value: adding one touches no other module.

Shapes: B items of a batch. Missing labels are NaN, or -1 (multi-class).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import pyarrow as pa
from pydantic import BaseModel
from torch import Generator, Tensor, nn

from medray.records.scale import Scale

Columns = Mapping[str, np.ndarray[Any, Any]]
"""Column name → (B, ...) array: a Ray Data, dataset or request batch."""
Batch = Mapping[str, Tensor]
"""What modules eat, on their device."""
Modules = Mapping[str, nn.Module]

P = TypeVar("P", bound=BaseModel)
F = TypeVar("F", bound=BaseModel)


def on_device(batch: Batch, modules: Modules) -> Batch:
    """A batch where the modules are."""
    device = next(next(iter(modules.values())).parameters()).device
    return {name: values.to(device) for name, values in batch.items()}


@dataclass(frozen=True, slots=True)
class Objective:
    """One optimizer update. A classifier has one; a GAN has two, run in order.

    `loss(modules, batch, rng)` → scalar. Only the modules in `trains` are updated, at every
    `every`-th step: a GAN's critic learns several times for each update of its generator.
    lr_share   their learning rate, as a share of the run's. betas: Adam's moments, where they are
               not the usual ones.
    """

    name: str
    trains: tuple[str, ...]
    loss: Callable[[Modules, Batch, Generator], Tensor]
    every: int = 1
    lr_share: float = 1.0
    betas: tuple[float, float] | None = None


_AS_IT_IS = Scale()
Kind = Literal["binary", "multiclass", "survival", "quantiles", "value", "domain"]


Unit = Literal["images", "predictions", "molecules"]


@dataclass(frozen=True, slots=True)
class Target:
    """One thing predicted, and the shape of its logits and of what was observed.

    binary      logits (B,); observed (B,) 0, 1 or NaN.
    multiclass  logits (B, K), K the number of `classes`; observed (B,) a class or -1.
    survival    logits (B, K, C) of hazards in the K intervals between `edges_days`, C the number of
                competing causes, in `classes`; observed (B, 2): cause (0 lost, from 1, or NaN) and
                days until then.
    quantiles   logits (B, H, Q) in units of `scale`: a value at every one of `horizons_days`, its
                quantiles at `levels`; observed (B, H) values, or NaN.
    value       logits (B,) in units of `scale`: one number; observed (B,), or NaN. `levels`: where
                the interval around it begins and ends.
    domain      logits (B,): how near an item lies to what was learned from, 0..1; never observed.
    horizons_days  of survival, too: where risks are told.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()
    edges_days: tuple[float, ...] = ()
    horizons_days: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()
    scale: Scale = _AS_IT_IS


@dataclass(frozen=True, slots=True)
class Monitor:
    """The tuning metric that picks the best epoch."""

    name: str
    best: Literal["max", "min"]


Rivals = Mapping[str, Mapping[str, np.ndarray[Any, Any]] | str]
"""Name of a simple model → target → its answers; or, in words, why it could not be fitted."""


@dataclass(frozen=True, slots=True)
class Heatmaps:
    """Where the model looked in each picture: values (B, H, W) in 0..1."""

    values: Tensor


@dataclass(frozen=True, slots=True)
class EventCredits:
    """What each event of a history added to its answer, in log-odds before calibration.

    events    B arrays (E,) float64, in the order of the TIMELINE columns; read: B arrays (E,) bool,
              whether the model reads the event at all.
    empty     (B,): the answer for an empty record. timing (B,): what the times of the entries
              add by themselves. answer (B,): the whole.
    error     (B,): answer - empty - timing - the events' sum. points (B,): of the path.
    """

    events: tuple[np.ndarray[Any, Any], ...]
    read: tuple[np.ndarray[Any, Any], ...]
    empty: np.ndarray[Any, Any]
    timing: np.ndarray[Any, Any]
    answer: np.ndarray[Any, Any]
    error: np.ndarray[Any, Any]
    points: np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class AtomCredits:
    """What each atom of a molecule added to its answer, in log-odds or units before calibration.

    atoms     B arrays (A,) float64, in the order of the atoms as RDKit reads the item's SMILES.
    rest      (B,): what belongs to no atom. answer (B,): the whole.
    """

    atoms: tuple[np.ndarray[Any, Any], ...]
    rest: np.ndarray[Any, Any]
    answer: np.ndarray[Any, Any]


Explained = Heatmaps | EventCredits | AtomCredits


class Workload(Protocol[P, F]):
    """A prediction task. Holds no state: state is params, fitted and modules."""

    name: ClassVar[str]
    summary: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    """Columns that `collate` reads beside labels: what a prediction is made from."""
    unit: ClassVar[Unit]
    """What one item is to the reader, where patients have several."""
    params_model: type[P]
    fitted_model: type[F]

    def targets(self, params: P, fitted: F) -> tuple[Target, ...]:
        """What the task predicts."""
        ...

    def label_columns(self, params: P) -> tuple[str, ...]:
        """Columns of the dataset's labels that training reads."""
        ...

    def items(self, columns: Columns, params: P) -> Columns:
        """Rows of a dataset → items to learn from or score: rows as they are, or parts of them."""
        ...

    def summarize(self, columns: Columns, params: P) -> pa.Table:
        """Mergeable sums of one batch of `train` (rows of several batches are concatenated)."""
        ...

    def fit(self, summaries: pa.Table, params: P) -> F:
        """What preprocessing learns from `train`. Raises DataError when it cannot be learned."""
        ...

    def collate(self, columns: Columns, params: P, fitted: F) -> Batch:
        """Columns → tensors: the same code in train, score and serve; labels when present."""
        ...

    def sizes(self, columns: Columns) -> np.ndarray[Any, Any] | None:
        """Length of every item (B,), where they differ; None where all are alike."""
        ...

    def trim(self, batch: Batch) -> Batch:
        """A batch without padding that none of its rows needs."""
        ...

    def build_modules(self, params: P, fitted: F) -> dict[str, nn.Module]:
        """Fresh modules; initialised from torch's global generator, which the caller seeds."""
        ...

    def objectives(self, params: P, fitted: F) -> tuple[Objective, ...]:
        """The updates of one step, in order."""
        ...

    def predict(self, modules: Modules, batch: Batch, params: P) -> Mapping[str, Tensor]:
        """Target name → uncalibrated logits, in the shape of the target's kind."""
        ...

    def truth(self, columns: Columns, params: P) -> Mapping[str, np.ndarray[Any, Any]]:
        """Target name → what was observed, in the shape of the target's kind."""
        ...

    def monitor(self, params: P) -> Monitor:
        """What early stopping and the best checkpoint look at."""
        ...

    def measure(
        self, logits: Mapping[str, np.ndarray[Any, Any]], columns: Columns, params: P, fitted: F
    ) -> Mapping[str, float]:
        """Metrics of one evaluation pass over a whole split; holds `monitor().name`."""
        ...

    def baselines(
        self, train: Columns, held_out: Columns, params: P, fitted: F, seed: int
    ) -> Rivals:
        """Simple models, learned from the items of `train`, on those of `held_out`.

        Each answers what `Calibration.apply` gives of the network's logits: probabilities, curves
        or quantiles. They stand in every report beside the network, so that nobody mistakes it for
        progress.
        """
        ...

    def unseen(self, columns: Columns, params: P, fitted: F) -> np.ndarray[Any, Any] | None:
        """Parts of every item (B,) that the model cannot know, as `train` never showed their kind.

        None where a task does not count them.
        """
        ...

    def explain(
        self,
        modules: Modules,
        columns: Columns,
        target: str,
        class_index: int,
        params: P,
        fitted: F,
    ) -> Explained:
        """What in its input the model went by, for one target (class_index: multi-class)."""
        ...

    def example(self, params: P, fitted: F, rows: int) -> Columns:
        """Synthetic input columns for a package's self-test, the same at every call."""
        ...


@runtime_checkable
class EmbeddingWorkload(Workload[P, F], Protocol[P, F]):
    """A task whose networks see an item as a vector before they answer."""

    def embed(self, modules: Modules, batch: Batch, params: P) -> Tensor:
        """What the last layer reads of every item (B, D); of an ensemble, one after the other."""
        ...


@runtime_checkable
class RaggedWorkload(Workload[P, F], Protocol[P, F]):
    """A task whose items differ in size, and are padded where several stand in one batch."""

    def framed(self, batch: Batch) -> Batch:
        """A row as the networks read it when nothing stands beside it.

        Rows of one shape are computed together: shapes must be few, and say how large rows are.
        """
        ...


@runtime_checkable
class RecordsWorkload(RaggedWorkload[P, F], Protocol[P, F]):
    """A task on patients' timelines: it can say when it predicts, and what it can read."""

    def moments(self, columns: Columns, params: P, *, every: bool) -> Sequence[Sequence[int]]:
        """Prediction times of every patient, microseconds since 1970.

        every  all that the task learns from; else what one asks of a patient today.
        """
        ...

    def knows(self, codes: np.ndarray[Any, Any], fitted: F) -> np.ndarray[Any, Any]:
        """Whether the model has ever seen a code (N,), for 64-bit names (N,)."""
        ...

    def reads(self, columns: Columns, fitted: F) -> np.ndarray[Any, Any]:
        """How many events of every item say anything to the model (B,)."""
        ...


@runtime_checkable
class GenerativeWorkload(Workload[P, F], Protocol[P, F]):
    """A task that makes new items instead of judging those it is given: its targets are none."""

    def ways(self, params: P) -> tuple[str, ...]:
        """How items can be drawn: the way it is meant for first, then what it is measured by."""
        ...

    def sample(
        self,
        modules: Modules,
        count: int,
        rng: Generator,
        params: P,
        fitted: F,
        *,
        way: str,
        temperature: float = 1.0,
    ) -> list[str]:
        """So many new items as text (SMILES), some of which may be no molecule.

        The same generator state gives the same items on the same machine.
        """
        ...

    def latents(
        self, modules: Modules, batch: Batch, rng: Generator, params: P, fitted: F
    ) -> Mapping[str, Tensor]:
        """Way → latents (B, D) of as many items; `data`: those of the batch."""
        ...


@runtime_checkable
class SteerableWorkload(GenerativeWorkload[P, F], Protocol[P, F]):
    """A task that makes items step by step and knows how likely each was: it can be rewarded."""

    steers: ClassVar[tuple[str, ...]]
    """Modules that learn from rewards; all others stay as they are."""

    def rollout(
        self,
        modules: Modules,
        count: int,
        rng: Generator,
        params: P,
        fitted: F,
        *,
        way: str,
    ) -> tuple[list[str], Batch]:
        """New items as text, and all that decides how likely each was."""
        ...

    def log_likelihood(self, modules: Modules, rollout: Batch, params: P) -> Tensor:
        """Log-probability (B,) of each item under these modules, with gradients."""
        ...
