"""What is predicted, and when: patients' timelines → items, one per patient and prediction time.

The rule of the field (MEDS 0.4): a prediction sees events up to and including its time, and
nothing later. Shapes: N patients, M items, E events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from medray.errors import DataError
from medray.records.steps import NO_TIME
from medray.records.tokens import token
from medray.spec.base import Section
from medray.spec.records import TimeUnit

Array = NDArray[Any]
ColumnArrays = dict[str, Array]

DAY = 86_400_000_000  # microseconds
_DAYS = {"seconds": 1 / 86400, "minutes": 1 / 1440, "hours": 1 / 24, "days": 1.0, "years": 365.25}
_BIRTH = token("MEDS_BIRTH")  # MEDS 0.4, birth_code
TIMELINE = ("event_time", "event_code", "event_text", "event_value")


class OutcomeSpec(Section):
    """What may happen to a patient.

    code, text  an event of the record: this code (and text). It happens when it next stands there;
                a record that ends before says nothing of what came later (censored).
    column      a fact about the patient, from `records.tables`: it happened where the column is 1
                or true, or holds `value`. causes: competing outcomes, name → what the column holds.
    time        the column with the time of the outcome, or of the end of follow-up, since the
                patient's start; absent: it is not known when, only whether.
    """

    code: str | None = None
    text: str | None = None
    column: str | None = None
    value: str | None = None
    causes: dict[str, str] = Field(default={})
    time: str | None = None
    time_unit: TimeUnit = "days"

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.code is None) == (self.column is None):
            raise ValueError("name either the `code` of an event or the `column` of a fact")
        if self.column is None and (self.value or self.causes or self.time):
            raise ValueError("`value`, `causes` and `time` belong to `column`")
        if self.code is None and self.text is not None:
            raise ValueError("`text` belongs to `code`")
        if self.value is not None and self.causes:
            raise ValueError("`value` names one outcome, `causes` several: leave one out")
        if self.time_unit == "timestamp":
            raise ValueError("`time` counts from the patient's start: give its unit")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Facts that it is read from."""
        return tuple(name for name in (self.column, self.time) if name is not None)


class PredictAt(Section):
    """Moments of prediction; one of:

    days   landmarks: so many days after the patient's start, for those still under follow-up then.
    code   every event of this code: what the moments of a table become, ingested as events.
    text   of events with this text only.
    """  # noqa: D400

    days: tuple[float, ...] = ()
    code: str | None = None
    text: str | None = None

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if bool(self.days) == (self.code is not None):
            raise ValueError("name either `days` or a `code`")
        if self.text is not None and self.code is None:
            raise ValueError("`text` belongs to `code`")
        return self


PredictTimes = Literal["visits", "end"] | PredictAt


class MeasureSpec(Section):
    """A numeric code whose course is foreseen.

    tolerance_days  a measurement counts for a horizon when it lies this near to it; of several the
                    nearest does.
    """

    code: str
    tolerance_days: float = Field(gt=0)


@dataclass(frozen=True, slots=True)
class Observed:
    """Outcomes of M items: what (0: censored), and days from the prediction time until then.

    Where it is not known when it happened, days are NaN.
    """

    cause: Array
    days: Array


def cut(columns: Mapping[str, Array], predict_at: PredictTimes) -> ColumnArrays:
    """Items of N patients: every column repeated, TIMELINE cut at `prediction_time` (M,) int64.

    Adds `item_id` (patient@time), `row`, the patient it comes from, and `told`: how many of its
    events the patient's item before it holds already. Times without any event before them give no
    item: there is nothing to predict from. A birth is no visit, and nothing to predict from.
    """
    return cut_at(columns, moments(columns, predict_at))


