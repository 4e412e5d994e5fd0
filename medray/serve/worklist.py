"""What was scored, to be looked through: a line per study, package and answer. No HTTP, no Ray.

Lines come from `predictions` tables alone, and hold pseudonyms. Of an item that stands in several
tables, or was scored by several runs of one package, the newest row counts.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from http import HTTPStatus
from threading import Lock
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medray import storage
from medray.errors import UsageError
from medray.serve.problems import ProblemError

compute: Any = pc  # its functions are made at run time

Sort = Literal["time", "score", "study", "target", "model", "decision", "items"]
Decision = Literal["positive", "negative", "undecided", "rejected"]

_READ = (
    *("item_id", "subject_id", "study_id", "file_id", "frame", "prediction_time", "target"),
    *("score", "decision", "text_value", "status", "reason", "package", "run"),
)
_ANSWER = ("package", "target", "text_value", "status", "reason")
_NEVER = int(np.iinfo(np.int64).min)
_COLUMN: Mapping[Sort, str] = {
    "time": "prediction_time",
    "score": "score",
    "study": "study_id",
    "target": "target",
    "model": "package",
    "decision": "outcome",
    "items": "items",
}


class Asked(BaseModel):
    """The query of GET /v1/worklist. Days are UTC, both included.

    model  name, or name@version. limit, offset: lines of a page.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    from_: date | None = Field(default=None, alias="from")
    to: date | None = None
    model: str | None = Field(default=None, max_length=128)
    target: str | None = Field(default=None, max_length=256)
    decision: Decision | None = None
    sort: Sort = "time"
    order: Literal["asc", "desc"] = "desc"
    limit: int = Field(default=50, ge=0, le=1000)
    offset: int = Field(default=0, ge=0)


def asked_of(query: Mapping[str, str]) -> Asked:
    """Read a query. Raises ProblemError."""
    try:
        return Asked.model_validate({key: value for key, value in query.items() if value != ""})
    except ValidationError as error:
        errors = [
            {"pointer": "/".join(map(str, one["loc"])), "detail": one["msg"]}
            for one in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "invalid-query",
            "the query is not as it must be",
            errors,
        ) from None


