"""From credit for a network's inputs to credit for the events that they were made of.

A value carried forward, its mask and the time since it was measured all stand there because of one
earlier event; what a step's input was worth is therefore the worth of the events behind it.

Shapes: B histories, E events of all of them end to end, T steps of the longest, V channels that
change in time, S channels of facts, K codes of one step, P pairs of an event and an input it fed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medray.records.steps import Located, Steps, Vocabulary, last_observed, locate, members

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class InputCredit:
    """Credit for inputs, zero where an input stands as if nothing were known.

    timed (B, T, V): of value, mask and gap together. codes (B, T, K). facts (B, S).
    """

    timed: Array
    codes: Array
    facts: Array


@dataclass(frozen=True, slots=True)
class EventCredit:
    """Credit for events.

    events     B arrays (E,), in the order of the histories.
    read       B arrays (E,) bool: whether the event fed any input at all.
    remainder  (B,): credit that no event owns.
    """

    events: tuple[Array, ...]
    read: tuple[Array, ...]
    remainder: Array


def to_events(
    credit: InputCredit,
    steps: Steps,
    histories: Mapping[str, Any],
    prediction_time: Array,
    vocabulary: Vocabulary,
    *,
    step_hours: float | None,
    max_steps: int | None,
) -> EventCredit:
    """Hand the credit for inputs to events; together with the remainder it stays the same sum.

    Events that share a step and a channel were averaged, and share in equal parts. `steps` and the
    arguments after it are what the inputs were made from; see `steps_of`.
    """
    found = locate(histories, prediction_time, step_hours=step_hours, max_steps=max_steps)
    total_E = np.zeros(len(found.item))
    read_E = np.zeros(len(found.item), bool)
    for event_P, cell_P, credit_C in (
        _channel_pairs(found, credit, steps, vocabulary),
        _code_pairs(found, credit, steps, vocabulary),
        _fact_pairs(found, credit, vocabulary),
    ):
        sharing_C = np.bincount(cell_P, minlength=len(credit_C))
        np.add.at(total_E, event_P, credit_C[cell_P] / sharing_C[cell_P])
        read_E[event_P] = True
    count = len(prediction_time)
    given_B = np.bincount(found.item, total_E, minlength=count)
    whole_B = sum(part.reshape(count, -1).sum(axis=1) for part in _parts(credit))
    ends = np.cumsum(np.bincount(found.item, minlength=count))[:-1]
    return EventCredit(
        events=tuple(np.split(total_E, ends)),
        read=tuple(np.split(read_E, ends)),
        remainder=whole_B - given_B,
    )


def _parts(credit: InputCredit) -> tuple[Array, Array, Array]:
    return credit.timed, credit.codes, credit.facts


def carried_back(credit_BTV: Array, observed_BTV: Array) -> Array:
    """Sum credit at the step of the observation behind it (B, T, V).

    What stands before the first observation of its channel is left out.
    """
    last_BTV = last_observed(observed_BTV)
    back_BTV = np.zeros(credit_BTV.shape)
    item, step, channel = np.nonzero(last_BTV >= 0)
    target = (item, last_BTV[item, step, channel], channel)
    np.add.at(back_BTV, target, credit_BTV[item, step, channel])
    return back_BTV


def _channel_pairs(
    found: Located, credit: InputCredit, steps: Steps, vocabulary: Vocabulary
) -> tuple[Array, Array, Array]:
    """Events of channels over time: (P,) event, (P,) cell, and the credit of every cell."""
    width = len(vocabulary.timed)
    code, text, value = (column[found.timed] for column in (found.code, found.text, found.value))
    events: list[Array] = [np.empty(0, np.int64)]
    cells: list[Array] = [np.empty(0, np.int64)]
    had = np.zeros(len(code), bool)
    for index, _, mask in members(code, text, value, vocabulary.timed, had):
        rows = np.flatnonzero(mask & (found.row >= 0))
        events.append(found.timed[rows])
        cells.append(found.row[rows] * width + index)
    back = carried_back(credit.timed, steps.observed)
    return np.concatenate(events), np.concatenate(cells), back.ravel()


def _code_pairs(
    found: Located, credit: InputCredit, steps: Steps, vocabulary: Vocabulary
) -> tuple[Array, Array, Array]:
    """Events of codes without channel; a cell is one of the K places of a step."""
    width = steps.codes.shape[-1]
    place_of = {code: place for place, code in enumerate(vocabulary.presence, start=1)}
    code_W = found.code[found.timed]
    place_W = np.array([place_of.get(code, 0) for code in code_W.tolist()], np.int64)
    rows = np.flatnonzero((place_W > 0) & (found.row >= 0))
    codes_RK = steps.codes.reshape(steps.hours.size, width)
    at_K = codes_RK[found.row[rows]] == place_W[rows, None]
    pair, column = np.nonzero(at_K)
    cell = found.row[rows[pair]] * width + column
    return found.timed[rows[pair]], cell, credit.codes.ravel()


def _fact_pairs(
    found: Located, credit: InputCredit, vocabulary: Vocabulary
) -> tuple[Array, Array, Array]:
    """Facts without time."""
    facts = np.flatnonzero(found.fact)
    code, text, value = (column[facts] for column in (found.code, found.text, found.value))
    events: list[Array] = [np.empty(0, np.int64)]
    cells: list[Array] = [np.empty(0, np.int64)]
    had = np.zeros(len(code), bool)
    for index, _, mask in members(code, text, value, vocabulary.static, had):
        rows = np.flatnonzero(mask)
        events.append(facts[rows])
        cells.append(found.item[facts[rows]] * len(vocabulary.static) + index)
    return np.concatenate(events), np.concatenate(cells), credit.facts.ravel()
