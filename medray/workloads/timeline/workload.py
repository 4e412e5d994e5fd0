"""The timeline workload: binds tasks, preprocessing, networks and losses to the protocol.

Shapes: B items.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from medray.errors import DataError
from medray.metrics.discrimination import auroc
from medray.models.rnn import Layout, Recurrent
from medray.records import tasks
from medray.records.tasks import TIMELINE
from medray.records.vocabulary import SUMS, learn, sums_of
from medray.workload import Batch, Columns, Modules, Monitor, Objective, Target
from medray.workloads.timeline import baselines, tensors
from medray.workloads.timeline.params import TimelineFitted, TimelineParams
from medray.workloads.timeline.tensors import OUTCOME

Array = np.ndarray[Any, Any]

_COUNTS = [pa.field("rows", pa.int64()), pa.field("positives", pa.int64())]
_SUMMARY = pa.schema([*SUMS, *_COUNTS])


class Timeline:
    """Prediction from patients' records; see `TimelineParams` for what can be asked for."""

    name: ClassVar[str] = "timeline"
    summary: ClassVar[str] = "patients' records → risks with recurrent networks"
    inputs: ClassVar[tuple[str, ...]] = tensors.INPUTS
    unit: ClassVar[Literal["images", "predictions"]] = "predictions"
    params_model = TimelineParams
    fitted_model = TimelineFitted

    def targets(self, params: TimelineParams) -> tuple[Target, ...]:
        """The outcome."""
        return params.targets

    def label_columns(self, params: TimelineParams) -> tuple[str, ...]:
        """Facts about patients that the outcome is read from."""
        return params.outcome.columns

    def items(self, columns: Columns, params: TimelineParams) -> Columns:
        """Patients → an item per prediction time, its events cut there, its outcome beside it.

        Items whose outcome is not known keep NaN. Patients without an event at or before a
        prediction time give none.
        """
        items = tasks.cut(columns, params.predict_at)
        if all(name in columns for name in params.outcome.columns):
            observed = tasks.observe(items, columns, params.outcome)
            items[OUTCOME] = tasks.within(observed, params.horizon_days)
        return items

    def summarize(self, columns: Columns, params: TimelineParams) -> pa.Table:
        """Sums of values by code of one batch, and how often the outcome happens."""
        sums = sums_of({name: columns[name] for name in TIMELINE})
        known, happened = tensors.positives(columns)
        rows = sums.num_rows
        first = np.arange(rows) == 0
        table = sums
        for name, count in (("rows", known), ("positives", happened)):
            table = table.append_column(name, pa.array(np.where(first, count, 0)))
        return table.cast(_SUMMARY)

    def fit(self, summaries: pa.Table, params: TimelineParams) -> TimelineFitted:
        """Channels, their scale, known codes. Raises DataError when nothing can be learned."""
        rows = sum(summaries["rows"].to_pylist())
        positives = sum(summaries["positives"].to_pylist())
        if not 0 < positives < rows:
            raise DataError(
                f"the outcome happens in {positives} of {rows} items of `train`: there is nothing "
                "to tell apart",
                remedy="check `params.outcome`, `horizon_days` and the split",
            )
        vocabulary = learn(
            summaries.select(SUMS.names),
            min_items=params.min_patients,
            channels=params.channels,
            presence=params.codes,
        )
        if not (vocabulary.timed or vocabulary.static or vocabulary.presence):
            raise DataError(
                f"no code stands in the records of {params.min_patients} patients of `train`",
                remedy="lower `params.min_patients`, or ingest more patients",
            )
        return TimelineFitted(vocabulary=vocabulary, items=rows, positives=positives)

    def collate(self, columns: Columns, params: TimelineParams, fitted: TimelineFitted) -> Batch:
        """See `tensors.collate`."""
        return tensors.collate(columns, params, fitted)

    def trim(self, batch: Batch) -> Batch:
        """Leave off the steps that no row of the batch has."""
        return tensors.trim(batch)

    def sizes(self, columns: Columns) -> Array | None:
        """Events per item: batches are made of items of like length."""
        return np.array([len(times) for times in columns["event_time"]], np.int64)

    def build_modules(self, params: TimelineParams, fitted: TimelineFitted) -> dict[str, nn.Module]:
        """A network per member of the ensemble."""
        words = fitted.vocabulary
        return {
            name: Recurrent(
                Layout(
                    kind=kind,
                    channels=len(words.timed),
                    facts=len(words.static),
                    codes=len(words.presence),
                    embedding=params.embedding,
                    hidden=params.hidden,
                    layers=params.layers,
                    dropout=params.dropout,
                    input_dropout=params.input_dropout,
                    pool=params.pool,
                    outputs=1,
                )
            )
            for name, kind in params.ensemble
        }

    def objectives(self, params: TimelineParams, fitted: TimelineFitted) -> tuple[Objective, ...]:
        """One update per member: members learn independently."""
        return tuple(
            Objective(name, (name,), partial(_loss, member=name, params=params))
            for name, _ in params.ensemble
        )

    def predict(
        self, modules: Modules, batch: Batch, params: TimelineParams
    ) -> Mapping[str, Tensor]:
        """Target → logits (B,), the mean of the members'."""
        total = sum(modules[name](batch).float().squeeze(1) for name, _ in params.ensemble)
        return {params.target: torch.as_tensor(total) / params.members}

    def truth(self, columns: Columns, params: TimelineParams) -> Mapping[str, Array]:
        """Target → whether it happened (B,), NaN where that is not known."""
        return {params.target: np.asarray(columns[OUTCOME], np.float64)}

    def monitor(self, params: TimelineParams) -> Monitor:
        """The tuning metric `params.monitor` names."""
        return Monitor(params.monitor, "min" if params.monitor == "loss" else "max")

    def measure(
        self, logits: Mapping[str, Array], columns: Columns, params: TimelineParams
    ) -> Mapping[str, float]:
        """`loss` (uncalibrated) and `auroc`."""
        score_B = np.asarray(logits[params.target], np.float64)
        truth_B = self.truth(columns, params)[params.target]
        known = np.isfinite(truth_B)
        score, truth = score_B[known], truth_B[known]
        if not len(truth) or not np.isfinite(score).all():
            return {"loss": float("nan"), "auroc": float("nan")}
        loss = np.logaddexp(0, score) - truth * score
        return {"loss": float(loss.mean()), "auroc": auroc(truth, score)}

    def baselines(
        self,
        train: Columns,
        held_out: Columns,
        params: TimelineParams,
        fitted: TimelineFitted,
        seed: int,
    ) -> Mapping[str, Mapping[str, Array]]:
        """Gradient boosting and logistic regression on summaries of the same events."""
        return baselines.probabilities(train, held_out, params, fitted, seed)

    def explain(
        self, modules: Modules, batch: Batch, target: str, class_index: int, params: TimelineParams
    ) -> Mapping[str, Tensor]:
        """{"attribution": (B, T, V)}: integrated gradients of the logit over values and masks."""
        from medray.workloads.timeline.attribution import integrated_gradients

        return integrated_gradients(modules, batch, params)

    def example(self, params: TimelineParams, fitted: TimelineFitted, rows: int) -> Columns:
        """Made-up histories over every channel."""
        return tensors.example(params, fitted, rows)


def _loss(
    modules: Modules, batch: Batch, rng: Generator, member: str, params: TimelineParams
) -> Tensor:
    """Mean cross-entropy over the items whose outcome is known; 0 when none is."""
    logit_B = modules[member](batch).float().squeeze(1)
    truth_B = batch["labels"]
    known_B = ~torch.isnan(truth_B)
    smooth_B = torch.where(known_B, truth_B, 0.0) * (1 - params.label_smoothing)
    smooth_B = smooth_B + 0.5 * params.label_smoothing
    loss_B = functional.binary_cross_entropy_with_logits(logit_B, smooth_B, reduction="none")
    return (loss_B * known_B).sum() / known_B.sum().clamp_min(1)