class Worklist:
    """Tables of predictions, read again when they have a new version.

    places  folders of runs, or of tables themselves.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self._places = tuple(places)
        self._lines: tuple[tuple[int, ...], pa.Table] | None = None
        self._lock = Lock()

    def page(self, asked: Asked) -> dict[str, Any]:
        """Give a page of lines, what there is of them, and what can be filtered by.

        `rows`: subject_id, study_id, package, target, text_value, score (greatest of the study's
        items), decision (positive if one item is), items, prediction_time, status, reason.
        Raises ProblemError (503) when a table is there but cannot be read.
        """
        lines = self._current()
        kept = _filtered(lines, asked)
        page = _sorted(kept, asked).slice(asked.offset, asked.limit)
        times = lines["prediction_time"].drop_null()
        newest = compute.max(times).as_py() if len(times) else None
        return {
            "total": kept.num_rows,
            "offset": asked.offset,
            "limit": asked.limit,
            "newest": None if newest is None else newest.date().isoformat(),
            "models": sorted({_name(one) for one in compute.unique(lines["package"]).to_pylist()}),
            "targets": sorted(filter(None, compute.unique(lines["target"]).to_pylist())),
            "rows": [_plain(row) for row in page.to_pylist()],
        }

    def _current(self) -> pa.Table:
        try:
            with self._lock:  # one reads, others wait for what it found
                tables = [place for one in self._places if (place := _table_at(one)) is not None]
                versions = tuple(storage.open_table(table).version() for table in tables)
                if self._lines is None or self._lines[0] != versions:
                    rows = [storage.read_table(table, [*_READ]) for table in tables]
                    self._lines = (versions, lines_of(rows))
                return self._lines[1]
        except (OSError, pa.ArrowException, UsageError):
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "no-worklist",
                "a table of predictions cannot be read",
                headers={"Retry-After": "30"},
            ) from None


def lines_of(tables: Sequence[pa.Table]) -> pa.Table:
    """Rows of PREDICTIONS → a line per study (of pictures), else item, package and answer."""
    rows = pa.concat_tables(tables) if tables else _empty()
    rows = _newest(rows)
    # Of the classes of an item, only the one that was decided for.
    other = compute.and_(
        compute.is_valid(rows["text_value"]),
        compute.equal(compute.fill_null(rows["decision"], True), False),
    )
    rows = rows.filter(compute.invert(other))
    pictures = compute.and_(compute.is_valid(rows["frame"]), compute.is_valid(rows["study_id"]))
    key = compute.if_else(pictures, rows["study_id"], rows["item_id"])
    positive = compute.cast(rows["decision"], pa.int8())
    rows = rows.append_column("key", key).append_column("positive", positive)
    grouped = rows.group_by(["key", *_ANSWER], use_threads=False).aggregate(
        [
            ("subject_id", "first"),
            ("study_id", "first"),
            ("score", "max"),
            ("positive", "max"),
            ("item_id", "count"),
            ("prediction_time", "max"),
        ]
    )
    outcome = compute.if_else(
        compute.equal(grouped["status"], "ok"),
        compute.if_else(
            compute.is_null(grouped["positive_max"]),
            "undecided",
            compute.if_else(
                compute.equal(compute.fill_null(grouped["positive_max"], 0), 1),
                "positive",
                "negative",
            ),
        ),
        "rejected",
    )
    return pa.table(
        {
            "subject_id": grouped["subject_id_first"],
            "study_id": compute.coalesce(grouped["study_id_first"], grouped["key"]),
            **{name: grouped[name] for name in _ANSWER},
            "score": grouped["score_max"],
            "outcome": outcome,
            "items": grouped["item_id_count"],
            "prediction_time": grouped["prediction_time_max"],
        }
    )


def _empty() -> pa.Table:
    from medray.schema import PREDICTIONS

    return PREDICTIONS.empty_table().select([*_READ])


def _newest(rows: pa.Table) -> pa.Table:
    """Of rows that answer the same of the same item, the one that was made last."""
    made = compute.fill_null(compute.cast(rows["prediction_time"], pa.int64()), _NEVER)
    keyed = rows.append_column("place", pa.array(np.arange(rows.num_rows)))
    keyed = keyed.append_column("made", made)
    order = compute.sort_indices(keyed, sort_keys=[("made", "ascending"), ("place", "ascending")])
    key = ["package", "item_id", "target", "text_value"]
    last = keyed.take(order).group_by(key, use_threads=False).aggregate([("place", "last")])
    return rows.take(last["place_last"])


def _filtered(lines: pa.Table, asked: Asked) -> pa.Table:
    def keep(mask: Any) -> None:
        nonlocal lines
        lines = lines.filter(compute.fill_null(mask, False))

    if asked.from_ is not None:
        keep(compute.greater_equal(lines["prediction_time"], _start(asked.from_)))
    if asked.to is not None:
        keep(compute.less(lines["prediction_time"], _start(asked.to + timedelta(days=1))))
    if asked.model is not None:
        at = "#" if "@" in asked.model else "@"
        keep(compute.starts_with(lines["package"], asked.model + at))
    if asked.target is not None:
        keep(compute.equal(lines["target"], asked.target))
    if asked.decision is not None:
        keep(compute.equal(lines["outcome"], asked.decision))
    return lines


def _start(day: date) -> pa.Scalar:
    return pa.scalar(datetime.combine(day, time(), UTC), pa.timestamp("us", tz="UTC"))


def _sorted(lines: pa.Table, asked: Asked) -> pa.Table:
    """In the order asked for, without a value last; of equals, in the order of their names."""
    direction = "ascending" if asked.order == "asc" else "descending"
    names = [_COLUMN[asked.sort], "study_id", "package", "target", "text_value"]
    keys = dict.fromkeys(names, "ascending") | {names[0]: direction}
    return lines.take(compute.sort_indices(lines, sort_keys=[*keys.items()]))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    when, outcome = row["prediction_time"], row.pop("outcome")
    decided = {"positive": True, "negative": False}.get(outcome)
    return row | {
        "decision": decided,
        "prediction_time": None if when is None else when.isoformat(),
    }


def _name(package: str) -> str:
    return package.partition("@")[0]


def _table_at(place: str) -> str | None:
    """Where the table is: below a run's folder, or the folder itself; None before its first run."""
    for uri in (storage.join(place, "predictions"), place):
        if storage.table_exists(uri):
            return uri
    return None
