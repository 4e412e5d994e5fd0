"""What a task on patients' timelines can be asked for, and what it learns before the network."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from medray.models.rnn import Kind, Pool
from medray.records.steps import Vocabulary
from medray.records.tasks import MeasureSpec, OutcomeSpec, PredictAt, PredictTimes
from medray.spec.base import Section

TaskName = Literal["event_within", "time_to_event", "recurrence", "forecast"]
_IN_TIME: tuple[TaskName, ...] = ("time_to_event", "recurrence")


class TimelineParams(Section):
    """The `params:` of a run on patients' records.

    task         event_within: does the outcome happen within `horizon_days` of the prediction?
                 time_to_event: when, of those who may be lost to follow-up; competing causes.
                 recurrence: the same of the next event of a kind, asked at every event of it.
                 forecast: the values of a measured code at `horizons_days`.
    outcome      what may happen; see `OutcomeSpec`.
    measure      forecast: the code whose course is foreseen.
    horizon_days event_within; absent: whether it happens at all, where the outcome has no time.
    horizons_days  where risks are told (time_to_event, recurrence) or values (forecast).
    intervals    time_to_event: most intervals that time is cut into, each with a hazard; they hold
                 like numbers of outcomes.
    quantiles    forecast: which; the first and the last make the interval, calibrated on tuning.
    predict_at   `visits`: at every time with an event; `end`: at the last one; `{days: [2]}`: so
                 many days after the patient's start; `{code: X}`: at every event of this code.
    step_hours   events of one interval, counted back from the prediction, make one time step, with
                 the mean, least and greatest of their values; absent: events of one moment do.
    max_steps    the latest so many steps are read.
    network      elman, lstm, gru or gru_d; `networks` gives the members of an ensemble in turn.
    hidden, layers, embedding   units of a layer, layers stacked, length of a code's vector.
    bidirectional  a second set of units reads from the prediction back to the start (of an
                 ensemble with gru_d, the other members do: it reads forward only).
    pool         what is read beside the last state: the maximum or mean of all, or nothing.
    dropout      share of the states hidden before the output, and between layers.
    input_dropout  share of the channels hidden from the network in training, per patient.
    recurrent_dropout  share of the weights from state to state that an update does without.
    min_patients codes that fewer patients of `train` have are unknown to the model.
    channels, codes   most channels (numbers, texts), and most codes that have neither.
    members      networks trained side by side; their logits are averaged.
    monitor      the tuning metric that picks the best epoch; auto: auroc for event_within, else
                 the loss.
    """

    task: TaskName = "event_within"
    outcome: OutcomeSpec | None = None
    measure: MeasureSpec | None = None
    horizon_days: float | None = Field(default=None, gt=0)
    horizons_days: tuple[Annotated[float, Field(gt=0)], ...] = ()
    intervals: int = Field(default=32, ge=2, le=512)
    quantiles: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.1, 0.5, 0.9)
    predict_at: PredictTimes = "visits"
    step_hours: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=512, ge=1)
    network: Kind = "gru"
    networks: tuple[Kind, ...] = ()
    hidden: int = Field(default=64, ge=1)
    layers: int = Field(default=1, ge=1, le=8)
    embedding: int = Field(default=32, ge=1)
    bidirectional: bool = False
    pool: Pool = "all"
    dropout: float = Field(default=0.3, ge=0, lt=1)
    input_dropout: float = Field(default=0.1, ge=0, lt=1)
    recurrent_dropout: float = Field(default=0.3, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    min_patients: int = Field(default=10, ge=1)
    channels: int = Field(default=256, ge=1)
    codes: int = Field(default=2048, ge=0)
    members: int = Field(default=1, ge=1, le=16)
    monitor: Literal["auto", "auroc", "loss"] = "auto"

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if (self.measure is not None) != (self.task == "forecast"):
            raise ValueError("`measure` and the task `forecast` go together")
        if (self.outcome is None) != (self.task == "forecast"):
            raise ValueError(f"{self.task} needs `outcome`" if self.task != "forecast" else _NO)
        if (self.task == "event_within") == bool(self.horizons_days):
            raise ValueError(
                "event_within has one `horizon_days`"
                if self.horizons_days
                else f"{self.task} needs `horizons_days`: where risks or values are told"
            )
        if self.horizon_days is not None and self.task != "event_within":
            raise ValueError(f"{self.task} takes `horizons_days`, not `horizon_days`")
        if list(self.horizons_days) != sorted(set(self.horizons_days)):
            raise ValueError("`horizons_days` must rise")
        if self.task == "recurrence" and self.outcome and self.outcome.code is None:
            raise ValueError("recurrence is of an event: name `outcome.code`")
        if self.task != "event_within" and self.monitor == "auroc":
            raise ValueError(f"{self.task} has no AUROC to monitor: take `loss`")
        return self

    @model_validator(mode="after")
    def _outcome_fits(self) -> Self:
        timed = self.outcome is not None and bool(self.outcome.code or self.outcome.time)
        if self.task == "event_within" and (self.horizon_days is None) == timed:
            raise ValueError(
                "event_within needs `horizon_days`: the outcome has a time"
                if timed
                else "`horizon_days` needs `outcome.time`: when did it happen?"
            )
        if self.task in _IN_TIME and not timed:
            raise ValueError(f"{self.task} needs `outcome.time`: when did it happen?")
        levels = self.quantiles
        if len(levels) < 3 or 0.5 not in levels or list(levels) != sorted(set(levels)):
            raise ValueError("`quantiles` must rise, and hold 0.5 between two others")
        if abs(levels[0] + levels[-1] - 1) > 1e-9:
            raise ValueError("the first and the last of `quantiles` must lie alike, as 0.1 and 0.9")
        return self

    @model_validator(mode="after")
    def _ensemble_is_whole(self) -> Self:
        if len(self.networks) > self.members:
            raise ValueError(f"{len(self.networks)} networks need as many `members` at least")
        if self.bidirectional and {kind for _, kind in self.ensemble} == {"gru_d"}:
            raise ValueError("gru_d reads forward only: leave `bidirectional` out")
        return self

    @property
    def moments(self) -> PredictTimes:
        """When predictions are made: of a recurrence, at every event of its kind."""
        if self.task == "recurrence" and self.outcome and self.predict_at == "visits":
            return PredictAt(code=self.outcome.code, text=self.outcome.text)
        return self.predict_at

    @property
    def ensemble(self) -> tuple[tuple[str, Kind], ...]:
        """Name and network of every member."""
        kinds: tuple[Kind, ...] = self.networks or (self.network,)
        many = self.members > 1
        return tuple(
            (f"recurrent_{number + 1}" if many else "recurrent", kinds[number % len(kinds)])
            for number in range(self.members)
        )

    @property
    def target(self) -> str:
        """Name of what is predicted."""
        if self.measure is not None:
            return self.measure.code
        what = (self.outcome and (self.outcome.column or self.outcome.code)) or ""
        return what if self.horizon_days is None else f"{what} within {self.horizon_days:g} days"

    @property
    def causes(self) -> tuple[str, ...]:
        """Competing outcomes, in the order of their numbers from 1."""
        causes = self.outcome.causes if self.outcome else {}
        return tuple(causes) or (self.target,)


_NO = "forecast is of a measured code: take `measure`, and leave `outcome` out"


class TimelineFitted(Section):
    """What preprocessing learned from `train`: the vocabulary, and how many items there were.

    items, positives  items whose outcome is known, and those where it happens (forecast: values).
    edges_days        time_to_event: the intervals that hazards hold in.
    """

    vocabulary: Vocabulary
    items: int = Field(ge=1)
    positives: int = Field(ge=0)
    edges_days: tuple[float, ...] = ()
