"""What a prediction from a patient's record rests on: a part for each event, and their sum.

Owns the shape of the document (JSON, Parquet) and its words; computes no credit. All contributions
are calibrated log-odds: they add up, and `probability` of their sum is the predicted risk.
"""

import math
from typing import Final, Literal

import pyarrow as pa
from pydantic import Field

from medray.spec.base import Section

FORMAT: Final = "medray-explanation/1"

_DAY = 24.0
_YEAR = 365.25 * _DAY

PARTS: Final = pa.schema(
    [
        pa.field("hours_before", pa.float64()),  # the prediction; null: a fact without time
        pa.field("code", pa.string(), nullable=False),
        pa.field("text_value", pa.string()),
        pa.field("numeric_value", pa.float64()),
        pa.field("unit", pa.string()),
        pa.field("contribution", pa.float64(), nullable=False),  # log-odds
    ]
)


class EventPart(Section):
    """One event that the model read, and what it added to the answer, in log-odds.

    hours_before   the prediction; null for a fact without time.
    numeric_value  in the unit of the record; null where the event has no number.
    """

    hours_before: float | None
    code: str
    text_value: str | None = None
    numeric_value: float | None = None
    unit: str | None = None
    contribution: float

    @property
    def when(self) -> str:
        """How long before the prediction, in words."""
        return "fact" if self.hours_before is None else duration(self.hours_before)

    @property
    def said(self) -> str:
        """Its value as people write it; empty where it has none."""
        if self.text_value is not None:
            return self.text_value
        if self.numeric_value is None:
            return ""
        return f"{self.numeric_value:.4g}" + (f" {self.unit}" if self.unit else "")


class Explanation(Section):
    """One prediction taken apart: empty + timing + the events' contributions + error = answer.

    score          the calibrated probability that the package answers; decision: at its
                   threshold, where it has one.
    empty          of a record with one entry in which nothing is known. timing: what the times of
                   the entries add by themselves.
    answer         log-odds of `score`. error: what the parts miss of it. points: of the path that
                   gradients were summed along.
    unread         events that the model does not read (codes it never learned, too old).
    events         greatest contribution first.
    """

    format: Literal["medray-explanation/1"] = FORMAT
    package: str
    target: str
    subject_id: str
    item_id: str
    prediction_time: str
    score: float
    decision: bool | None
    empty: float
    timing: float
    answer: float
    error: float
    points: int = Field(ge=0)
    unread: int = Field(ge=0)
    events: tuple[EventPart, ...]

    @property
    def facts(self) -> float:
        """Sum over the facts without time."""
        return math.fsum(e.contribution for e in self.events if e.hours_before is None)

    @property
    def timed(self) -> float:
        """Sum over the events with a time."""
        return math.fsum(e.contribution for e in self.events if e.hours_before is not None)

    @property
    def error_share(self) -> float:
        """The error as a share of what facts and events had to explain; 0 where that is nothing."""
        explained = self.answer - self.empty - self.timing
        return abs(self.error / explained) if explained else 0.0

    def table(self) -> pa.Table:
        """Events as PARTS, greatest contribution first."""
        rows = [event.model_dump() for event in self.events]
        return pa.Table.from_pylist(rows, schema=PARTS)


def probability(log_odds: float) -> float:
    """Of log-odds."""
    small = math.exp(-abs(log_odds))
    return (1.0 if log_odds >= 0 else small) / (1.0 + small)


def duration(hours: float) -> str:
    """Hours in the unit that people would use."""
    if hours < 1:
        return f"{hours * 60:.0f} min"
    if hours < 4 * _DAY:
        return f"{hours:.1f} h"
    if hours < _YEAR:
        return f"{hours / _DAY:.1f} days"
    return f"{hours / _YEAR:.1f} years"
