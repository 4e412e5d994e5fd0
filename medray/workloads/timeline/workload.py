"""The timeline workload: binds tasks, preprocessing, networks and losses to the protocol.

Shapes: B items.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Generator, Tensor, nn

from medray.errors import DataError
from medray.models.rnn import Layout, Recurrent
from medray.records import tasks
from medray.records.tasks import TIMELINE
from medray.records.vocabulary import SUMS, learn, sums_of
from medray.workload import (
    Batch,
    Columns,
    EventCredits,
    Modules,
    Monitor,
    Objective,
    Rivals,
    Target,
    Unit,
)
from medray.workloads.timeline import tensors
from medray.workloads.timeline.heads import HEADS
from medray.workloads.timeline.heads.head import OUTCOME_SUMS, merged
from medray.workloads.timeline.params import TimelineFitted, TimelineParams
from medray.workloads.timeline.tensors import OUTCOME

Array = np.ndarray[Any, Any]

_SUMMARY = pa.schema([*SUMS, *OUTCOME_SUMS])


class Timeline:
    """Prediction from patients' records; see `TimelineParams` for what can be asked for."""

    name: ClassVar[str] = "timeline"
    summary: ClassVar[str] = "patients' records → risks with recurrent networks"
    inputs: ClassVar[tuple[str, ...]] = tensors.INPUTS
    unit: ClassVar[Unit] = "predictions"
    params_model = TimelineParams
    fitted_model = TimelineFitted

    def targets(self, params: TimelineParams, fitted: TimelineFitted) -> tuple[Target, ...]:
        """What is asked: one target."""
        return (HEADS[params.task].target(params, fitted),)

    def label_columns(self, params: TimelineParams) -> tuple[str, ...]:
        """Facts about patients that the outcome is read from."""
        return params.outcome.columns if params.outcome else ()

    def items(self, columns: Columns, params: TimelineParams) -> Columns:
        """Patients → an item per prediction time, its events cut there, its outcome beside it.

        Items whose outcome is not known keep NaN. Patients without an event at or before a
        prediction time give none.
        """
        items = tasks.cut(columns, params.moments)
        if all(name in columns for name in self.label_columns(params)):
            items[OUTCOME] = HEADS[params.task].observe(items, columns, params)
        return items

    def moments(
        self, columns: Columns, params: TimelineParams, *, every: bool
    ) -> Sequence[Sequence[int]]:
        """As `params.predict_at` says; today, of visits and events, the last one."""
        return tasks.moments(columns, params.moments, every=every)

    def framed(self, batch: Batch) -> Batch:
        """See `tensors.framed`."""
        return tensors.framed(batch)

    def knows(self, codes: Array, fitted: TimelineFitted) -> Array:
        """Whether codes (N,) are in the vocabulary."""
        return fitted.vocabulary.knows(codes)

    def reads(self, columns: Columns, fitted: TimelineFitted) -> Array:
        """Events of every item (B,) that have a place in the vocabulary."""
        counts = [len(times) for times in columns["event_time"]]
        if not sum(counts):
            return np.zeros(len(counts), np.int64)
        events = [np.concatenate(columns[name]) for name in TIMELINE]
        read = np.repeat(np.arange(len(counts)), counts)[fitted.vocabulary.reads(*events)]
        return np.bincount(read, minlength=len(counts))

    def summarize(self, columns: Columns, params: TimelineParams) -> pa.Table:
        """Sums of values by code of one batch, and how often the outcome happens."""
        table = sums_of({name: columns[name] for name in (*TIMELINE, "told")})
        outcome = HEADS[params.task].sums(np.asarray(columns[OUTCOME], np.float64))
        for field in OUTCOME_SUMS:  # they stand in the first row
            values = [outcome[field.name], *[None] * (table.num_rows - 1)]
            table = table.append_column(field, pa.array(values, field.type))
        return table.cast(_SUMMARY)

    def fit(self, summaries: pa.Table, params: TimelineParams) -> TimelineFitted:
        """Channels, their scale, known codes. Raises DataError when nothing can be learned."""
        vocabulary = learn(
            summaries.select(SUMS.names),
            min_patients=params.min_patients,
            channels=params.channels,
            presence=params.codes,
        )
        if not (vocabulary.timed or vocabulary.static or vocabulary.presence):
            raise DataError(
                f"no code stands in the records of {params.min_patients} patients of `train`",
                remedy="lower `params.min_patients`, or ingest more patients",
            )
        outcome = merged(summaries)
        edges = HEADS[params.task].learn(outcome, vocabulary, params)
        return TimelineFitted(
            vocabulary=vocabulary,
            items=outcome["rows"],
            positives=outcome["positives"],
            edges_days=edges,
        )

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
                    recurrent_dropout=params.recurrent_dropout,
                    bidirectional=params.bidirectional and kind != "gru_d",
                    extremes=params.step_hours is not None,
                    outputs=HEADS[params.task].outputs(params, fitted),
                )
            )
            for name, kind in params.ensemble
        }

    def objectives(self, params: TimelineParams, fitted: TimelineFitted) -> tuple[Objective, ...]:
        """One update per member: members learn independently."""
        return tuple(
            Objective(name, (name,), partial(_loss, member=name, params=params, fitted=fitted))
            for name, _ in params.ensemble
        )

    def predict(
        self, modules: Modules, batch: Batch, params: TimelineParams
    ) -> Mapping[str, Tensor]:
        """Target → logits, the mean of the members'."""
        total = sum(modules[name](batch).float() for name, _ in params.ensemble)
        mean = torch.as_tensor(total) / params.members
        return {params.target: HEADS[params.task].answer(mean, params)}

    def truth(self, columns: Columns, params: TimelineParams) -> Mapping[str, Array]:
        """Target → what was observed, NaN where that is not known."""
        return {params.target: np.asarray(columns[OUTCOME], np.float64)}

    def monitor(self, params: TimelineParams) -> Monitor:
        """The tuning metric `params.monitor` names."""
        if params.monitor == "auto":
            return HEADS[params.task].monitor
        return Monitor(params.monitor, "min" if params.monitor == "loss" else "max")

    def measure(
        self,
        logits: Mapping[str, Array],
        columns: Columns,
        params: TimelineParams,
        fitted: TimelineFitted,
    ) -> Mapping[str, float]:
        """`loss` (uncalibrated); of a binary target `auroc`, too."""
        answer = np.asarray(logits[params.target], np.float64)
        observed = self.truth(columns, params)[params.target]
        return HEADS[params.task].measure(answer, observed, params, fitted)

    def baselines(
        self,
        train: Columns,
        held_out: Columns,
        params: TimelineParams,
        fitted: TimelineFitted,
        seed: int,
    ) -> Rivals:
        """Simple models of the same question."""
        return HEADS[params.task].baselines(train, held_out, params, fitted, seed)

    def unseen(
        self, columns: Columns, params: TimelineParams, fitted: TimelineFitted
    ) -> Array | None:
        """Events of each record whose code `train` never showed, or too seldom (`min_patients`)."""
        return tensors.unseen(columns, params, fitted)

    def explain(
        self,
        modules: Modules,
        columns: Columns,
        target: str,
        class_index: int,
        params: TimelineParams,
        fitted: TimelineFitted,
    ) -> EventCredits:
        """Integrated gradients of the target's log-odds, handed to the events of each history."""
        from medray.workloads.timeline.attribution import explain_items

        log_odds_of = HEADS[params.task].log_odds

        def log_odds(modules: Modules, batch: Batch) -> Tensor:
            return log_odds_of(self.predict(modules, batch, params)[target], params, fitted)

        return explain_items(modules, columns, log_odds, params, fitted)

    def example(self, params: TimelineParams, fitted: TimelineFitted, rows: int) -> Columns:
        """Made-up histories over every channel."""
        return tensors.example(params, fitted, rows)


def _loss(
    modules: Modules,
    batch: Batch,
    rng: Generator,
    member: str,
    params: TimelineParams,
    fitted: TimelineFitted,
) -> Tensor:
    output_BO = modules[member](batch).float()
    return HEADS[params.task].loss(output_BO, batch["labels"], params, fitted)
