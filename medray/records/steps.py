"""Histories → time steps: values, masks and gaps, as a recurrent network reads them.

Shapes: B histories, E events of one, T steps of the longest, V channels that change in time,
S channels of facts without time, K codes of one step that have no channel of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medray.records.scale import Scale
from medray.records.tokens import NONE
from medray.spec.base import Section

Array = NDArray[Any]

HOUR = 3_600_000_000  # microseconds
NO_TIME = np.iinfo(np.int64).min
_CLIP = 5.0  # standard deviations: what lies beyond is an error or says no more


class Channel(Scale):
    """One input. A code's number, or one text of a code: 1 where it is said, 0 where another is.

    code, text  64-bit names; text 0: the number, whose scale it holds.
    """

    code: int
    text: int = 0


class Vocabulary(Section):
    """What of the codes was learned from `train`.

    timed, static  channels of values over time, and of facts without time.
    presence       codes that have neither number nor text (diagnoses, drugs), most frequent first;
                   a code that is in none of the three is unknown to the model, and counted.
    """

    timed: tuple[Channel, ...] = ()
    static: tuple[Channel, ...] = ()
    presence: tuple[int, ...] = ()

    def knows(self, codes: Array) -> Array:
        """Whether each code (N,) is one of them."""
        channels = (channel.code for channel in (*self.timed, *self.static))
        return np.isin(codes, [*channels, *self.presence])

    def reads(self, time: Array, code: Array, text: Array, value: Array) -> Array:
        """Whether each event (N,) says anything to a network: its code is known, and its value."""
        fact = time == NO_TIME
        found = ~fact & np.isin(code, self.presence)
        for channels, here in ((self.timed, ~fact), (self.static, fact)):
            numbers = [channel.code for channel in channels if channel.text == NONE]
            texts = [channel.code for channel in channels if channel.text != NONE]
            found |= here & np.isin(code, numbers) & ~np.isnan(value)
            found |= here & np.isin(code, texts) & (text != NONE)
        return found


@dataclass(frozen=True, slots=True)
class Steps:
    """Time steps of B histories, padded to the longest.

    values  (B, T, V) float32, standardised, the mean of a step; 0 where not observed.
    least, greatest   (B, T, V) float32, of the same step. observed (B, T, V) bool.
    hours   (B, T) float32: before the prediction time, falling; padding 0. lengths (B,) int64.
    codes   (B, T, K) int64: 1-based places in `presence`, 0 padding.
    static  (B, S) float32, 0 where not known; static_known (B, S) bool.
    unknown (B,) events whose code the model has never seen.
    """

    values: Array
    least: Array
    greatest: Array
    observed: Array
    hours: Array
    lengths: Array
    codes: Array
    static: Array
    static_known: Array
    unknown: Array


def steps_of(
    histories: Mapping[str, Any],
    prediction_time: Array,
    vocabulary: Vocabulary,
    *,
    step_hours: float | None,
    max_steps: int | None,
) -> Steps:
    """Events of B histories, none later than its prediction time (B,), as time steps.

    histories   TIMELINE columns: per event array B arrays of E values.
    step_hours  events of one interval, counted back from the prediction time, make one step, with
                the mean, least and greatest of their values; absent: events of one moment do.
    max_steps   the latest so many are kept.
    """
    found = locate(histories, prediction_time, step_hours=step_hours, max_steps=max_steps)
    count, longest, row = len(prediction_time), found.longest, found.row
    item_E, code_E, text_E, value_E = found.item, found.code, found.text, found.value
    static, known, met = _facts(
        item_E, code_E, text_E, value_E, found.fact, count, vocabulary.static
    )
    timed_E = found.timed
    item, code = item_E[timed_E], code_E[timed_E]
    values, observed, had_channel = _values(
        row, code, text_E[timed_E], value_E[timed_E], count * longest, vocabulary.timed
    )
    codes, had_code = _codes(row, code, count * longest, vocabulary.presence)
    strange = np.bincount(item[~(had_channel | had_code)], minlength=count)
    strange += np.bincount(item_E[found.fact][~met], minlength=count)
    shape = (count, longest)
    return Steps(
        values=values[0].reshape(*shape, observed.shape[1]),
        least=values[1].reshape(*shape, observed.shape[1]),
        greatest=values[2].reshape(*shape, observed.shape[1]),
        observed=observed.reshape(*shape, observed.shape[1]),
        hours=found.hours,
        lengths=found.lengths,
        codes=codes.reshape(*shape, codes.shape[1]),
        static=static,
        static_known=known,
        unknown=strange,
    )


@dataclass(frozen=True, slots=True)
class Located:
    """Events of B histories end to end, and the time step of each.

    item, code, text, value  (E,) of all histories together; fact (E,) bool: without time.
    timed    (W,) places in E of events with a time; row (W,): item·T + step, -1 where the step is
             older than those kept.
    hours    (B, T) float32, lengths (B,) int64, as in `Steps`.
    """

    item: Array
    code: Array
    text: Array
    value: Array
    fact: Array
    timed: Array
    row: Array
    hours: Array
    lengths: Array

    @property
    def longest(self) -> int:
        """T."""
        return self.hours.shape[1]


def locate(
    histories: Mapping[str, Any],
    prediction_time: Array,
    *,
    step_hours: float | None,
    max_steps: int | None,
) -> Located:
    """Find the time step of every event; see `steps_of`."""
    count = len(prediction_time)
    sizes = np.array([len(times) for times in histories["event_time"]], np.int64)
    item_E = np.repeat(np.arange(count), sizes)
    time_E, code_E, text_E, value_E = (
        np.concatenate([*histories[name], np.empty(0, kind)])
        for name, kind in (
            ("event_time", np.int64),
            ("event_code", np.int64),
            ("event_text", np.int64),
            ("event_value", np.float32),
        )
    )
    there_E = code_E != NONE  # padding of a self-test
    timed = np.flatnonzero(there_E & (time_E != NO_TIME))
    before = np.asarray(prediction_time, np.int64)[item_E[timed]] - time_E[timed]
    place, step_item, step_time = _places(item_E[timed], before, step_hours)
    rank, lengths, kept = _ranks(step_item, count, max_steps)
    longest = int(lengths.max(initial=1)) or 1
    step_row = np.where(kept, step_item * longest + rank, -1)
    hours = np.zeros(count * longest, np.float32)
    hours[step_row[kept]] = step_time[kept] / HOUR
    return Located(
        item=item_E,
        code=code_E,
        text=text_E,
        value=value_E,
        fact=there_E & (time_E == NO_TIME),
        timed=timed,
        row=step_row[place] if len(place) else np.empty(0, np.int64),
        hours=hours.reshape(count, longest),
        lengths=lengths,
    )


def _places(item: Array, before: Array, step_hours: float | None) -> tuple[Array, Array, Array]:
    """Of every event its step; of every step its item and its time before the prediction."""
    if step_hours is None:
        key = before
    else:
        width = int(step_hours * HOUR)
        key = (before // width) * width
    # earlier steps first: the sort is by item, then by falling distance from the prediction
    order = np.lexsort((-key, item))
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(item[order]) != 0) | (np.diff(key[order]) != 0)
    number = np.cumsum(new) - 1
    place = np.empty(len(order), np.int64)
    place[order] = number
    return place, item[order][new], key[order][new]


def _ranks(step_item: Array, count: int, most: int | None) -> tuple[Array, Array, Array]:
    """Number steps within their item from 0, the latest `most` of them; lengths (B,)."""
    total = np.bincount(step_item, minlength=count)
    first = np.concatenate([[0], np.cumsum(total)[:-1]]) if count else np.empty(0, np.int64)
    rank = np.arange(len(step_item)) - first[step_item]
    if most is not None:
        rank = rank - np.maximum(total - most, 0)[step_item]
    lengths = total if most is None else np.minimum(total, most)
    return rank, lengths.astype(np.int64), rank >= 0


def transformed(values: Array, channel: Channel) -> Array:
    """Standardise values of a channel, cut at 5 standard deviations."""
    return np.clip(channel.standard(values), -_CLIP, _CLIP)


def _values(
    row: Array, code: Array, text: Array, value: Array, rows: int, channels: Sequence[Channel]
) -> tuple[Array, Array, Array]:
    """(3, rows, V) mean, least and greatest, and (rows, V) whether observed.

    And per event whether its code has a channel.
    """
    width = len(channels)
    had = np.zeros(len(code), bool)
    flat: list[Array] = []
    numbers: list[Array] = []
    for index, channel, mask in members(code, text, value, channels, had):
        events = np.flatnonzero(mask & (row >= 0))
        flat.append(row[events] * width + index)
        said = (
            transformed(value[events].astype(np.float64), channel)
            if channel.text == NONE
            else (text[events] == channel.text).astype(np.float64)
        )
        numbers.append(said)
    places = np.concatenate([*flat, np.empty(0, np.int64)])
    weights = np.concatenate([*numbers, np.empty(0)])
    values, observed = _of_places(places, weights, rows * width)
    return values.reshape(3, rows, width), observed.reshape(rows, width), had


def _of_places(places: Array, numbers: Array, size: int) -> tuple[Array, Array]:
    """(3, size) float32 mean, least and greatest number of every place, and which have any."""
    counts = np.bincount(places, minlength=size)
    values = np.zeros((3, size), np.float32)
    values[0] = np.bincount(places, numbers, minlength=size) / np.maximum(counts, 1)
    observed = counts > 0
    if len(places):
        ordered = numbers[np.argsort(places, kind="stable")]
        starts = (np.cumsum(counts) - counts)[observed]
        values[1, observed] = np.minimum.reduceat(ordered, starts)
        values[2, observed] = np.maximum.reduceat(ordered, starts)
    return values, observed


def members(
    code: Array, text: Array, value: Array, channels: Sequence[Channel], had: Array
) -> list[tuple[int, Channel, Array]]:
    """Events of every channel; `had` becomes true for events whose code has one."""
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    found: list[tuple[int, Channel, Array]] = []
    for index, channel in enumerate(channels):
        low, high = np.searchsorted(ordered, [channel.code, channel.code + 1])
        mask = np.zeros(len(code), bool)
        mask[order[low:high]] = True
        had |= mask
        mask &= ~np.isnan(value) if channel.text == NONE else text != NONE
        found.append((index, channel, mask))
    return found


def _codes(row: Array, code: Array, rows: int, presence: Sequence[int]) -> tuple[Array, Array]:
    """(rows, K) codes without channel; per event whether it is one of them."""
    table = np.array(presence, np.int64)
    order = np.argsort(table)
    found = np.searchsorted(table[order], code) if len(table) else np.zeros(len(code), np.int64)
    found = np.minimum(found, max(len(table) - 1, 0))
    had = table[order][found] == code if len(table) else np.zeros(len(code), bool)
    events = np.flatnonzero(had & (row >= 0))
    pairs = np.unique(np.stack([row[events], order[found[events]] + 1]), axis=1)
    if not pairs.shape[1]:
        return np.zeros((rows, 0), np.int64), had
    starts = np.searchsorted(pairs[0], pairs[0])  # first pair of the same row
    column = np.arange(pairs.shape[1]) - starts
    codes = np.zeros((rows, int(column.max()) + 1), np.int64)
    codes[pairs[0], column] = pairs[1]
    return codes, had


def _facts(
    item_E: Array,
    code_E: Array,
    text_E: Array,
    value_E: Array,
    fact_E: Array,
    count: int,
    channels: Sequence[Channel],
) -> tuple[Array, Array, Array]:
    """(B, S) values and whether known, of facts without time; per fact whether it has a channel."""
    rows = np.flatnonzero(fact_E)
    values, known, had = _values(
        item_E[rows], code_E[rows], text_E[rows], value_E[rows], count, channels
    )
    return values[0], known, had


def last_observed(observed_BTV: Array) -> Array:
    """Step of the last observation of every channel up to every step (B, T, V); -1: none yet."""
    index_T = np.arange(observed_BTV.shape[1])[None, :, None]
    return np.maximum.accumulate(np.where(observed_BTV, index_T, -1), axis=1)


def carried_forward(steps: Steps) -> tuple[Array, Array]:
    """Last observed value of every channel at every step, and the hours since then.

    Both (B, T, V) float32; before the first observation the value is 0, the mean of `train`, and
    the hours count from the first step.
    """
    count, longest, width = steps.values.shape
    last = last_observed(steps.observed)
    seen = last >= 0
    at = np.maximum(last, 0)
    value = np.where(seen, np.take_along_axis(steps.values, at, axis=1), 0.0)
    hours = np.broadcast_to(steps.hours[:, :, None], (count, longest, width))
    since = np.take_along_axis(hours, at, axis=1) - hours
    return value.astype(np.float32), np.maximum(since, 0).astype(np.float32)


def gaps(steps: Steps) -> Array:
    """Hours from the observation before to every step (B, T, V) float32, observed there or not.

    The delta of GRU-D (Che et al. 2018, arXiv:1606.01865, section 2.3): where nothing was observed
    before, hours from the first step, so that the first step has 0. At a step without observation
    it is what `carried_forward` says; at one with, that says 0.
    """
    count, longest, width = steps.values.shape
    index_T = np.arange(longest)[None, :, None]
    last = np.maximum.accumulate(np.where(steps.observed, index_T, 0), axis=1)
    before = np.concatenate([np.zeros_like(last[:, :1]), last[:, :-1]], axis=1)
    hours = np.broadcast_to(steps.hours[:, :, None], (count, longest, width))
    gap = np.take_along_axis(hours, before, axis=1) - hours
    return np.maximum(gap, 0).astype(np.float32)
