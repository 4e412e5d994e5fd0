"""What is learned from `train` before any network is: channels, their scale, known codes.

Sums of batches are added up, so that the split may be larger than memory. Shapes: E events.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medray.records.steps import NO_TIME, Channel, Vocabulary
from medray.records.tokens import NONE

Array = NDArray[Any]

SUMS: Final = pa.schema(
    [
        pa.field("fact", pa.bool_()),  # without time
        pa.field("code", pa.int64()),
        pa.field("text", pa.int64()),  # 0: numbers, or nothing but the code
        pa.field("patients", pa.int64()),
        pa.field("events", pa.int64()),
        pa.field("numbers", pa.int64()),
        pa.field("low", pa.float64()),
        *(pa.field(f"{kind}{power}", pa.float64()) for kind in ("x", "log") for power in (1, 2, 3)),
    ]
)
_KEYS = ("fact", "code", "text", "low")
_LEVELS = 16  # texts of a code that get a channel each
_SKEWED = 1.0  # skewness from which the logarithm is tried


def sums_of(histories: Mapping[str, Any]) -> pa.Table:
    """Sums by (fact, code, text) of one batch of histories: rows of SUMS.

    histories  TIMELINE columns, and `told` (B,): how many of its first events an earlier item of
               the same patient holds already. They are not counted again, so that a patient counts
               once, whatever the number of prediction times and however they fall into batches.
    """
    sizes = [len(times) for times in histories["event_time"]]
    item = np.repeat(np.arange(len(sizes)), sizes)
    names = ("event_time", "event_code", "event_text", "event_value")
    time, code, text, value = (
        np.concatenate([*histories[name], np.empty(0, np.int64)]) for name in names
    )
    fact = time == NO_TIME
    within = np.arange(len(item)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    new = within >= np.asarray(histories["told"], np.int64)[item]
    order = np.lexsort((text, code, fact))  # stable: the events of an item stay in their order
    keys = np.stack([fact[order].astype(np.int64), code[order].astype(np.int64), text[order]])
    starts = np.flatnonzero(np.any(np.diff(keys, axis=1, prepend=-1) != 0, axis=0))
    item, new, value = item[order], new[order], value[order]
    edges = np.append(starts, len(order))
    rows = [
        _row(keys[:, start], item[start:end], new[start:end], value[start:end])
        for start, end in pairwise(edges)
    ]
    return pa.Table.from_pylist(rows, schema=SUMS)


def _row(key: Array, item: Array, new: Array, value: Array) -> dict[str, Any]:
    number = value[new & ~np.isnan(value)].astype(np.float64)
    _, first = np.unique(item, return_index=True)
    logs = np.log1p(np.maximum(number, 0))
    sums = {f"x{power}": float((number**power).sum()) for power in (1, 2, 3)}
    sums |= {f"log{power}": float((logs**power).sum()) for power in (1, 2, 3)}
    return {
        "fact": bool(key[0]),
        "code": int(key[1]),
        "text": int(key[2]),
        "patients": int(new[first].sum()),  # those of whom no earlier item had told it
        "events": int(new.sum()),
        "numbers": len(number),
        "low": float(number.min()) if len(number) else np.inf,
        **sums,
    }


def learn(sums: pa.Table, *, min_patients: int, channels: int, presence: int) -> Vocabulary:
    """Vocabulary of all batches' sums.

    min_patients  patients that must have a code for it to be learned.
    channels      at most so many channels over time, and as many of facts; the most frequent codes.
    presence      at most so many codes without a channel.
    """
    table = sums.group_by(["fact", "code", "text"]).aggregate(
        [("low", "min"), *((name, "sum") for name in SUMS.names if name not in _KEYS)]
    )
    rows = [
        {name.removesuffix("_sum").removesuffix("_min"): value for name, value in row.items()}
        for row in table.to_pylist()
    ]
    rows = [row for row in rows if row["patients"] >= min_patients and row["code"] != NONE]
    rows.sort(key=lambda row: (-row["patients"], -row["events"], row["code"], row["text"]))
    kinds = {
        fact: _channels([row for row in rows if row["fact"] == fact], channels)
        for fact in (False, True)
    }
    of_channels = {channel.code for channel in kinds[False]}
    bare = [r for r in rows if not r["fact"] and not r["numbers"] and r["text"] == NONE]
    known = [row["code"] for row in bare if row["code"] not in of_channels]
    return Vocabulary(timed=kinds[False], static=kinds[True], presence=tuple(known[:presence]))


def _channels(rows: Sequence[Mapping[str, Any]], most: int) -> tuple[Channel, ...]:
    found: list[Channel] = []
    levels: dict[int, int] = {}
    for row in rows:
        if row["text"] != NONE:
            levels[row["code"]] = levels.get(row["code"], 0) + 1
            if levels[row["code"]] <= _LEVELS:
                found.append(Channel(code=row["code"], text=row["text"]))
        elif row["numbers"]:
            found.append(_numeric(row))
    return tuple(found[:most])


def _numeric(row: Mapping[str, Any]) -> Channel:
    plain, log = (
        _moments(row["numbers"], *(row[f"{kind}{power}"] for power in (1, 2, 3)))
        for kind in ("x", "log")
    )
    skewed = row["low"] >= 0 and abs(plain[2]) > _SKEWED and abs(log[2]) < abs(plain[2])
    mean, std, _ = log if skewed else plain
    transform = "log" if skewed else "linear"
    return Channel(code=row["code"], transform=transform, mean=mean, std=std)


def _moments(count: int, first: float, second: float, third: float) -> tuple[float, float, float]:
    """Mean, standard deviation (1 where there is none) and skewness."""
    mean = first / count
    variance = max(second / count - mean**2, 0.0)
    if variance <= 1e-12 * max(1.0, mean**2):
        return mean, 1.0, 0.0
    std = variance**0.5
    skew = (third / count - 3 * mean * second / count + 2 * mean**3) / std**3
    return mean, std, skew
