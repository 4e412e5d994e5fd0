"""Histories → tensors: the same code in training, scoring and serving.

Shapes: B items, T steps of the longest, V channels, S facts, K codes of a step.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from medray.records.steps import Steps, carried_forward, gaps, steps_of
from medray.records.tasks import TIMELINE
from medray.workload import Batch, Columns
from medray.workloads.timeline.params import TimelineFitted, TimelineParams

Array = np.ndarray[Any, Any]

OUTCOME = "outcome"  # observed value of an item, made by `Timeline.items`
INPUTS = (*TIMELINE, "prediction_time")
_ROWS = 512
_IN_TIME = ("carried", "least", "greatest", "observed", "since", "gap", "hours", "codes")


def steps(columns: Columns, params: TimelineParams, fitted: TimelineFitted) -> Steps:
    """Time steps of a batch of items."""
    histories = {name: columns[name] for name in TIMELINE}
    return steps_of(
        histories,
        np.asarray(columns["prediction_time"]),
        fitted.vocabulary,
        step_hours=params.step_hours,
        max_steps=params.max_steps,
    )


def unseen(columns: Columns, params: TimelineParams, fitted: TimelineFitted) -> Array:
    """Events of every item (B,) whose code the model does not know."""
    return np.concatenate([part.unknown for part in in_parts(columns, params, fitted)])


def in_parts(columns: Columns, params: TimelineParams, fitted: TimelineFitted) -> Iterator[Steps]:
    """Time steps of many items, some at a time: padding is to the longest of a part."""
    rows = len(columns["prediction_time"])
    inputs = {name: columns[name] for name in INPUTS}
    for at in range(0, max(rows, 1), _ROWS):
        part = {name: values[at : at + _ROWS] for name, values in inputs.items()}
        yield steps(part, params, fitted)


def collate(columns: Columns, params: TimelineParams, fitted: TimelineFitted) -> Batch:
    """`carried`, `observed`, `since`, `gap` (B, T, V), `hours` (B, T), `codes` (B, T, K), `lengths`
    (B,), `facts` (B, 2S); with steps of several moments `least`, `greatest` (B, T, V); `labels`
    (B,) when they are there."""  # noqa: D205, D209
    found = steps(columns, params, fitted)
    carried, since = carried_forward(found)
    known = found.static_known.astype(np.float32)
    batch = {
        "carried": torch.from_numpy(carried),
        "observed": torch.from_numpy(found.observed),
        "since": torch.from_numpy(since),
        "gap": torch.from_numpy(gaps(found)),
        "hours": torch.from_numpy(found.hours),
        "codes": torch.from_numpy(found.codes),
        "lengths": torch.from_numpy(found.lengths),
        "facts": torch.from_numpy(np.concatenate([found.static * known, known], axis=1)),
    }
    if params.step_hours is not None:  # else a step is one moment, most often with one value
        batch["least"] = torch.from_numpy(found.least)
        batch["greatest"] = torch.from_numpy(found.greatest)
    if OUTCOME in columns:
        batch["labels"] = torch.from_numpy(np.asarray(columns[OUTCOME], np.float32))
    return batch


def trim(batch: Batch) -> Batch:
    """Leave off the steps that no row of the batch has."""
    longest = max(1, int(batch["lengths"].max()))
    return {
        name: values[:, :longest] if name in _IN_TIME else values for name, values in batch.items()
    }


def framed(batch: Batch) -> Batch:
    """Trimmed to its steps; places for codes padded to the next of few fixed numbers."""
    padded = dict(trim(batch))
    codes = padded["codes"]
    most = int((codes != 0).sum(dim=2).max()) if codes.numel() else 0
    padded["codes"] = functional.pad(codes[:, :, :most], [0, _frame(most) - most])
    return padded


def _frame(size: int) -> int:
    """The next of 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, …: at most a third of it is padding."""
    power = 1 << max(size - 1, 0).bit_length()
    return size if size < 3 else power * 3 // 4 if size <= power * 3 // 4 else power


def example(params: TimelineParams, fitted: TimelineFitted, rows: int) -> Columns:
    """Made-up histories over every channel and some codes, the same at every call.

    As rectangular arrays: an event of code 0 is none.
    """
    words = fitted.vocabulary
    timed = [(channel.code, channel.text) for channel in words.timed]
    timed += [(code, 0) for code in words.presence[:8]]
    facts = [(channel.code, channel.text) for channel in words.static]
    hour = 3_600_000_000
    events = 3 * len(timed) + len(facts)
    code = np.zeros((rows, events), np.int64)
    text, value = np.zeros_like(code), np.full(code.shape, np.nan, np.float32)
    time = np.full(code.shape, np.iinfo(np.int64).min)
    scale = {(c.code, c.text): c for c in (*words.timed, *words.static)}
    for row in range(rows):
        for place in range(events - row):  # the second is shorter: padding is part of the test
            fact = place < len(facts)
            number = place if fact else (place - len(facts)) % max(len(timed), 1)
            key = facts[place] if fact else timed[number]
            code[row, place], text[row, place] = key
            if key in scale and not key[1]:
                channel = scale[key]
                middle = channel.mean + channel.std * np.sin(place + row)
                value[row, place] = np.expm1(middle) if channel.transform == "log" else middle
            if not fact:
                time[row, place] = (place - len(facts)) // max(len(timed), 1) * (5 + row) * hour
    return {
        "event_time": time,
        "event_code": code,
        "event_text": text,
        "event_value": value,
        "prediction_time": np.full(rows, 24 * hour, np.int64),
    }
