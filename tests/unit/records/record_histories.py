"""Made-up histories for tests: lists of plain events, and the columns the package works on."""

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from medray.records.steps import HOUR, NO_TIME


class Event(NamedTuple):
    """time in microseconds, None: a fact; code; text 0: none; value None: no number."""

    time: int | None
    code: int
    text: int
    value: float | None


CODES = (1, 2, 3, 4, 5)


def events(most: int = 14, facts: bool = True) -> st.SearchStrategy[list[Event]]:
    """A history in the order of a dataset: facts first, then by time."""
    hours = st.integers(-60, 0).map(lambda quarter: quarter * HOUR // 4)
    time = st.one_of(st.none(), hours, hours, hours) if facts else hours
    value = st.one_of(st.none(), st.integers(-8, 8).map(float))
    one = st.builds(Event, time, st.sampled_from(CODES), st.sampled_from((0, 0, 11, 12)), value)
    return st.lists(one, max_size=most).map(in_order)


def in_order(history: list[Event]) -> list[Event]:
    return sorted(history, key=lambda event: (event.time is not None, event.time or 0))


def columns_of(histories: list[list[Event]]) -> dict[str, Any]:
    """TIMELINE columns: per event array an object array of arrays."""
    kinds = {"event_time": "i8", "event_code": "i8", "event_text": "i8", "event_value": "f4"}
    columns: dict[str, Any] = {}
    for place, (name, kind) in enumerate(kinds.items()):
        columns[name] = np.empty(len(histories), object)
        for row, history in enumerate(histories):
            cells = [event[place] for event in history]
            empty = NO_TIME if place == 0 else np.nan
            columns[name][row] = np.array([empty if c is None else c for c in cells], kind)
    return columns
