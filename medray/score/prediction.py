"""What a prediction is: the answer for one item, and the rows that tables and people read.

Plain values: imports neither torch nor ray.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from medray.errors import Code
from medray.spec.records import MICROSECONDS, TimeUnit


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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        time = self.prediction_time
        return asdict(self) | {"prediction_time": None if time is None else time.isoformat()}


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

    def lines(self) -> Iterator[str]:
        """What people read."""
        yield f"{self.file}  {self.headline()}"

    def dicts(self) -> Iterator[dict[str, Any]]:
        """What programs read: an object per line."""
        yield self.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "file": self.file,
            "package": self.package,
            "status": "rejected" if self.rejected else "ok",
            "detail": self.detail,
            "rows": [row.to_dict() for row in self.rows],
            "pictures": list(self.pictures),
        }


@dataclass(frozen=True, slots=True)
class TablesPrediction:
    """All that `predict` says about tables of records.

    rows       one per patient, moment and score, or a rejected one.
    events     that were read; `refused`: rows that became none, reason → count.
    unknown    events whose code the model has never seen: code → count.
    time_unit  what times are told in: `timestamp`, or a unit since the patient's own start.
    """

    package: str
    rows: tuple[PredictionRow, ...]
    events: int
    refused: Mapping[str, int]
    unknown: Mapping[str, int]
    time_unit: TimeUnit = "timestamp"

    @property
    def rejected(self) -> bool:
        """Whether no item was scored."""
        return all(row.status == "rejected" for row in self.rows)

    def lines(self) -> Iterator[str]:
        """A line per item, then what was not read."""
        for rows in self._items():
            said = ", ".join(_line(row, several=False) for row in _shown(rows))
            yield f"{rows[0].subject_id}  {_moment(rows[0].prediction_time, self.time_unit)}{said}"
        refused = ", ".join(f"{count:,} {reason}" for reason, count in self.refused.items())
        yield f"{self.events:,} events read" + (f"; rows refused: {refused}" if refused else "")
        if self.unknown:
            yield strange(self.unknown, self.events)

    def dicts(self) -> Iterator[dict[str, Any]]:
        """An object per item; last, one of what was read."""
        for rows in self._items():
            first = rows[0].to_dict()
            names = ("item_id", "subject_id", "prediction_time", "status", "reason")
            scores = [asdict(row) for row in rows if row.status == "ok"]
            kept = ("target", "score", "decision", "text_value")
            said = [{name: score[name] for name in kept} for score in scores]
            yield {name: first[name] for name in names} | {"scores": said}
        counts = {"refused": dict(self.refused), "unknown_codes": dict(self.unknown)}
        yield {"package": self.package, "events": self.events, **counts}

    def _items(self) -> Iterator[list[PredictionRow]]:
        for _, rows in groupby(self.rows, lambda row: row.item_id):
            yield list(rows)


@dataclass(frozen=True, slots=True)
class MoleculeAnswer:
    """What is said of one row of a file of molecules, or of one SMILES.

    given    the row in words: its file and number, or the SMILES as it was given.
    smiles   in the package's standard form; None for a row that is no molecule.
    picture  the structure drawn, when that was asked for.
    """

    given: str
    smiles: str | None
    rows: tuple[PredictionRow, ...]
    picture: str | None = None

    @property
    def rejected(self) -> bool:
        """Whether there is no score."""
        return all(row.status == "rejected" for row in self.rows)


@dataclass(frozen=True, slots=True)
class MoleculesPrediction:
    """All that `predict` says about molecules: an answer for every row that was given, in order.

    near  names of targets that say how far an answer can be trusted.
    """

    package: str
    answers: tuple[MoleculeAnswer, ...]
    near: frozenset[str] = frozenset()

    @property
    def rejected(self) -> bool:
        """Whether no row was scored."""
        return all(one.rejected for one in self.answers)

    def lines(self) -> Iterator[str]:
        """A line per row."""
        for one in self.answers:
            if one.rejected:
                yield f"{one.given}  rejected: {one.rows[0].reason}"
            else:
                said = ", ".join(self._said(row) for row in one.rows)
                yield f"{one.smiles}  {said}"

    def dicts(self) -> Iterator[dict[str, Any]]:
        """An object per row."""
        for one in self.answers:
            kept = ("target", "score", "decision", "text_value")
            first = one.rows[0]
            yield {
                "given": one.given,
                "smiles": one.smiles,
                "item_id": first.item_id,
                "package": self.package,
                "status": first.status,
                "reason": first.reason,
                "scores": [
                    {name: getattr(row, name) for name in kept}
                    for row in one.rows
                    if row.status == "ok"
                ],
                "picture": one.picture,
            }

    def _said(self, row: PredictionRow) -> str:
        if row.target in self.near and row.score is not None:
            return f"{row.target} {row.score:.2f} {'inside' if row.decision else 'OUTSIDE'} domain"
        return _line(row, several=False)


def strange(unknown: Mapping[str, int], events: int) -> str:
    """Say which codes a model has never seen."""
    most = sorted(unknown.items(), key=lambda pair: (-pair[1], pair[0]))
    named = ", ".join(f"{code} ({count:,})" for code, count in most[:8])
    rest = f" and {len(most) - 8:,} more" if len(most) > 8 else ""
    return (
        f"{sum(unknown.values()):,} of {events:,} events have codes that the model has never "
        f"seen: {named}{rest}"
    )


def _moment(time: datetime | None, unit: TimeUnit) -> str:
    if time is None:
        return ""
    if unit == "timestamp":
        return f"{time:%Y-%m-%d %H:%M}  "
    gone = (time - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6 / MICROSECONDS[unit]
    return f"{gone:.6g} {unit}  "


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
