"""What a dataset of timelines holds, in numbers that can be added up over shards.

Shapes: N events of a shard.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from medray.records.events import BIRTH
from medray.spec.base import Section

Array = NDArray[Any]

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
    """

    subjects: int
    events: int
    static_events: int
    split_over_files: int
    codes: dict[str, CodeCount]


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
    born_N = np.asarray(pc.equal(events["code"], BIRTH), bool)  # pyright: ignore[reportAttributeAccessIssue]
    first, last = _spans(np.where(born_N, np.datetime64("NaT"), time_N), starts)
    whence_N = events["source"].to_numpy().astype(np.int64) * 2**32 + events["file"].to_numpy()
    several = _each(np.maximum, whence_N, starts) > _each(np.minimum, whence_N, starts)
    place_N = np.repeat(np.arange(len(ids)), ends - starts)
    shard = Shard(
        subjects=len(ids),
        events=events.num_rows,
        static_events=int(np.isnat(time_N).sum()),
        split_over_files=int(several.sum()),
        codes=_codes(events, place_N),
    )
    said = _hashes(events, time_N - first[place_N], starts, ends, ~np.isnat(first))
    columns = {"subject_id": ids, "events": ends - starts, "first": first, "last": last}
    return shard, pa.table({**columns, "record_sha256": pa.array(said, pa.string())})


def _each(sums: np.ufunc, values_N: Array, starts: Array) -> Array:
    """A running operation over the values of every subject; none for no subject."""
    return sums.reduceat(values_N, starts) if len(starts) else values_N[:0]


def _spans(time_N: Array, starts: Array) -> tuple[Array, Array]:
    """First and last time of every subject; NaT without times."""
    micros_N = time_N.astype(np.int64)  # NaT is the least of all
    latest = np.iinfo(np.int64).max
    first = _each(np.minimum, np.where(np.isnat(time_N), latest, micros_N), starts)
    last = _each(np.maximum, micros_N, starts).astype("M8[us]")
    return np.where(np.isnat(last), last, first.astype("M8[us]")), last


def _hashes(
    events: pa.Table, since_N: Array, starts: Array, ends: Array, timed: Array
) -> list[str]:
    """SHA-256 of every subject's times since the first, codes, values and texts."""
    codes, texts = (_joined(events[name], starts, ends) for name in ("code", "text_value"))
    values = events["numeric_value"].to_numpy(zero_copy_only=False).astype("f4").data
    since = since_N.view(np.int64).data
    found: list[str] = []
    edges = zip(starts.tolist(), ends.tolist(), timed.tolist(), codes, texts, strict=True)
    for start, end, has_time, code, text in edges:
        digest = hashlib.sha256(since[start:end] if has_time else b"")
        for said in (code, values[start:end], text):
            digest.update(said)
        found.append(digest.hexdigest())
    return found


def _joined(column: pa.ChunkedArray, starts: Array, ends: Array) -> list[memoryview]:
    """The texts of every subject (none: empty) with NUL between them, UTF-8."""
    filled: Any = pc.fill_null(column.cast(pa.large_string()), "")  # pyright: ignore[reportAttributeAccessIssue]
    empty, nul = (pa.scalar(text, pa.large_string()) for text in ("", "\0"))
    ended: Any = pc.binary_join_element_wise(filled, empty, nul)  # pyright: ignore[reportAttributeAccessIssue]
    if not len(starts):
        return []
    _, offsets, data = pa.concat_arrays(ended.chunks).buffers()
    at_N = np.frombuffer(offsets, np.int64)
    edges = zip(at_N[starts].tolist(), at_N[ends].tolist(), strict=True)
    return [memoryview(data)[start : end - 1] for start, end in edges]


def _codes(events: pa.Table, place_N: Array) -> dict[str, CodeCount]:
    """Counts by code; `place_N`: the number of the subject in the shard."""
    names, code_N = _numbered(events["code"])
    text_names, text_N = _numbered(events["text_value"])
    numeric_N = ~np.isnan(events["numeric_value"].to_numpy(zero_copy_only=False).astype("f4"))
    size = len(names)
    pairs = np.unique(place_N * size + code_N)
    said = np.flatnonzero(text_N < len(text_names))
    levels = _levels(names, code_N[said], text_names, text_N[said])
    return {
        name: CodeCount(
            events=int(e), subjects=int(s), numeric=int(n), text=int(t), levels=levels[name]
        )
        for name, e, s, n, t in zip(
            names,
            np.bincount(code_N, minlength=size),
            np.bincount(pairs % max(size, 1), minlength=size),
            np.bincount(code_N[numeric_N], minlength=size),
            np.bincount(code_N[said], minlength=size),
            strict=True,
        )
    }


def _numbered(column: pa.ChunkedArray) -> tuple[list[str], Array]:
    """Different texts, and the place of each row's among them; one more than the last: none."""
    coded: Any = column.dictionary_encode().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    filled: Any = pc.fill_null(coded.indices, len(coded.dictionary))  # pyright: ignore[reportAttributeAccessIssue]
    return coded.dictionary.to_pylist(), filled.to_numpy(zero_copy_only=False).astype(np.int64)


def _levels(
    names: Sequence[str], code_M: Array, texts: Sequence[str], text_M: Array
) -> dict[str, dict[str, int]]:
    """The most frequent texts of every code; of equally frequent ones the first that was met."""
    pairs, first, counts = np.unique(
        code_M * max(len(texts), 1) + text_M, return_index=True, return_counts=True
    )
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for pair in np.lexsort((first, -counts)):
        code, text = divmod(int(pairs[pair]), len(texts))
        if len(found[names[code]]) < _LEVELS:
            found[names[code]][texts[text]] = int(counts[pair])
    return found


def add_up(shards: Sequence[Shard], subjects: pa.Table) -> TimelineSummary:
    """Sums of all shards; `subjects`: the rows that `summarize_shard` made of each."""
    if not shards:
        return TimelineSummary()
    counts: dict[str, Counter[str]] = {}
    levels: dict[str, Counter[str]] = {}
    for shard in shards:
        for name, code in shard.codes.items():
            counts.setdefault(name, Counter()).update(code.model_dump(exclude={"levels"}))
            levels.setdefault(name, Counter()).update(code.levels)
    first, last = (subjects[name].to_numpy() for name in ("first", "last"))
    spans = np.where(np.isnat(first), 0.0, (last - first) / _DAY)
    return TimelineSummary(
        subjects=subjects.num_rows,
        events=sum(shard.events for shard in shards),
        static_events=sum(shard.static_events for shard in shards),
        split_over_files=sum(shard.split_over_files for shard in shards),
        codes=tuple(
            CodeRow(
                code=name,
                missing=1 - count["subjects"] / subjects.num_rows,
                levels=dict(levels[name].most_common(_LEVELS)),
                **count,
            )
            for name, count in sorted(counts.items(), key=lambda pair: -pair[1]["events"])
        ),
        events_per_subject=tuple(np.quantile(subjects["events"].to_numpy(), _QUANTILES).tolist()),
        span_days=tuple(np.quantile(spans, _QUANTILES).tolist()),
    )