def cut_at(columns: Mapping[str, Array], times_N: Sequence[Sequence[int]]) -> ColumnArrays:
    """Items at given times of every patient; see `cut`."""
    rows: list[int] = []
    times: list[int] = []
    ends: list[int] = []
    told: list[int] = []
    for row, all_times in enumerate(columns["event_time"]):
        facts = int(np.searchsorted(all_times, NO_TIME, side="right"))
        timed = all_times[facts:]
        alive = _alive(columns, row)
        first = int(all_times[alive][0]) if alive.any() else 0
        before = 0
        for moment in times_N[row]:
            if not alive.any() or first > moment:
                continue
            end = facts + int(np.searchsorted(timed, moment, side="right"))
            rows.append(row)
            times.append(moment)
            ends.append(end)
            told.append(before)
            before = end
    index = np.array(rows, np.int64)
    items: ColumnArrays = {
        name: values[index] for name, values in columns.items() if name not in TIMELINE
    }
    for name in TIMELINE:
        cells = np.empty(len(rows), object)
        for place, (row, end) in enumerate(zip(rows, ends, strict=True)):
            cells[place] = columns[name][row][:end]
        items[name] = cells
    items["prediction_time"] = np.array(times, np.int64)
    subjects = columns["subject_id"][index]
    names = np.empty(len(rows), object)
    names[:] = [f"{one}@{time}" for one, time in zip(subjects, times, strict=True)]
    return items | {"item_id": names, "row": index, "told": np.array(told, np.int64)}


def moments(
    columns: Mapping[str, Array], predict_at: PredictTimes, *, every: bool = True
) -> list[list[int]]:
    """Prediction times of N patients, rising.

    every  False: what one asks about a patient today: of visits and events the last one, of
           landmarks still all.
    """
    found = [_moments(columns, row, predict_at) for row in range(len(columns["event_time"]))]
    landmarks = isinstance(predict_at, PredictAt) and predict_at.code is None
    return found if every or landmarks else [times[-1:] for times in found]


def _alive(columns: Mapping[str, Array], row: int) -> Array:
    """Events of one patient (E,) with a time, but no birth."""
    return (columns["event_time"][row] != NO_TIME) & (columns["event_code"][row] != _BIRTH)


def _moments(columns: Mapping[str, Array], row: int, predict_at: PredictTimes) -> list[int]:
    alive = _alive(columns, row)
    times = columns["event_time"][row][alive]
    if isinstance(predict_at, PredictAt):
        if predict_at.code is not None:
            hit = _are(columns, row, predict_at.code, predict_at.text)[alive]
            return np.unique(times[hit]).tolist()
        start = int(columns["start"][row])
        # `observe` knows whose follow-up reaches them
        return sorted({start + round(days * DAY) for days in predict_at.days})
    if not len(times):
        return []
    return [int(times[-1])] if predict_at == "end" else np.unique(times).tolist()


def observe(
    items: Mapping[str, Array], columns: Mapping[str, Array], spec: OutcomeSpec
) -> Observed:
    """Outcomes of items that `cut` made of the patients in `columns`."""
    if spec.column is None:
        return _next_event(items, columns, spec)
    cause = causes_of(items[spec.column], spec).astype(np.float64)
    if spec.time is None:
        return Observed(cause, np.full(len(cause), np.nan))
    ends = items[spec.time].astype(np.float64) * _DAYS[spec.time_unit]
    gone = (items["prediction_time"] - items["start"]) / DAY
    days = ends - gone
    # follow-up that ended before the prediction says nothing; at its very moment, next to nothing
    cause = np.where(np.isnan(days) | (days <= 0), np.nan, cause)
    return Observed(cause, days)


