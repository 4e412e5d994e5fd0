"""Rows of a source → events (MEDS 0.4), or a reason per row. Every row in is accounted for.

Shapes: N rows of a batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from medray.errors import Code, UsageError
from medray.spec.records import MICROSECONDS, CodeSpec, RecordSource

Array = NDArray[Any]
Objects = NDArray[np.object_]

BIRTH: Final = "MEDS_BIRTH"  # MEDS 0.4, birth_code
_SECONDS_OF_9999 = 253402300799.0
_NULLS = frozenset({"", "na", "n/a", "nan", "null", "#n/a"})  # "none" is an answer: oedema, none
EMPTY = frozenset({""})  # of names: Na is sodium
_LARGEST = float(np.finfo(np.float32).max)  # MEDS keeps values as float32
_EXACT = 2.0**53  # below it a float64 holds every whole number

# Events of one batch: EVENTS' columns but for the subject, still by its own name, and whence.
RAW_EVENTS = pa.schema(
    [
        pa.field("subject", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us")),
        pa.field("code", pa.string(), nullable=False),
        pa.field("numeric_value", pa.float32()),
        pa.field("text_value", pa.large_string()),
        pa.field("row", pa.int64(), nullable=False),
    ]
)
_REFUSED = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("code", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a batch: RAW_EVENTS, and (row, code, reason) of what did not.

    read      events offered: rows, in the wide form cells that are not empty.
    dropped   of these, left out: codes that the spec drops, and what is not used.
    not_used  kinds of rows that no event is made of: how many.
    silent    names of patients that rows name, but no event of the batch.
    """

    events: pa.Table
    refused: pa.Table
    read: int
    dropped: int
    not_used: Mapping[str, int] = field(default_factory=dict[str, int])
    silent: tuple[str, ...] = ()


def columns_of(source: RecordSource, names: Sequence[str]) -> tuple[str, ...]:
    """Columns of a file that are read. Raises UsageError when one the source names is absent."""
    time = () if source.time is None else (source.time,)
    wanted: tuple[str, ...] = (source.subject, *time)
    if source.format == "long":
        wanted += (source.code, source.value, *filter(None, (source.unit, source.birth)))
    elif source.format == "meds":
        wanted = ("subject_id", "time", "code", "numeric_value")
        wanted += ("text_value",) if "text_value" in names else ()
    else:
        others = [name for name in names if name not in (*wanted, source.birth)]
        wanted += tuple(source.columns if source.columns is not None else others)
        wanted += tuple(n for n in (*source.static, source.birth) if n and n not in wanted)
        if not set(wanted) - {source.subject, source.time}:
            raise UsageError(
                "a wide file of `records.sources` has no column that could become events",
                remedy="check `columns`, `static` and `birth` of the source",
            )
    absent = [name for name in wanted if name not in names]
    if absent:
        raise UsageError(
            f"a file of `records.sources` has no column {', '.join(map(repr, absent))}",
            remedy=f"it has {', '.join(list(names)[:12])}; name the right ones in the source",
        )
    return wanted


def normalise(
    table: pa.Table,
    source: RecordSource,
    codes: Mapping[str, CodeSpec],
    drop: Sequence[str],
    first_row: int = 0,
) -> Batch:
    """Rows of one file, numbered from `first_row`, → events and refusals."""
    row_N = np.arange(first_row, first_row + table.num_rows)
    subject_N = names_of(table[source.subject])
    time_N, wrong_N = _times(table, source)
    make = _wide if source.format == "wide" else _long
    frame = make(table, source, subject_N, time_N, wrong_N, row_N)
    judged = judge(frame, codes, drop)
    return replace(judged, silent=_silent(subject_N, judged.events))  # rows without a filled cell


