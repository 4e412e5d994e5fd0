"""Credit goes from inputs to events and none is lost, whatever the record."""

import numpy as np
from histories import FITTED, TEXTS, columns, history
from hypothesis import given
from hypothesis import strategies as st

from medray.records.credit import InputCredit, to_events
from medray.records.steps import HOUR, steps_of
from medray.records.tokens import token

WORDS = FITTED.vocabulary


def channels_of(code: int, text: int, value: float) -> list[int]:
    """Channels over time that an event feeds, told anew: its number, or each text of its code."""
    return [
        place
        for place, channel in enumerate(WORDS.timed)
        if channel.code == code and (not np.isnan(value) if channel.text == 0 else text != 0)
    ]


@given(
    seed=st.integers(0, 2**32 - 1),
    step_hours=st.sampled_from([None, 1.0, 12.0]),
    max_steps=st.sampled_from([None, 1, 3]),
)
def test_every_input_is_paid_to_the_latest_events_before_it(
    seed: int, step_hours: float | None, max_steps: int | None
) -> None:
    rng = np.random.default_rng(seed)
    items = columns(*(history(rng, moments) for moments in rng.integers(1, 6, 2)))
    settings = {"step_hours": step_hours, "max_steps": max_steps}
    at = items["prediction_time"]
    steps = steps_of(items, at, WORDS, **settings)
    credit = InputCredit(
        rng.normal(size=steps.values.shape),
        rng.normal(size=steps.codes.shape) * (steps.codes > 0),
        rng.normal(size=steps.static.shape) * steps.static_known,
    )
    found = to_events(credit, steps, items, at, WORDS, **settings)
    for row in range(2):
        owed, unowned = expected(row, items, steps, credit, step_hours)
        np.testing.assert_allclose(found.events[row], owed, atol=1e-9)
        np.testing.assert_allclose(found.remainder[row], unowned, atol=1e-9)


def expected(row, items, steps, credit, step_hours):
    """The same by loops over cells, each looking for its owners."""
    code, text, value = (items[f"event_{name}"][row] for name in ("code", "text", "value"))
    hours = (items["prediction_time"][row] - items["event_time"][row]) / HOUR
    if step_hours is not None:
        hours = hours // step_hours * step_hours
    fact = items["event_time"][row] == np.iinfo(np.int64).min
    owed, unowned = np.zeros(len(code)), 0.0
    length = steps.lengths[row]
    at = [np.flatnonzero(~fact & np.isclose(hours, steps.hours[row, t])) for t in range(length)]

    def pay(amount: float, events: list[int]) -> None:
        nonlocal unowned
        for event in events:
            owed[event] += amount / len(events)
        unowned += 0 if events else amount

    longest = credit.timed.shape[1]
    for channel in range(len(WORDS.timed)):
        owners: list[int] = []
        for t in range(longest):
            here = at[t] if t < length else []
            fed = [e for e in here if channel in channels_of(code[e], text[e], value[e])]
            owners = fed or owners
            pay(credit.timed[row, t, channel], owners)
    for t in range(longest):
        for k, place in enumerate(steps.codes[row, t]):
            wanted = WORDS.presence[place - 1] if place else None
            pay(credit.codes[row, t, k], [e for e in at[t] if code[e] == wanted] if place else [])
    for s, channel in enumerate(WORDS.static):
        pay(credit.facts[row, s], [e for e in np.flatnonzero(fact) if code[e] == channel.code])
    return owed, unowned


def test_a_text_feeds_every_channel_of_its_code() -> None:
    items = columns([(3.0, "state", TEXTS[0])])
    settings = {"step_hours": None, "max_steps": None}
    steps = steps_of(items, items["prediction_time"], WORDS, **settings)
    timed = np.zeros(steps.values.shape)
    of_state = [i for i, c in enumerate(WORDS.timed) if c.code == token("state")]
    timed[0, 0, of_state] = [1.0, 0.5]
    credit = InputCredit(timed, np.zeros(steps.codes.shape), np.zeros(steps.static.shape))
    found = to_events(credit, steps, items, items["prediction_time"], WORDS, **settings)
    assert found.events[0].tolist() == [1.5]
