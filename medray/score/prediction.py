"""What a prediction is: the answer for one item, and the rows that tables and people read.

Plain values: imports neither torch nor ray.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from medray.errors import Code


@dataclass(frozen=True, slots=True)
class Score:
    """One answer: the calibrated probability of a target or a class, a risk, or a value.

    text_value  the class for a multi-class target, the quantile ("q0.5") of a value, else None.
    decision    None where nothing is decided upon: risks and values.
    """

    target: str
    text_value: str | None
    score: float
    decision: bool | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer for one item: scores, or the code it was refused with."""

    scores: tuple[Score, ...]
    reason: Code | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ItemKey:
    """Which item an outcome belongs to; ids are pseudonyms, None for a file that gave no item."""

    item_id: str
    subject_id: str | None
    study_id: str | None
    file_id: str
    frame: int | None = None
    prediction_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """One row of `predictions`, but for the run's own columns; see medray.schema.PREDICTIONS."""

    item_id: str
    subject_id: str | None
    study_id: str | None
    file_id: str
    frame: int | None
    prediction_time: datetime | None
    target: str | None
    score: float | None
    decision: bool | None
    text_value: str | None
    status: str
    reason: str | None


def rows_of(key: ItemKey, outcome: Outcome) -> Iterator[PredictionRow]:
    """Rows of one item: one per score, or a single rejected one."""
    file = (key.file_id, key.frame, key.prediction_time)
    ids = (key.item_id, key.subject_id, key.study_id, *file)
    if outcome.reason is not None:
        yield PredictionRow(*ids, None, None, None, None, "rejected", str(outcome.reason))
        return
    for score in outcome.scores:
        yield PredictionRow(
            *ids, score.target, score.score, score.decision, score.text_value, "ok", None
        )


@dataclass(frozen=True, slots=True)
class FilePrediction:
    """All that `predict` says about one file.

    file      as it was given on the command line.
    rows      one per item and target (multi-class: per class), or one rejected row.
    detail    why it was rejected, in words without a patient's value.
    pictures  heat maps written, when they were asked for.
    """

    file: str
    package: str
    rows: tuple[PredictionRow, ...]
    detail: str = ""
    pictures: tuple[str, ...] = ()

    @property
    def rejected(self) -> bool:
        """Whether no item of the file was scored."""
        return all(row.status == "rejected" for row in self.rows)

    def headline(self) -> str:
        """One line for people: the reason, or the decision of each target and item."""
        if self.rejected:
            reason = self.rows[0].reason if self.rows else "no item"
            return f"rejected: {reason}" + (f" ({self.detail})" if self.detail else "")
        several = len({row.item_id for row in self.rows}) > 1
        return ", ".join(_line(row, several) for row in _shown(self.rows))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "file": self.file,
            "package": self.package,
            "status": "rejected" if self.rejected else "ok",
            "detail": self.detail,
            "rows": [asdict(row) for row in self.rows],
            "pictures": list(self.pictures),
        }


def _shown(rows: Sequence[PredictionRow]) -> list[PredictionRow]:
    """All but the classes that are not the decided one."""
    return [row for row in rows if row.text_value is None or row.decision is not False]


def _line(row: PredictionRow, several: bool) -> str:
    frame = f"frame {row.frame}: " if several else ""
    if row.status == "rejected" or row.score is None:
        return f"{frame}rejected: {row.reason}"
    if row.text_value is not None:
        return f"{frame}{row.target} {row.text_value} {row.score:.4f}"
    if row.decision is None:
        return f"{frame}{row.target} {row.score:.4f}"
    return f"{frame}{row.target} {row.score:.4f} {'positive' if row.decision else 'negative'}"