def names_of(column: pa.ChunkedArray) -> Objects:
    """Names of patients or codes as text; None where a row holds none."""
    if not pa.types.is_floating(column.type):
        return texts(column, EMPTY)
    # 12.0, from a table with gaps, is the patient "12"; value by value: blocks must agree
    number_N = numbers(column)
    text_N = texts(column)
    whole = np.flatnonzero((np.abs(number_N) < _EXACT) & (number_N == np.floor(number_N)))
    text_N[whole] = [str(int(number)) for number in number_N[whole]]
    return text_N


def texts(column: pa.ChunkedArray, nulls: frozenset[str] = _NULLS) -> Objects:
    """Stripped texts; None for those in `nulls`. Each different text is looked at once."""
    coded: Any = column.cast(pa.string()).dictionary_encode().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    stripped = [text.strip() for text in coded.dictionary.to_pylist()]
    named = np.array([None if t.lower() in nulls else t for t in stripped] + [None], object)
    index: Any = pc.fill_null(coded.indices, len(stripped))  # pyright: ignore[reportAttributeAccessIssue]
    return named[index.to_numpy(zero_copy_only=False)]


def filled(values: Objects) -> NDArray[np.bool_]:
    """Which cells hold anything."""
    return np.asarray(pd.notna(values), bool)


def _times(table: pa.Table, source: RecordSource) -> tuple[Array, NDArray[np.bool_]]:
    """Times as datetime64[us] (NaT: none), and which rows hold something that is no time."""
    if source.time is None:
        return np.full(table.num_rows, np.datetime64("NaT"), "M8[us]"), np.zeros(
            table.num_rows, bool
        )
    column = table[source.time]
    if source.time_unit != "timestamp" and source.format != "meds":
        number_N = numbers(column)
        scale = MICROSECONDS[source.time_unit]
        fits_N = np.abs(number_N) < _SECONDS_OF_9999 * 1e6 / scale  # NaN does not
        micros_N = np.where(fits_N, np.round(np.where(fits_N, number_N, 0) * scale), 0)
        time_N = micros_N.astype("i8").view("M8[us]")
        time_N[~fits_N] = np.datetime64("NaT")
    else:
        time_N = timestamps(column)
    wrong_N = np.isnat(time_N)
    lacking = np.flatnonzero(wrong_N)
    wrong_N[lacking] = filled(texts(column.take(pa.array(lacking))))
    return time_N, wrong_N


