"""Prediction times and outcomes, against brute force over every event."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medray.errors import DataError
from medray.records.steps import HOUR, NO_TIME
from medray.records.tasks import (
    DAY,
    TIMELINE,
    OutcomeSpec,
    PredictAt,
    causes_of,
    cut,
    observe,
    within,
)
from medray.records.tokens import token
from tests.unit.records.record_histories import Event, columns_of, events

BIRTH = token("MEDS_BIRTH")


def patients(histories: list[list[Event]], **facts: Any) -> dict[str, Any]:
    columns = columns_of(histories)
    count = len(histories)
    names = np.empty(count, object)
    names[:] = [f"s{row}" for row in range(count)]
    starts = np.full(count, -15 * HOUR, np.int64)
    more = {name: np.asarray(values) for name, values in facts.items()}
    return columns | {"item_id": names, "subject_id": names, "start": starts} | more


def day(days: float) -> int:
    return round(days * DAY)


@given(
    histories=st.lists(events(), max_size=4),
    at=st.sampled_from(["visits", "end", PredictAt(days=(0.5, 0.0, 0.25, 0.5))]),
)
def test_items_hold_all_up_to_their_time_and_nothing_later(
    histories: list[list[Event]], at: Any
) -> None:
    columns = patients(histories)
    items = cut(columns, at)
    wanted: list[tuple[str, int]] = []
    for row, history in enumerate(histories):
        times = sorted({event.time for event in history if event.time is not None})
        if isinstance(at, PredictAt):
            moments = [-15 * HOUR + day(days) for days in (0.0, 0.25, 0.5)]
        else:
            moments = times[-1:] if at == "end" else times
        wanted += [(f"s{row}", t) for t in moments if any(time <= t for time in times)]
    found = list(zip(items["subject_id"], items["prediction_time"].tolist(), strict=True))
    assert found == wanted
    assert len(set(items["item_id"])) == len(wanted)
    last: dict[int, int] = {}
    for place, row in enumerate(items["row"]):
        moment = items["prediction_time"][place]
        history = columns["event_time"][row]
        kept = items["event_time"][place]
        np.testing.assert_array_equal(kept, history[history <= moment])  # NO_TIME is the least
        for name in TIMELINE:
            np.testing.assert_array_equal(items[name][place], columns[name][row][: len(kept)])
        assert items["told"][place] == last.get(row, 0)
        last[row] = len(kept)


def test_a_birth_is_no_visit() -> None:
    born = Event(-100 * DAY, BIRTH, 0, None)
    columns = patients([[born, Event(0, 1, 0, 1.0)], [born]])
    for at in ("visits", "end"):
        items = cut(columns, at)
        assert items["prediction_time"].tolist() == [0]
        assert len(items["event_time"][0]) == 2  # but the model sees it
    assert not len(cut(columns, PredictAt(days=(0.0,)))["item_id"])


@given(
    histories=st.lists(events(facts=False).filter(len), min_size=1, max_size=4),
    text=st.sampled_from([None, "eleven"]),
    horizon=st.sampled_from([1 / 96, 1 / 24, 0.25, 1.0]),  # days; a quarter of an hour and up
)
def test_the_next_event_of_a_code(
    histories: list[list[Event]], text: str | None, horizon: float
) -> None:
    # codes and texts are names of words: give them some
    words = {number: token(f"code {number}") for number in range(1, 6)}
    texts = {0: 0, 11: token("eleven"), 12: token("twelve")}
    named = [[e._replace(code=words[e.code], text=texts[e.text]) for e in h] for h in histories]
    columns = patients(named)
    spec = OutcomeSpec(code="code 3", text=text)
    items = cut(columns, "visits")
    answers = within(observe(items, columns, spec), horizon)
    for row, moment, answer in zip(items["row"], items["prediction_time"], answers, strict=True):
        history = named[row]
        hits = [
            e.time
            for e in history
            if e.code == words[3]
            and e.time > moment
            and text in (None, {texts[11]: "eleven"}.get(e.text))
        ]
        end = max(e.time for e in history)
        in_time = moment + day(horizon)
        if any(hit <= in_time for hit in hits):
            assert answer == 1
        elif hits or end >= in_time:
            # it comes later, or the record goes on without it
            assert answer == 0
        else:
            assert math.isnan(answer)


FACTS = [
    # start + 1 day is the prediction: cause, days since the start, → known within 2 days of it
    ("dead", 2.5, 1),  # in time
    ("dead", 3.0, 1),  # exactly at the horizon
    ("dead", 3.01, 0),  # later
    ("dead", 1.0, None),  # at the very moment of the prediction
    ("dead", 0.5, None),  # before it
    ("alive", 9.0, 0),  # seen alive after the horizon
    ("alive", 3.0, 0),  # followed up to it
    ("alive", 2.9, None),  # lost before it
    ("alive", 0.5, None),  # lost before the prediction
    ("transplant", 2.0, 0),  # a competing outcome: it never happens any more
    ("transplant", 9.0, 0),
    (None, 9.0, None),
    ("dead", None, None),
]


def test_outcomes_from_a_table_of_facts() -> None:
    status = np.array([what for what, _, _ in FACTS], object)
    days = np.array([np.nan if d is None else d for _, d, _ in FACTS])
    histories = [[Event(-15 * HOUR, 1, 0, 1.0)]] * len(FACTS)
    spec = OutcomeSpec.model_validate(
        {
            "column": "status",
            "causes": {"death": "dead", "transplant": "transplant"},
            "time": "years",
            "time_unit": "years",
        }
    )
    columns = patients(histories, status=status, years=days / 365.25)
    items = cut(columns, PredictAt(days=(1.0,)))
    found = within(observe(items, columns, spec), 2.0).tolist()
    assert [None if math.isnan(value) else value for value in found] == [w for _, _, w in FACTS]


@pytest.mark.parametrize(
    ("values", "more", "wanted"),
    [
        (np.array([0.0, 1.0, np.nan]), {}, [0, 1, None]),
        (np.array([1.0, 2.0, 3.0, np.nan]), {"value": "2"}, [0, 1, 0, None]),
        (np.array([1.0, 2.0, 0.0]), {"causes": {"a": "2", "b": "1"}}, [2, 1, 0]),
        (np.array([0.0, 1.0]), {"value": "true"}, [0, 1]),
        (np.array([0.0, 1.0]), {"value": "False"}, [1, 0]),
        (np.array(["a", None, "b"], object), {"value": "b"}, [0, None, 1]),
    ],
)
def test_causes(values: Any, more: Any, wanted: list[Any]) -> None:
    found = causes_of(values, OutcomeSpec(column="x", **more)).tolist()
    assert [None if math.isnan(value) else value for value in found] == wanted


@pytest.mark.parametrize(
    ("values", "more", "why"),
    [
        (np.array([0.0, 2.0]), {}, "more than 0 and 1"),
        (np.array(["yes"], object), {}, "holds texts"),
        (np.array([0.0, 1.0]), {"value": "dead"}, "names a text"),
        (np.array([0.0, 1.0]), {"causes": {"a": "1", "b": "dead"}}, "names a text"),
    ],
)
def test_causes_that_cannot_be_told(values: Any, more: Any, why: str) -> None:
    with pytest.raises(DataError, match=why):
        causes_of(values, OutcomeSpec(column="x", **more))


def test_whether_it_happens_at_all() -> None:
    columns = patients([[Event(0, 1, 0, 1.0)]] * 3, died=np.array([1.0, 0.0, np.nan]))
    observed = observe(cut(columns, "end"), columns, OutcomeSpec(column="died"))
    assert np.isnan(observed.days).all()
    np.testing.assert_array_equal(within(observed, None), [1, 0, np.nan])


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({}, "either the `code`"),
        ({"code": "a", "column": "b"}, "either the `code`"),
        ({"code": "a", "time": "t"}, "belong to `column`"),
        ({"column": "a", "text": "t"}, "belongs to `code`"),
        ({"column": "a", "value": "v", "causes": {"b": "c"}}, "leave one out"),
        ({"column": "a", "time": "t", "time_unit": "timestamp"}, "give its unit"),
    ],
)
def test_outcomes_that_cannot_be(spec: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        OutcomeSpec.model_validate(spec)


def test_a_patient_without_start_or_events_gives_no_item() -> None:
    columns = patients([[], [Event(None, 1, 0, 1.0)]])
    columns["start"] = np.full(2, NO_TIME)
    for at in ("visits", "end", PredictAt(days=(2.0,))):
        assert not len(cut(columns, at)["item_id"])
