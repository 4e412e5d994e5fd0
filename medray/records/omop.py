"""Tables of the OMOP Common Data Model 5.4 → events, or a reason per row.

Codes are `OMOP//<what>//<concept>`; where the concept is 0 or absent (no standard concept was
found), `OMOP//<what>//0//<source value>`, so that a source's own code is never taken for a
concept. Gender, race and ethnicity are facts without time, told in the text of `OMOP//gender` and
so on. Names of files and columns may be in either case. A `*_datetime` goes before the `*_date`;
a date alone is the beginning of its day.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from medray.errors import Code, UsageError
from medray.records.events import (
    BIRTH,
    EMPTY,
    Array,
    Batch,
    Frame,
    Objects,
    filled,
    judge,
    names_of,
    numbers,
    texts,
    timestamps,
)
from medray.records.fhir import DEATH
from medray.spec.records import CodeSpec


@dataclass(frozen=True, slots=True)
class _Event:
    """An event of every row: its name in codes, and the stems of its columns."""

    what: str
    time: str  # with _datetime, _date
    of: str | None = None  # with _concept_id, _source_value; None: the code is `what`
    always: bool = True  # a row without this time is refused


# CDM 5.4, table by table
TABLES: Final[Mapping[str, tuple[_Event, ...]]] = {
    "person": (),
    "visit_occurrence": (
        _Event("visit_start", "visit_start", "visit"),
        _Event("visit_end", "visit_end", "visit", always=False),
    ),
    "condition_occurrence": (_Event("condition", "condition_start", "condition"),),
    "drug_exposure": (_Event("drug", "drug_exposure_start", "drug"),),
    "measurement": (_Event("measurement", "measurement", "measurement"),),
    "death": (_Event(DEATH, "death"),),
}
_PART = re.compile(r"(?:part|data)?[-_]?\d[\w-]*", re.ASCII)
_FACTS = ("gender", "race", "ethnicity")
_BORN = ("year_of_birth", "month_of_birth", "day_of_birth")
_VALUES = (
    "value_as_number",
    "value_as_concept_id",
    "value_source_value",
    "unit_concept_id",
    "unit_source_value",
)


def table_of(uri: str) -> str | None:
    """The table of a file `person.csv` or a part `person/part-0.parquet`; None: none of TABLES."""
    folder, _, file = ("/" + uri.lower()).rpartition("/")
    name = file.partition(".")[0]
    if _PART.fullmatch(name):
        name = folder.rpartition("/")[2]
    return name if name in TABLES else None


def columns_of(table: str, names: Sequence[str]) -> tuple[str, ...]:
    """Columns of a file that are read. Raises UsageError when one that must be there is absent."""
    of_name = {name.lower(): name for name in names}
    if table == "person":
        wanted = [*_BORN, "birth_datetime", *(n for fact in _FACTS for n in _named(fact))]
    else:
        wanted = [f"{event.time}_{kind}" for event in TABLES[table] for kind in _KINDS]
        wanted += [n for event in TABLES[table] if event.of for n in _named(event.of)]
        wanted += _VALUES if table == "measurement" else ()
    present = [of_name[name] for name in dict.fromkeys(["person_id", *wanted]) if name in of_name]
    needed: list[tuple[str, ...]] = [("person_id",)]
    for event in TABLES[table]:
        needed += [tuple(f"{event.time}_{kind}" for kind in _KINDS)] if event.always else []
        needed += [_named(event.of)] if event.of else []
    for options in needed:
        if not any(name in of_name for name in options):
            raise UsageError(
                f"the OMOP table {table} has no column {' or '.join(options)}",
                remedy="columns are named as in the Common Data Model 5.4",
            )
    return tuple(present)


_KINDS = ("datetime", "date")


def _named(stem: str) -> tuple[str, str]:
    return f"{stem}_concept_id", f"{stem}_source_value"


def normalise(
    rows: pa.Table,
    table: str,
    codes: Mapping[str, CodeSpec],
    drop: Sequence[str],
    first_row: int = 0,
) -> Batch:
    """Rows of one file of a table, numbered from `first_row`, → events and refusals."""
    lower = rows.rename_columns([name.lower() for name in rows.column_names])
    row_N = np.arange(first_row, first_row + rows.num_rows)
    subject_N = names_of(lower["person_id"])
    if table == "person":
        frames = [_births(lower, subject_N, row_N)]
        frames += [_facts(lower, fact, subject_N, row_N) for fact in _FACTS]
    else:
        frames = [_events(lower, event, subject_N, row_N) for event in TABLES[table]]
    return judge(frames[0].joined(frames[1:]), codes, drop)


def _of_rows(there_N: NDArray[np.bool_], frame: Frame) -> Frame:
    return Frame(*(getattr(frame, name)[there_N] for name in Frame.__slots__))


def _nothing(count: int) -> Objects:
    return np.full(count, None, object)


def _cells(rows: pa.Table, name: str, nulls: frozenset[str] | None = None) -> Objects:
    """Texts of a column; None throughout where the file has none of this name."""
    if name not in rows.column_names:
        return _nothing(rows.num_rows)
    return texts(rows[name]) if nulls is None else texts(rows[name], nulls)


def _numbers(rows: pa.Table, name: str) -> NDArray[np.float64]:
    if name not in rows.column_names:
        return np.full(rows.num_rows, np.nan)
    return numbers(rows[name])


def _concepts(rows: pa.Table, name: str) -> Objects:
    """Concept ids as text; None for 0, which says that there is none."""
    number_N = _numbers(rows, name)
    known_N = np.isfinite(number_N) & (number_N != 0)
    found = _nothing(rows.num_rows)
    found[known_N] = [str(int(number)) for number in number_N[known_N]]
    return found


def _concept_or_source(rows: pa.Table, concept: str, source: str) -> Objects:
    """`<concept>`, else `0//<source value>`, else None."""
    concept_N, source_N = _concepts(rows, concept), _cells(rows, source, EMPTY)
    own_N = filled(source_N) & ~filled(concept_N)
    concept_N[own_N] = [f"0//{own}" for own in source_N[own_N]]
    return concept_N


def _prefixed(prefix: str, names_N: Objects) -> Objects:
    found = _nothing(len(names_N))
    there_N = filled(names_N)
    found[there_N] = [f"{prefix}{name}" for name in names_N[there_N]]
    return found


def _times(rows: pa.Table, stem: str) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Times, which rows hold something that is no time, and which hold nothing.

    A time of day goes before the date alone.
    """
    time_N = np.full(rows.num_rows, np.datetime64("NaT"), "M8[us]")
    there_N = np.zeros(rows.num_rows, bool)
    for kind in _KINDS:
        name = f"{stem}_{kind}"
        if name in rows.column_names:
            here_N = ~there_N & filled(texts(rows[name]))
            time_N = np.where(here_N, timestamps(rows[name]), time_N)
            there_N |= here_N
    return time_N, there_N & np.isnat(time_N), ~there_N


