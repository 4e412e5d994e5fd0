"""What is asked and answered online: MEDS rows or SMILES in, scores out, problems as RFC 9457 says.

Knows neither HTTP nor Ray. No message repeats what a patient's row held.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medray.serve.problems import ProblemError
from medray.spec.records import MICROSECONDS, TimeUnit

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Event(_Message):
    """A row of MEDS 0.4.

    time  ISO 8601, or null for a fact without time. A number for a model whose records count from
          the patient's own start: since then, in the unit of its tables.
    """

    subject_id: int | str
    time: datetime | float | None = None
    code: str = Field(min_length=1)
    numeric_value: float | None = None
    text_value: str | None = None


class Moment(_Message):
    """When to predict for a patient: MEDS 0.4's label without a label."""

    subject_id: int | str
    prediction_time: datetime | float


class Question(_Message):
    """Events of some patients; absent prediction_times: the latest moment of each."""

    events: tuple[Event, ...]
    prediction_times: tuple[Moment, ...] | None = None


class Structures(_Message):
    """Molecules as SMILES, in the order they are answered in."""

    smiles: tuple[str, ...]


M = TypeVar("M", bound=_Message)


def parsed(body: bytes, form: type[M]) -> M:
    """Read a request. Raises ProblemError."""
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        if found[0]["type"] == "json_invalid":
            raise ProblemError(HTTPStatus.BAD_REQUEST, "not-json", "the body is no JSON") from None
        errors = [
            {"pointer": "/" + "/".join(map(str, each["loc"])), "detail": each["msg"]}
            for each in found[:20]
        ]
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid-request",
            f"{len(found)} members of the body are not as they must be",
            errors,
        ) from None


def name_of(row: Event | Moment) -> str:
    """Name a patient as the tables of an ingest do: without spaces around."""
    return str(row.subject_id).strip()


def table_of(events: Sequence[Event], unit: TimeUnit, static: Collection[str] = ()) -> pa.Table:
    """Rows in the form of MEDS, patients by their own names. Raises ProblemError.

    static  codes that the model knows as facts without time, whatever time stands beside them.
    """
    micros = [
        None if event.code.strip() in static else _micros(event.time, unit, f"/events/{row}/time")
        for row, event in enumerate(events)
    ]
    return pa.table(
        {
            "subject_id": pa.array([name_of(event) for event in events], pa.string()),
            "time": pa.array(micros, pa.int64()).cast(pa.timestamp("us")),
            "code": pa.array([event.code for event in events], pa.string()),
            "numeric_value": pa.array([event.numeric_value for event in events], pa.float64()),
            "text_value": pa.array([event.text_value for event in events], pa.string()),
        }
    )


def moments_of(moments: Sequence[Moment], unit: TimeUnit) -> list[tuple[str, int]]:
    """Patients by their own names, and microseconds since 1970. Raises ProblemError."""
    found: list[tuple[str, int]] = []
    for row, moment in enumerate(moments):
        place = f"/prediction_times/{row}/prediction_time"
        micros = _micros(moment.prediction_time, unit, place)
        if micros is not None:
            found.append((name_of(moment), micros))
    return found


def _micros(time: datetime | float | None, unit: TimeUnit, pointer: str) -> int | None:
    if time is None:
        return None
    if isinstance(time, datetime):
        if unit == "timestamp":
            there = time if time.tzinfo else time.replace(tzinfo=UTC)
            gone = there - _EPOCH
            return (gone.days * 86_400 + gone.seconds) * 1_000_000 + gone.microseconds
        wanted = f"the model's records count {unit} from the patient's own start: give a number"
    elif unit != "timestamp":
        if abs(time) * MICROSECONDS[unit] < 2**62:
            return round(time * MICROSECONDS[unit])
        wanted = "the time is out of range"
    else:
        wanted = "give date and time as ISO 8601 has them"
    errors = [{"pointer": pointer, "detail": wanted}]
    raise ProblemError(
        HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-time", "a time is not as it must be", errors
    )