def timestamps(column: pa.ChunkedArray) -> Array:
    """Times as datetime64[us], in UTC where they name a zone; NaT for what is none."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        # the part of a microsecond is cut off, as nanoseconds have more than MEDS keeps
        cut = pa.types.is_timestamp(kind) and kind.unit == "ns"
        return column.cast(pa.timestamp("us"), safe=not cut).to_pandas().to_numpy("M8[us]")
    time_N = _parsed(column.cast(pa.string()).to_pandas())
    lacking = np.flatnonzero(np.isnat(time_N))  # perhaps for the blanks around it alone
    time_N[lacking] = _parsed(pd.Series(texts(column.take(pa.array(lacking))), dtype="object"))
    return time_N


def _parsed(texts: Any) -> Array:
    # a zone is taken off after the change to UTC; no zone: as it stands
    parsed = pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=True)
    return parsed.dt.tz_localize(None).to_numpy("M8[us]").copy()


def numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Numbers as float64, NaN for what is none; dates and the like are none."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_temporal(kind):
        return np.full(len(column), np.nan)
    numbers: Any = pd.to_numeric(column.to_pandas(), errors="coerce")
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


@dataclass(slots=True)
class Frame:
    """Offered events, before they are judged; every array is (M,).

    unit_also  the unit by another name, where it has two: the spec may know either.
    refused    a reason that stands already; None: to be judged.
    """

    subject: Objects
    time: Array
    time_wrong: NDArray[np.bool_]
    code: Objects
    value: NDArray[np.float64]
    text: Objects
    unit: Objects
    row: Array
    unit_also: Objects = field(default_factory=lambda: np.empty(0, object))
    refused: Objects = field(default_factory=lambda: np.empty(0, object))

    def __post_init__(self) -> None:
        """Fill what was not said with None."""
        count = len(self.row)
        self.unit_also = self.unit_also if len(self.unit_also) else np.full(count, None, object)
        self.refused = self.refused if len(self.refused) else np.full(count, None, object)

    def joined(self, others: "Sequence[Frame]") -> "Frame":
        """All of them, one after the other."""
        frames = (self, *others)
        return Frame(
            *(np.concatenate([getattr(f, name) for f in frames]) for name in self.__slots__)
        )


def _cells(column: pa.ChunkedArray) -> tuple[NDArray[np.float64], Objects]:
    """Values and texts: a cell is a number, a text, or neither."""
    value_N = numbers(column)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (_is_text(kind) or pa.types.is_temporal(kind)):
        return value_N, np.full(len(value_N), None, object)
    # "inf" and the like count as numbers, to be refused as such
    others = np.flatnonzero(np.isnan(value_N))
    text_N: Objects = np.full(len(value_N), None, object)
    text_N[others] = texts(column.take(pa.array(others)))
    return value_N, text_N


def _is_text(kind: pa.DataType) -> bool:
    return any(
        is_one(kind)
        for is_one in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _long(
    table: pa.Table,
    source: RecordSource,
    subject_N: Objects,
    time_N: Array,
    wrong_N: NDArray[np.bool_],
    row_N: Array,
) -> Frame:
    meds = source.format == "meds"
    code_N = names_of(table["code" if meds else source.code])
    value_N, text_N = _cells(table["numeric_value" if meds else source.value])
    if meds and "text_value" in table.column_names:
        text_N = texts(table["text_value"])
    unit_N = texts(table[source.unit]) if source.unit else np.full(len(code_N), None, object)
    static_N = np.isin(code_N.astype("U"), source.static) if source.static else np.zeros(0, bool)
    if source.static:
        time_N, wrong_N = time_N.copy(), wrong_N & ~static_N
        time_N[static_N] = np.datetime64("NaT")
    frame = Frame(subject_N, time_N, wrong_N, code_N, value_N, text_N, unit_N, row_N)
    if source.birth and source.birth in table.column_names:
        return frame.joined([_births(table[source.birth], subject_N, row_N)])
    return frame


def _wide(
    table: pa.Table,
    source: RecordSource,
    subject_N: Objects,
    time_N: Array,
    wrong_N: NDArray[np.bool_],
    row_N: Array,
) -> Frame:
    known = {source.subject, source.time, source.birth}
    frames: list[Frame] = []
    for name in table.column_names:
        if name in known:
            continue
        value_N, text_N = _cells(table[name])
        there = ~np.isnan(value_N) | filled(text_N)
        count = int(there.sum())
        static = name in source.static
        frames.append(
            Frame(
                subject_N[there],
                np.full(count, np.datetime64("NaT"), "M8[us]") if static else time_N[there],
                np.zeros(count, bool) if static else wrong_N[there],
                np.full(count, name, object),
                value_N[there],
                text_N[there],
                np.full(count, None, object),
                row_N[there],
            )
        )
    if source.birth:
        frames.append(_births(table[source.birth], subject_N, row_N))
    return frames[0].joined(frames[1:])


def _births(column: pa.ChunkedArray, subject_N: Objects, row_N: Array) -> Frame:
    """One event MEDS_BIRTH per row that tells one; doubles fall out with the others."""
    time_N = timestamps(column)
    there = filled(texts(column))
    count = int(there.sum())
    return Frame(
        subject_N[there],
        time_N[there],
        np.isnat(time_N[there]),
        np.full(count, BIRTH, object),
        np.full(count, np.nan),
        np.full(count, None, object),
        np.full(count, None, object),
        row_N[there],
    )


def judge(
    frame: Frame,
    codes: Mapping[str, CodeSpec],
    drop: Sequence[str],
    not_used: Mapping[str, int] | None = None,
) -> Batch:
    """Offered events → events and refusals. A row has the first reason that stands against it."""
    count = len(frame.row)
    reason_M: Objects = frame.refused.copy()
    code_M, names = pd.factorize(frame.code)  # place of the code among the names; -1: none
    dropped_M = np.isin(code_M, [place for place, name in enumerate(names) if name in drop])

    def refuse(which: NDArray[np.bool_], code: Code) -> None:
        reason_M[which & ~filled(reason_M)] = str(code)

    refuse(~filled(frame.subject), Code.NO_SUBJECT)
    refuse(code_M < 0, Code.NO_CODE)
    refuse(frame.time_wrong, Code.INVALID_TIME)
    value_M = frame.value.copy()
    refuse(np.abs(value_M) > _LARGEST, Code.INVALID_VALUE)
    for place, name in enumerate(names):
        spec = codes.get(name)
        if spec is None:
            continue
        of_M = code_M == place
        _convert(spec, of_M, frame, value_M, refuse)
        refuse(of_M & np.isin(frame.value, spec.missing), Code.MISSING_VALUE)
        low = -np.inf if spec.low is None else spec.low
        high = np.inf if spec.high is None else spec.high
        refuse(of_M & ((value_M < low) | (value_M > high)), Code.IMPLAUSIBLE_VALUE)
    refuse(np.abs(value_M) > _LARGEST, Code.INVALID_VALUE)  # after its unit was changed
    kept_M = ~filled(reason_M) & ~dropped_M
    refused_M = filled(reason_M) & ~dropped_M
    value_K = value_M[kept_M].astype(np.float32)
    events = pa.table(
        {
            "subject": pa.array(frame.subject[kept_M], pa.string()),
            "time": pa.array(frame.time[kept_M], pa.timestamp("us")),
            "code": pa.array(frame.code[kept_M], pa.string()),
            "numeric_value": pa.array(value_K, pa.float32(), mask=np.isnan(value_K)),
            "text_value": pa.array(frame.text[kept_M], pa.large_string()),
            "row": pa.array(frame.row[kept_M], pa.int64()),
        },
        schema=RAW_EVENTS,
    )
    refused = pa.table(
        {
            "row": pa.array(frame.row[refused_M], pa.int64()),
            "code": pa.array(frame.code[refused_M], pa.string()),
            "reason": pa.array(reason_M[refused_M], pa.string()),
        },
        schema=_REFUSED,
    )
    others = dict(not_used or {})
    left_out = sum(others.values())
    dropped = int(dropped_M.sum()) + left_out
    silent = _silent(frame.subject, events)
    return Batch(events, refused, count + left_out, dropped, others, silent)


def _silent(subject_N: Objects, events: pa.Table) -> tuple[str, ...]:
    """Names among those of the rows that no event has."""
    said = set(events["subject"].unique().to_pylist())
    return tuple({name for name in subject_N if name is not None} - said)


def _convert(
    spec: CodeSpec,
    of_M: NDArray[np.bool_],
    frame: Frame,
    value_M: NDArray[np.float64],
    refuse: Callable[[NDArray[np.bool_], Code], None],
) -> None:
    """Bring values to the code's unit, in place; refuse those of a unit it does not know."""
    if spec.unit is None:
        return
    known = [spec.unit, *spec.convert]
    there_M = of_M & (filled(frame.unit) | filled(frame.unit_also))
    first_M, also_M = (
        np.where(there_M & filled(names), names, "").astype("U")
        for names in (frame.unit, frame.unit_also)
    )
    units_M = np.where(np.isin(first_M, known), first_M, also_M)
    for unit, factor in spec.convert.items():
        value_M[there_M & (units_M == unit)] *= factor
    refuse(there_M & ~np.isin(units_M, known), Code.WRONG_UNIT)
