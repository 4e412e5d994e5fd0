"""What a task on patients' timelines can be asked for, and what it learns before the network."""

from itertools import cycle
from typing import Literal, Self

from pydantic import Field, model_validator

from medray.models.rnn import Kind
from medray.records.steps import Vocabulary
from medray.records.tasks import OutcomeSpec, PredictTimes
from medray.spec.base import Section
from medray.workload import Target


class TimelineParams(Section):
    """The `params:` of a run on patients' records.

    task         event_within: does the outcome happen within `horizon_days` of the prediction?
    outcome      what may happen; see `OutcomeSpec`.
    horizon_days absent: whether it happens at all, where the outcome has no time.
    predict_at   `visits`: at every time with an event; `end`: at the last one; `{days: [2]}`: so
                 many days after the patient's start.
    step_hours   events of one interval, counted back from the prediction, make one time step, with
                 the mean of their values; absent: events of one moment do.
    max_steps    the latest so many steps are read.
    network      elman, lstm, gru or gru_d; `networks` gives the members of an ensemble in turn.
    hidden, layers, embedding   units of a layer, layers stacked, length of a code's vector.
    pool         what is read beside the last state: the maximum or mean of all, or nothing.
    input_dropout  share of the channels hidden from the network in training, per patient.
    min_patients codes that fewer patients of `train` have are unknown to the model.
    channels, codes   most channels (numbers, texts), and most codes that have neither.
    members      networks trained side by side; their logits are averaged.
    monitor      the tuning metric that picks the best epoch.
    """

    task: Literal["event_within"] = "event_within"
    outcome: OutcomeSpec
    horizon_days: float | None = Field(default=None, gt=0)
    predict_at: PredictTimes = "visits"
    step_hours: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=512, ge=1)
    network: Kind = "gru"
    networks: tuple[Kind, ...] = ()
    hidden: int = Field(default=64, ge=1)
    layers: int = Field(default=1, ge=1, le=8)
    embedding: int = Field(default=32, ge=1)
    pool: Literal["last", "max", "mean"] = "last"
    dropout: float = Field(default=0.3, ge=0, lt=1)
    input_dropout: float = Field(default=0.0, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    min_patients: int = Field(default=10, ge=1)
    channels: int = Field(default=256, ge=1)
    codes: int = Field(default=2048, ge=0)
    members: int = Field(default=1, ge=1, le=16)
    monitor: Literal["auroc", "loss"] = "auroc"

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.horizon_days is None and (self.outcome.code or self.outcome.time):
            raise ValueError("event_within needs `horizon_days`: the outcome has a time")
        if self.horizon_days is not None and not (self.outcome.code or self.outcome.time):
            raise ValueError("`horizon_days` needs `outcome.time`: when did it happen?")
        if len(self.networks) > self.members:
            raise ValueError(f"{len(self.networks)} networks need as many `members` at least")
        return self

    @property
    def ensemble(self) -> tuple[tuple[str, Kind], ...]:
        """Name and network of every member."""
        alone: tuple[Kind, ...] = (self.network,)
        kinds = cycle(self.networks or alone)
        names = (
            ["recurrent"]
            if self.members == 1
            else [f"recurrent_{number + 1}" for number in range(self.members)]
        )
        return tuple((name, kind) for name, kind in zip(names, kinds, strict=False))

    @property
    def target(self) -> str:
        """Name of what is predicted."""
        what = self.outcome.column or str(self.outcome.code)
        return what if self.horizon_days is None else f"{what} within {self.horizon_days:g} days"

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is predicted."""
        return (Target(self.target, "binary"),)


class TimelineFitted(Section):
    """What preprocessing learned from `train`: the vocabulary, and how many items were labelled."""

    vocabulary: Vocabulary
    items: int = Field(ge=1)
    positives: int = Field(ge=0)
