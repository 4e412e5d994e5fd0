"""Patients' events → scores: cut at prediction times as the task says, handed to the Predictor.

Shapes: N patients, M items (a patient at a prediction time).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from medray.dataset.records import to_timelines
from medray.errors import Code, PackageError
from medray.records.steps import NO_TIME
from medray.records.tasks import cut_at
from medray.records.tokens import tokens
from medray.score.prediction import ItemKey, Outcome, PredictionRow, rows_of
from medray.score.predictor import Predictor
from medray.spec.records import RecordsSpec, TimeUnit
from medray.workload import Columns

Array = np.ndarray[Any, Any]
Asked = Literal["latest", "all"] | Mapping[str, Sequence[int]]
"""When to predict. `all`: at every moment that the task learns from; `latest`: of visits and events
only at the last one. Or patient → times, microseconds since 1970."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING = Outcome((), Code.NO_HISTORY, "no event stands at or before the prediction time")
_STRANGE = Outcome((), Code.NO_HISTORY, "no event says anything to the model")


class Prepared(NamedTuple):
    """What is asked of some patients: items of M moments, and every patient with the times."""

    items: Columns
    wanted: tuple[tuple[str, Sequence[int | None]], ...]


class Timelines:
    """What a package says of patients' timelines. Raises PackageError for a package of images.

    records  how tables become events: the package's own settings.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._task = predictor.of_records
        records = predictor.package.records
        if records is None:
            raise PackageError(f"{predictor.package.ref} does not say how tables become events")
        self.records: RecordsSpec = records

    @property
    def time_unit(self) -> TimeUnit:
        """What times are told in: `timestamp`, or a unit since the patient's own start."""
        for source in self.records.sources:
            if source.time_unit != "timestamp":
                return source.time_unit
        return "timestamp"

    def predict(
        self, events: pa.Table, asked: Asked = "latest", silent: Collection[str] = ()
    ) -> list[PredictionRow]:
        """Rows of every patient and moment: one per score, or a single rejected one.

        events  EVENTS, sorted by patient and time, facts first: as `ingest.tables` gives them.
                What comes after a prediction time is not looked at.
        silent  patients that are known, but of whom there is no event: a rejected row each.
        """
        return self.answer([self.prepare(events, asked, silent)])[0]

    def prepare(
        self, events: pa.Table, asked: Asked = "latest", silent: Collection[str] = ()
    ) -> Prepared:
        """What is asked, cut into items; see `predict`. Computes nothing with the network."""
        columns = to_timelines(events)
        columns["start"] = self._starts(columns)
        times_N = self._times(columns, asked)
        wanted = tuple(self._wanted(columns, times_N, asked, silent))
        return Prepared(cut_at(columns, times_N), wanted)

    def answer(self, several: Sequence[Prepared]) -> list[list[PredictionRow]]:
        """Rows of each of several questions, which are computed together."""
        names = several[0].items
        items = {name: np.concatenate([one.items[name] for one in several]) for name in names}
        outcomes = self._outcomes(items)
        found: list[list[PredictionRow]] = []
        for one in several:
            keys = _keys(one.items)
            mine, outcomes = outcomes[: len(keys)], outcomes[len(keys) :]
            by_key = dict(zip(keys, mine, strict=True))
            found.append(
                [
                    row
                    for subject, moments in one.wanted
                    for moment in moments or (None,)
                    for row in rows_of(
                        _item(subject, moment), by_key.get((subject, moment), _NOTHING)
                    )
                ]
            )
        return found

    def _starts(self, columns: Columns) -> Array:
        """When each patient's own time begins (N,); see `ingest.records`."""
        if self.time_unit != "timestamp":
            return np.zeros(len(columns["subject_id"]), np.int64)
        firsts = [times[times != NO_TIME][:1] for times in columns["event_time"]]
        return np.array([first[0] if len(first) else 0 for first in firsts], np.int64)

    def _times(self, columns: Columns, asked: Asked) -> Sequence[Sequence[int]]:
        if not isinstance(asked, str):
            return [sorted(set(asked.get(one, ()))) for one in columns["subject_id"]]
        params, _ = self.predictor.learned
        return self._task.moments(columns, params, every=asked == "all")

    def _wanted(
        self,
        columns: Columns,
        times_N: Sequence[Sequence[int]],
        asked: Asked,
        silent: Collection[str],
    ) -> Iterator[tuple[str, Sequence[int]]]:
        """Every patient who is asked about, with the times; none where no time is known."""
        seen = columns["subject_id"].tolist()
        if isinstance(asked, str):
            yield from zip(seen, times_N, strict=True)
            yield from ((one, ()) for one in silent)
            return
        yield from ((one, times) for one, times in zip(seen, times_N, strict=True) if one in asked)
        known = set(seen)
        yield from ((one, sorted(set(times))) for one, times in asked.items() if one not in known)

    def _outcomes(self, items: Columns) -> list[Outcome]:
        """The answer for every item (M,); one in which the model reads nothing is refused."""
        outcomes = self.predictor.predict_columns({name: items[name] for name in self._task.inputs})
        return [
            outcome if count else _STRANGE
            for outcome, count in zip(outcomes, self.reads(items), strict=True)
        ]

    def reads(self, items: Columns) -> Array:
        """How many events of each item say anything to the model (M,)."""
        return self._task.reads(items, self.predictor.learned[1])

    def unknown(self, codes: Mapping[str, int]) -> dict[str, int]:
        """Of code → events, those that the model has never seen."""
        names = list(codes)
        known = self._task.knows(tokens(names), self.predictor.learned[1])
        return {name: codes[name] for name, seen in zip(names, known, strict=True) if not seen}


def _keys(items: Columns) -> list[tuple[str, int | None]]:
    return list(zip(items["subject_id"].tolist(), items["prediction_time"].tolist(), strict=True))


def _item(subject: str, moment: int | None) -> ItemKey:
    if moment is None:
        return ItemKey(subject, subject, subject, subject)
    time = _EPOCH + timedelta(microseconds=moment)
    return ItemKey(f"{subject}@{moment}", subject, subject, subject, prediction_time=time)
