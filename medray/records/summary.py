"""What a dataset of timelines holds, in numbers that can be added up over shards.

Shapes: N events of a shard.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from medray.records.events import BIRTH
from medray.spec.base import Section

_DAY = np.timedelta64(86_400_000_000, "us")
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_LEVELS = 32  # texts of a code that are counted by name


class CodeCount(Section):
    """One code: events, subjects with any, and how many of its events carry a number or a text.

    levels  its texts by number of events; the most frequent of them when there are many.
    """

    events: int
    subjects: int
    numeric: int
    text: int
    levels: dict[str, int] = Field(default={})


class Shard(Section):
    """Sums of one shard.

    split_over_files  subjects whose events came from several files.
    spans_days, lengths  one entry per subject: last minus first time, and events.
    """

    subjects: int
    events: int
    static_events: int
    split_over_files: int
    codes: dict[str, CodeCount]
    spans_days: tuple[float, ...]
    lengths: tuple[int, ...]


class CodeRow(Section):
    """One code of the summary; `missing` is the share of subjects without it."""

    code: str
    events: int
    subjects: int
    missing: float
    numeric: int
    text: int
    levels: dict[str, int] = Field(default={})


class TimelineSummary(Section):
    """The dataset: subjects, events, codes, spans and missingness.

    events_per_subject, span_days  minimum, quartiles and maximum over subjects.
    """

    subjects: int = 0
    events: int = 0
    static_events: int = 0
    split_over_files: int = 0
    codes: tuple[CodeRow, ...] = ()
    events_per_subject: tuple[float, ...] = Field(default=())
    span_days: tuple[float, ...] = Field(default=())


def summarize_shard(events: pa.Table) -> tuple[Shard, pa.Table]:
    """Sums of a shard (EVENTS and `file`, `source`; sorted by subject), and its subjects.

    Subjects: subject_id, events, first, last (null without times; a birth is none: the record
    begins after it), record_sha256 over all that the record says, relative to its first time, so
    that one record under two names shows.
    """
    subject_N = events["subject_id"].to_numpy()
    time_N = events["time"].to_numpy(zero_copy_only=False).astype("M8[us]")
    ids, starts = np.unique(subject_N, return_index=True)
    ends = np.append(starts[1:], len(subject_N))
    rows = [
        _subject(int(one), events, time_N, int(start), int(end))
        for one, start, end in zip(ids, starts, ends, strict=True)
    ]
    spans = [
        float((row["last"] - row["first"]) / _DAY) if row["first"] is not None else 0.0
        for row in rows
    ]
    whence_N = events["source"].to_numpy().astype(np.int64) * 2**32 + events["file"].to_numpy()
    several = sum(
        int(np.unique(whence_N[start:end]).size > 1)
        for start, end in zip(starts, ends, strict=True)
    )
    shard = Shard(
        subjects=len(ids),
        events=events.num_rows,
        static_events=int(np.isnat(time_N).sum()),
        split_over_files=several,
        codes=_codes(events, subject_N),
        spans_days=tuple(spans),
        lengths=tuple((ends - starts).tolist()),
    )
    columns = ("subject_id", "events", "first", "last", "record_sha256")
    return shard, pa.table({name: pa.array([row[name] for row in rows]) for name in columns})


def _subject(one: int, events: pa.Table, time_N: Any, start: int, end: int) -> dict[str, Any]:
    times, piece = time_N[start:end], events.slice(start, end - start)
    codes = piece["code"].to_pylist()
    timed = times[~np.isnat(times) & (np.array(codes, object) != BIRTH)]
    first, last = (timed.min(), timed.max()) if len(timed) else (None, None)
    digest = hashlib.sha256()
    if first is not None:
        digest.update((times - first).astype("i8").tobytes())
    digest.update("\0".join(codes).encode())
    value_n = piece["numeric_value"].to_numpy(zero_copy_only=False).astype("f4")
    digest.update(value_n.tobytes())
    digest.update("\0".join(text or "" for text in piece["text_value"].to_pylist()).encode())
    return {
        "subject_id": one,
        "events": end - start,
        "first": first,
        "last": last,
        "record_sha256": digest.hexdigest(),
    }


def _codes(events: pa.Table, subject_N: Any) -> dict[str, CodeCount]:
    coded = events["code"].combine_chunks().dictionary_encode()
    names = coded.dictionary.to_pylist()
    code_N = coded.indices.to_numpy()
    numeric_N = ~np.isnan(events["numeric_value"].to_numpy(zero_copy_only=False).astype("f4"))
    texts = events["text_value"].to_pylist()
    text_N = np.array([text is not None for text in texts], bool)
    levels: dict[str, Counter[str]] = {name: Counter() for name in names}
    for row in np.flatnonzero(text_N):
        levels[names[code_N[row]]][texts[row]] += 1
    pairs = np.unique(np.stack([code_N.astype(np.int64), subject_N]), axis=1)
    size = len(names)
    return {
        name: CodeCount(
            events=int(e),
            subjects=int(s),
            numeric=int(n),
            text=int(t),
            levels=dict(levels[name].most_common(_LEVELS)),
        )
        for name, e, s, n, t in zip(
            names,
            np.bincount(code_N, minlength=size),
            np.bincount(pairs[0].astype(np.int64), minlength=size),
            np.bincount(code_N[numeric_N], minlength=size),
            np.bincount(code_N[text_N], minlength=size),
            strict=True,
        )
    }


def add_up(shards: Sequence[Shard]) -> TimelineSummary:
    """Sums of all shards."""
    if not shards:
        return TimelineSummary()
    counts: dict[str, Counter[str]] = {}
    levels: dict[str, Counter[str]] = {}
    for shard in shards:
        for name, code in shard.codes.items():
            counts.setdefault(name, Counter()).update(code.model_dump(exclude={"levels"}))
            levels.setdefault(name, Counter()).update(code.levels)
    subjects = sum(shard.subjects for shard in shards)
    lengths = np.concatenate([shard.lengths for shard in shards])
    spans = np.concatenate([shard.spans_days for shard in shards])
    return TimelineSummary(
        subjects=subjects,
        events=sum(shard.events for shard in shards),
        static_events=sum(shard.static_events for shard in shards),
        split_over_files=sum(shard.split_over_files for shard in shards),
        codes=tuple(
            CodeRow(
                code=name,
                missing=1 - count["subjects"] / subjects,
                levels=dict(levels[name].most_common(_LEVELS)),
                **count,
            )
            for name, count in sorted(counts.items(), key=lambda pair: -pair[1]["events"])
        ),
        events_per_subject=tuple(np.quantile(lengths, _QUANTILES).tolist()),
        span_days=tuple(np.quantile(spans, _QUANTILES).tolist()),
    )
