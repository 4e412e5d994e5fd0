"""Least and greatest value of a time step, against plain loops over the events."""

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medray.records.steps import HOUR, NO_TIME, Channel, Vocabulary, steps_of

WORDS = Vocabulary(
    timed=(Channel(code=1, mean=2.0, std=4.0), Channel(code=2), Channel(code=3, text=9)),
    static=(Channel(code=4),),
)
# quarters of an hour before the prediction, code, value; code 3 says one of two texts
Event = tuple[int, int, int]
EVENT = st.tuples(st.integers(0, 40), st.sampled_from((1, 2, 3)), st.integers(-3, 3))


def columns(histories: list[list[Event]]) -> dict[str, Any]:
    """A fact and the events of each history, in the order of time."""
    names = ("event_time", "event_code", "event_text", "event_value")
    found: dict[str, Any] = {name: np.empty(len(histories), object) for name in names}
    for row, history in enumerate(histories):
        ordered = sorted(history, reverse=True)
        times = [NO_TIME, *(-quarter * HOUR // 4 for quarter, _, _ in ordered)]
        says = [0, *((9 if value > 0 else 8) if code == 3 else 0 for _, code, value in ordered)]
        values = [5.0, *(math.nan if code == 3 else value for _, code, value in ordered)]
        found["event_time"][row] = np.array(times, np.int64)
        found["event_code"][row] = np.array([4, *(code for _, code, _ in ordered)], np.int64)
        found["event_text"][row] = np.array(says, np.int64)
        found["event_value"][row] = np.array(values, np.float32)
    return found


def of_step(history: list[Event], channel: Channel, hours: int, number: int) -> list[float]:
    """Standardised values of one channel in one step."""
    return [
        float(value > 0) if channel.text else (value - channel.mean) / channel.std
        for quarter, code, value in history
        if code == channel.code and quarter // (4 * hours) == number
    ]


@given(st.lists(st.lists(EVENT, max_size=12), min_size=1, max_size=4), st.sampled_from((1, 4)))
def test_extremes_of_a_step(histories: list[list[Event]], hours: int) -> None:
    found = steps_of(
        columns(histories),
        np.zeros(len(histories), np.int64),
        WORDS,
        step_hours=hours,
        max_steps=None,
    )
    for row, history in enumerate(histories):
        steps = sorted({quarter // (4 * hours) for quarter, _, _ in history}, reverse=True)
        assert found.lengths[row] == len(steps)
        for step, number in enumerate(steps):
            for place, channel in enumerate(WORDS.timed):
                at = (row, step, place)
                said = of_step(history, channel, hours, number)
                assert found.observed[at] == bool(said)
                expected = (min(said), sum(said) / len(said), max(said)) if said else (0, 0, 0)
                measured = (found.least[at], found.values[at], found.greatest[at])
                np.testing.assert_allclose(measured, expected, atol=1e-6)
    np.testing.assert_allclose(found.static, 5.0)