def _events(rows: pa.Table, event: _Event, subject_N: Objects, row_N: Array) -> Frame:
    count = rows.num_rows
    time_N, wrong_N, without_N = _times(rows, event.time)
    code_N = np.full(count, event.what, object)
    if event.of is not None:
        code_N = _prefixed(f"OMOP//{event.what}//", _concept_or_source(rows, *_named(event.of)))
    value_N, text_N = np.full(count, np.nan), _nothing(count)
    if event.what == "measurement":
        value_N, text_N = _values(rows)
    refused_N = _nothing(count)
    refused_N[without_N] = str(Code.NO_TIME)
    frame = Frame(
        subject=subject_N,
        time=time_N,
        time_wrong=wrong_N,
        code=code_N,
        value=value_N,
        text=text_N,
        unit=_concepts(rows, "unit_concept_id"),
        row=row_N,
        unit_also=_cells(rows, "unit_source_value", EMPTY),
        refused=refused_N,
    )
    return frame if event.always else _of_rows(~without_N, frame)


def _values(rows: pa.Table) -> tuple[NDArray[np.float64], Objects]:
    """Numbers; where there is none, the answer's concept, or the source's own word for it."""
    value_N = _numbers(rows, "value_as_number")
    text_N = _concept_or_source(rows, "value_as_concept_id", "value_source_value")
    text_N[~np.isnan(value_N)] = None
    return value_N, text_N


def _births(rows: pa.Table, subject_N: Objects, row_N: Array) -> Frame:
    """The time of birth, else the beginning of the day, month or year that is known."""
    count = rows.num_rows
    exact_N, wrong_N, without_N = _times(rows, "birth")
    part_N3: Any = np.stack([_numbers(rows, name) for name in _BORN], axis=1)
    part_N3[:, 1:] = np.where(np.isnan(part_N3[:, 1:]), 1, part_N3[:, 1:])
    parts = {name: part_N3[:, place] for place, name in enumerate(("year", "month", "day"))}
    dates: Any = pd.to_datetime(pd.DataFrame(parts), errors="coerce")
    year_N = ~np.isnan(part_N3[:, 0])
    time_N = np.where(without_N, dates.to_numpy("M8[us]"), exact_N)
    frame = Frame(
        subject=subject_N,
        time=time_N,
        time_wrong=wrong_N | (without_N & year_N & np.isnat(time_N)),
        code=np.full(count, BIRTH, object),
        value=np.full(count, np.nan),
        text=_nothing(count),
        unit=_nothing(count),
        row=row_N,
    )
    return _of_rows(~without_N | year_N, frame)


def _facts(rows: pa.Table, fact: str, subject_N: Objects, row_N: Array) -> Frame:
    count = rows.num_rows
    text_N = _concept_or_source(rows, *_named(fact))
    frame = Frame(
        subject=subject_N,
        time=np.full(count, np.datetime64("NaT"), "M8[us]"),
        time_wrong=np.zeros(count, bool),
        code=np.full(count, f"OMOP//{fact}", object),
        value=np.full(count, np.nan),
        text=text_N,
        unit=_nothing(count),
        row=row_N,
    )
    return _of_rows(filled(text_N), frame)