def causes_of(values: Array, spec: OutcomeSpec) -> Array:
    """Number of the outcome that a fact tells: 0 none, 1 and so on, NaN not known.

    Raises DataError for a column of texts where the spec does not say which of them counts.
    """
    if values.dtype != object:
        if spec.causes or spec.value:
            numbers = _numbers_of(spec)
            found = sum((values == number) * (i + 1) for i, number in enumerate(numbers))
            return np.where(np.isnan(values), np.nan, found)
        other = set(np.unique(values[~np.isnan(values)]).tolist()) - {0.0, 1.0}
        if other:
            raise DataError(
                f"the column {spec.column!r} holds more than 0 and 1",
                remedy="say which value means that it happened: `outcome.value` or `causes`",
            )
        return values.astype(np.float64)
    names = list(spec.causes.values()) if spec.causes else [spec.value]
    if names == [None]:
        raise DataError(
            f"the column {spec.column!r} holds texts",
            remedy="say which of them means that it happened: `outcome.value` or `causes`",
        )
    return np.array(
        [np.nan if v is None else names.index(v) + 1 if v in names else 0 for v in values], float
    )


def _are(columns: Mapping[str, Array], row: int, code: str, text: str | None) -> Array:
    """Which events of one patient are of this code, and text when one is named (E,)."""
    hit = columns["event_code"][row] == token(code)
    return hit if text is None else hit & (columns["event_text"][row] == token(text))


def _numbers_of(spec: OutcomeSpec) -> list[float]:
    """The named values of an outcome whose column holds numbers, or yes and no (1 and 0)."""
    truth = {"true": 1.0, "false": 0.0}
    try:
        wanted = [str(name) for name in spec.causes.values() or (spec.value,)]
        return [truth[name.lower()] if name.lower() in truth else float(name) for name in wanted]
    except ValueError:
        raise DataError(
            f"the column {spec.column!r} holds numbers, and the outcome names a text",
            remedy="name a number in `outcome.value` or `causes`",
        ) from None


def _next_event(
    items: Mapping[str, Array], columns: Mapping[str, Array], spec: OutcomeSpec
) -> Observed:
    """The next event of the code, or the end of the record."""
    cause = np.zeros(len(items["row"]))
    days = np.zeros(len(items["row"]))
    for place, (row, moment) in enumerate(zip(items["row"], items["prediction_time"], strict=True)):
        times = columns["event_time"][row]
        later = times[_are(columns, row, str(spec.code), spec.text) & (times > moment)]
        end = int(later.min()) if len(later) else int(times[-1])
        cause[place] = 1.0 if len(later) else 0.0
        days[place] = (end - int(moment)) / DAY
    return Observed(np.where(days <= 0, np.nan, cause), days)


def within(observed: Observed, horizon_days: float | None) -> Array:
    """Whether outcome 1 happens within the horizon (M,): 1, 0, or NaN where it is not known.

    A patient lost before the horizon is not known, and neither counts as well nor as ill; one
    with a competing outcome before it never has this one.
    """
    if horizon_days is None:
        return np.where(np.isnan(observed.cause), np.nan, observed.cause == 1)
    lost = (observed.cause == 0) & (observed.days < horizon_days)
    early = observed.days <= horizon_days
    happened = (observed.cause == 1) & early
    return np.where(np.isnan(observed.cause) | lost, np.nan, happened.astype(np.float64))


def measured(
    items: Mapping[str, Array],
    columns: Mapping[str, Array],
    spec: MeasureSpec,
    horizons_days: Sequence[float],
) -> Array:
    """Values of the code around every horizon after the prediction (M, H); NaN where none is near.

    Only what was measured after the prediction counts.
    """
    found = np.full((len(items["row"]), len(horizons_days)), np.nan)
    for place, (row, moment) in enumerate(zip(items["row"], items["prediction_time"], strict=True)):
        times, values = columns["event_time"][row], columns["event_value"][row]
        hit = _are(columns, row, spec.code, None) & (times > moment) & ~np.isnan(values)
        days, later = (times[hit] - int(moment)) / DAY, values[hit]
        for index, horizon in enumerate(horizons_days):
            gap = np.abs(days - horizon)
            if len(gap) and gap.min() <= spec.tolerance_days:
                found[place, index] = later[int(gap.argmin())]
    return found
