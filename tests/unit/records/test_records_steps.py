"""Histories → time steps, against a plain loop over events."""

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medray.records.steps import (
    HOUR,
    Channel,
    Steps,
    Vocabulary,
    carried_forward,
    gaps,
    steps_of,
)
from tests.unit.records.record_histories import CODES, Event, columns_of, events

TIMED = (
    Channel(code=1, mean=1.0, std=2.0),
    Channel(code=2, transform="log", mean=0.5, std=0.5),
    Channel(code=3, text=11),
    Channel(code=3, text=12),
)
STATIC = (Channel(code=4, mean=-1.0, std=4.0), Channel(code=3, text=11))
WORDS = Vocabulary(timed=TIMED, static=STATIC, presence=(5, 4))


def said(event: Event, channel: Channel) -> float | None:
    """What an event says on a channel, or nothing."""
    if event.code != channel.code:
        return None
    if channel.text:
        return None if not event.text else float(event.text == channel.text)
    if event.value is None:
        return None
    value = math.log1p(max(event.value, 0)) if channel.transform == "log" else event.value
    return min(max((value - channel.mean) / channel.std, -5.0), 5.0)


def mean(values: list[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def oracle(
    history: list[Event], now: int, step_hours: float | None, max_steps: int | None
) -> dict[str, Any]:
    """The rule, one patient at a time: lists of steps, None where nothing was observed."""
    timed = [event for event in history if event.time is not None]
    facts = [event for event in history if event.time is None]

    def distance(event: Event) -> int:
        assert event.time is not None
        before = now - event.time
        width = None if step_hours is None else int(step_hours * HOUR)
        return before if width is None else before // width * width

    keys = sorted({distance(event) for event in timed}, reverse=True)
    keys = keys[-max_steps:] if max_steps else keys
    bins = [[event for event in timed if distance(event) == key] for key in keys]
    known = {channel.code for channel in TIMED} | set(WORDS.presence)
    return {
        "hours": [key / HOUR for key in keys],
        "values": [[mean([said(e, c) for e in bin_]) for c in TIMED] for bin_ in bins],
        "codes": [
            {WORDS.presence.index(e.code) + 1 for e in bin_ if e.code in WORDS.presence}
            for bin_ in bins
        ],
        "static": [mean([said(event, c) for event in facts]) for c in STATIC],
        "unknown": sum(event.code not in known for event in timed)
        + sum(event.code not in {channel.code for channel in STATIC} for event in facts),
    }


@given(
    histories=st.lists(events(), min_size=1, max_size=5),
    late=st.integers(0, 3 * HOUR),
    step_hours=st.sampled_from([None, 1.0, 0.5, 7.0, 1e-12 + 1 / 4]),
    max_steps=st.sampled_from([None, 1, 3, 100]),
)
def test_steps_are_what_a_plain_loop_says(
    histories: list[list[Event]], late: int, step_hours: float | None, max_steps: int | None
) -> None:
    now = np.array([late + row for row in range(len(histories))])
    found = steps_of(columns_of(histories), now, WORDS, step_hours=step_hours, max_steps=max_steps)
    for row, history in enumerate(histories):
        wanted = oracle(history, int(now[row]), step_hours, max_steps)
        length = int(found.lengths[row])
        assert length == len(wanted["hours"])
        np.testing.assert_allclose(found.hours[row, :length], wanted["hours"], rtol=1e-6)
        for step in range(found.hours.shape[1]):
            of_step = wanted["values"][step] if step < length else [None] * len(TIMED)
            seen = [value is not None for value in of_step]
            assert found.observed[row, step].tolist() == seen
            values = [0.0 if value is None else value for value in of_step]
            np.testing.assert_allclose(found.values[row, step], values, rtol=1e-5, atol=1e-6)
            codes = found.codes[row, step]
            of_codes = wanted["codes"][step] if step < length else set()
            assert set(codes[codes > 0].tolist()) == of_codes
            assert len(set(codes[codes > 0].tolist())) == (codes > 0).sum()
        assert found.static_known[row].tolist() == [v is not None for v in wanted["static"]]
        facts = [0.0 if value is None else value for value in wanted["static"]]
        np.testing.assert_allclose(found.static[row], facts, rtol=1e-5, atol=1e-6)
        assert found.unknown[row] == wanted["unknown"]
        assert not found.hours[row, length:].any()


@given(
    history=events(most=20),
    others=st.lists(events(), max_size=3),
    step=st.sampled_from([None, 2.0]),
)
def test_others_in_the_batch_and_the_order_at_one_moment_change_nothing(
    history: list[Event], others: list[list[Event]], step: float | None
) -> None:
    alone = steps_of(columns_of([history]), np.zeros(1), WORDS, step_hours=step, max_steps=None)
    turned = sorted(history, key=lambda e: (e.time is not None, e.time or 0, -e.code, -e.text))
    batch = columns_of([*others, turned])
    among = steps_of(batch, np.zeros(len(others) + 1), WORDS, step_hours=step, max_steps=None)
    length = int(alone.lengths[0])
    for name in ("values", "observed", "hours"):
        one, other = getattr(alone, name)[0, :length], getattr(among, name)[-1, :length]
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    assert alone.unknown[0] == among.unknown[-1]
    np.testing.assert_allclose(alone.static[0], among.static[-1], rtol=1e-6, atol=1e-6)


def test_a_known_code_without_a_value_is_not_unknown() -> None:
    history = [Event(-HOUR, 1, 0, None), Event(-HOUR, 3, 13, None), Event(0, 99, 0, 1.0)]
    found = steps_of(columns_of([history]), np.zeros(1), WORDS, step_hours=None, max_steps=None)
    assert found.unknown.tolist() == [1]
    # a text that was never learned says that the others are not so
    assert found.observed[0].tolist() == [[False, False, True, True], [False] * 4]
    assert found.values[0, 0].tolist() == [0, 0, 0, 0]


def test_no_history_at_all() -> None:
    found = steps_of(columns_of([[]]), np.zeros(1), WORDS, step_hours=1.0, max_steps=5)
    assert found.lengths.tolist() == [0]
    assert found.hours.shape == (1, 1)
    assert not found.observed.any()
    assert not found.static_known.any()
    none = steps_of(columns_of([]), np.zeros(0), WORDS, step_hours=1.0, max_steps=5)
    assert none.values.shape == (0, 1, len(TIMED))


def random_steps(seed: int, count: int = 3, longest: int = 9, width: int = 4) -> Steps:
    rng = np.random.default_rng(seed)
    observed = rng.random((count, longest, width)) < 0.4
    lengths = rng.integers(1, longest + 1, count)
    lengths[0] = longest
    observed &= np.arange(longest)[None, :, None] < lengths[:, None, None]
    hours = np.zeros((count, longest), np.float32)
    for row, length in enumerate(lengths):
        hours[row, :length] = np.sort(rng.uniform(0, 100, length))[::-1]
    values = np.where(observed, rng.normal(size=observed.shape), 0).astype(np.float32)
    return Steps(
        values=values,
        least=values,
        greatest=values,
        observed=observed,
        hours=hours,
        lengths=lengths,
        codes=np.zeros((count, longest, 0), np.int64),
        static=np.zeros((count, 0), np.float32),
        static_known=np.zeros((count, 0), bool),
        unknown=np.zeros(count, np.int64),
    )


@given(seed=st.integers(0, 10_000))
def test_values_carried_forward_and_the_gaps_of_the_paper(seed: int) -> None:
    steps = random_steps(seed)
    carried, since = carried_forward(steps)
    gap = gaps(steps)
    for row, length in enumerate(steps.lengths):
        hours = steps.hours[row]
        for channel in range(steps.values.shape[2]):
            last, at, delta = 0.0, hours[0], 0.0
            for step in range(length):
                if step > 0:  # Che et al. 2018, section 2.3
                    passed = hours[step - 1] - hours[step]
                    delta = passed + (0.0 if steps.observed[row, step - 1, channel] else delta)
                if steps.observed[row, step, channel]:
                    last, at = steps.values[row, step, channel], hours[step]
                assert carried[row, step, channel] == last
                np.testing.assert_allclose(since[row, step, channel], at - hours[step], atol=1e-4)
                np.testing.assert_allclose(gap[row, step, channel], delta, atol=1e-4)
    assert (since >= 0).all()
    assert (gap >= 0).all()
    unseen = ~steps.observed & (np.arange(9)[None, :, None] < steps.lengths[:, None, None])
    np.testing.assert_array_equal(gap[unseen], since[unseen])


def test_every_code_is_one_of_those_tried() -> None:
    assert {channel.code for channel in (*TIMED, *STATIC)} | set(WORDS.presence) == set(CODES)
