"""Rows of a source → events: table by table, and no row lost whatever stands in it."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medray.errors import UsageError
from medray.records.events import Batch, columns_of, normalise
from medray.spec.records import CodeSpec, RecordSource, RecordsSpec

HOUR = 3_600_000_000


def source(form: str = "long", **more: Any) -> RecordSource:
    names = {"subject": "s", "time": "t"}
    names |= {"code": "c", "value": "v"} if form == "long" else {}
    return RecordSource.model_validate({"format": form, "path": "x", **names, **more})


def rows_of(batch: Batch) -> list[tuple[Any, ...]]:
    """(row, subject, microseconds or None, code, value, text) of the events."""
    table = batch.events
    micros = table["time"].cast(pa.int64()).to_pylist()
    names = ("row", "subject", "code", "numeric_value", "text_value")
    columns = [table[name].to_pylist() for name in names]
    return [
        (row, subject, time, code, value, text)
        for row, subject, code, value, text, time in zip(*columns, micros, strict=True)
    ]


def refused(batch: Batch) -> list[tuple[int, str | None, str]]:
    return [(r["row"], r["code"], r["reason"]) for r in batch.refused.to_pylist()]


def long(values: Any, codes: dict[str, CodeSpec] | None = None, **more: Any) -> Batch:
    """Values of one code `x` of one patient, at hour 0."""
    column = values if isinstance(values, pa.Array) else pa.array(values)
    count = len(column)
    table = pa.table({"s": ["p"] * count, "t": ["0"] * count, "c": ["x"] * count, "v": column})
    return normalise(table, source(time_unit="hours", **more), codes or {}, ())


@pytest.mark.parametrize(
    ("cell", "value", "text"),
    [
        ("1.5", 1.5, None),
        (" 1.5 ", 1.5, None),
        ("-2e3", -2000.0, None),
        ("+.5", 0.5, None),
        ("0", 0.0, None),
        ("<0.5", None, "<0.5"),
        ("1,5", None, "1,5"),
        ("0x10", None, "0x10"),
        ("1_000", None, "1_000"),
        (" positive ", None, "positive"),
        ("none", None, "none"),
        ("", None, None),
        ("  ", None, None),
        ("NA", None, None),
        ("n/a", None, None),
        ("NaN", None, None),
        ("NULL", None, None),
        (None, None, None),
    ],
)
def test_a_cell_is_a_number_a_text_or_neither(cell: Any, value: Any, text: Any) -> None:
    batch = long(pa.array([cell], pa.string()))
    assert rows_of(batch) == [(0, "p", 0, "x", value, text)]
    coded = long(pa.array([cell], pa.string()).dictionary_encode())
    assert rows_of(coded) == rows_of(batch)
    assert rows_of(long(pa.array([cell], pa.large_string()))) == rows_of(batch)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (pa.array([7], pa.int8()), 7.0, None),
        (pa.array([True]), 1.0, None),
        (pa.array([Decimal("1.50")]), 1.5, None),
        (pa.array([2.5], pa.float32()), 2.5, None),
        (pa.array([3]).dictionary_encode(), 3.0, None),
        (pa.array([float("nan")]), None, None),
        (pa.array([None], pa.null()), None, None),
        (pa.array([date(2020, 2, 3)]), None, "2020-02-03"),
        (pa.array([datetime(2020, 2, 3, 4)], pa.timestamp("s")), None, "2020-02-03 04:00:00"),
    ],
    ids=str,
)
def test_values_of_any_type(column: pa.Array, value: Any, text: Any) -> None:
    assert rows_of(long(column)) == [(0, "p", 0, "x", value, text)]


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e39", "-1e300"])
def test_what_float32_cannot_hold_is_refused(cell: str) -> None:
    batch = long([cell])
    assert refused(batch) == [(0, "x", "invalid_value")]
    assert batch.events.num_rows == 0
    spec = {"x": CodeSpec(unit="g", convert={"kg": 1000})}
    table = pa.table({"s": ["p"], "t": ["0"], "c": ["x"], "v": ["3e37"], "u": ["kg"]})
    converted = normalise(table, source(time_unit="hours", unit="u"), spec, ())
    assert refused(converted) == [(0, "x", "invalid_value")]


def test_units_ranges_and_the_word_for_missing() -> None:
    spec = {"x": CodeSpec(unit="mg/dL", convert={"mmol/L": 18.0}, low=20, high=600, missing=(-1,))}
    cases = [
        ("100", "mg/dL", 100.0),
        ("5", "mmol/L", 90.0),  # below the range until it is converted
        ("100", "", 100.0),  # no unit said: the code's own
        ("100", "mg/l", "wrong_unit"),
        ("40", "mmol/L", "implausible_value"),
        ("19.9", "mg/dL", "implausible_value"),
        ("20", "mg/dL", 20.0),
        ("600", "mg/dL", 600.0),
        ("-1", "mg/dL", "missing_value"),
        ("-1", "mmol/L", "missing_value"),  # said before any conversion
        ("inf", "mg/dL", "invalid_value"),
        ("high", "mg/dL", "high"),
    ]
    table = pa.table(
        {
            "s": ["p"] * len(cases),
            "t": ["1"] * len(cases),
            "c": ["x"] * len(cases),
            "v": [value for value, _, _ in cases],
            "u": [unit for _, unit, _ in cases],
        }
    )
    batch = normalise(table, source(time_unit="hours", unit="u"), spec, (), first_row=100)
    found: dict[int, Any] = {row: value or text for row, _, _, _, value, text in rows_of(batch)}
    found |= {row: reason for row, _, reason in refused(batch)}
    assert found == {100 + row: wanted for row, (_, _, wanted) in enumerate(cases)}


@pytest.mark.parametrize(
    ("unit", "cell", "micros"),
    [
        ("seconds", "1.5", 1_500_000),
        ("minutes", "-2", -120_000_000),
        ("hours", "0", 0),
        ("days", 1.25, 30 * HOUR),
        ("years", 1, 8766 * HOUR),  # of 365.25 days
        ("hours", "noon", "invalid_time"),
        ("hours", "inf", "invalid_time"),
        ("years", "20000", "invalid_time"),
        ("hours", None, None),
        ("hours", "", None),
        ("timestamp", "2020-01-01", 1_577_836_800_000_000),
        ("timestamp", "2020-01-01 00:00:01.5", 1_577_836_801_500_000),
        ("timestamp", " 2020-01-01T02:00:00+02:00 ", 1_577_836_800_000_000),
        ("timestamp", "2020-01-01T00:00:00Z", 1_577_836_800_000_000),
        ("timestamp", "1850-06-01", -3_773_779_200_000_000),
        ("timestamp", "01/02/2020", "invalid_time"),  # January or February: not guessed
        ("timestamp", "2020-02-30", "invalid_time"),
        ("timestamp", "unknown", "invalid_time"),
        ("timestamp", "", None),
    ],
)
def test_times(unit: str, cell: Any, micros: Any) -> None:
    table = pa.table({"s": ["p"], "t": [cell], "c": ["x"], "v": [1.0]})
    batch = normalise(table, source(time_unit=unit), {}, ())
    said = refused(batch)[0][2] if batch.refused.num_rows else rows_of(batch)[0][2]
    assert said == micros


@pytest.mark.parametrize(
    ("column", "micros"),
    [
        (pa.array([1_577_836_800], pa.timestamp("s")), 1_577_836_800_000_000),
        (pa.array([1_500], pa.timestamp("ns")), 1),
        (pa.array([0], pa.timestamp("us", tz="America/New_York")), 0),  # the moment, in UTC
        (pa.array([date(1970, 1, 2)]), 24 * HOUR),
        (pa.array([None], pa.timestamp("us")), None),
    ],
    ids=str,
)
def test_times_that_are_times_already(column: pa.Array, micros: Any) -> None:
    table = pa.table({"s": ["p"], "t": column, "c": ["x"], "v": [1.0]})
    assert rows_of(normalise(table, source(), {}, ()))[0][2] == micros


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (pa.array([12, 7]), ["12", "7"]),
        (pa.array([12.0, 12345678901.0]), ["12", "12345678901"]),
        (pa.array([12.0, None]), ["12", None]),
        (pa.array([12.0, float("nan")]), ["12", None]),  # the first is the same patient as above
        (pa.array([12.0, 12.5]), ["12", "12.5"]),
        (pa.array([" a ", ""]), ["a", None]),
        (pa.array(["NA", "null"]), ["NA", "null"]),  # a name may look like that
        (pa.array(["007", "7"]).dictionary_encode(), ["007", "7"]),
    ],
    ids=str,
)
def test_names_of_patients(column: pa.Array, names: list[str | None]) -> None:
    table = pa.table({"s": column, "t": ["0", "0"], "c": ["x", "x"], "v": [1.0, 2.0]})
    batch = normalise(table, source(time_unit="hours"), {}, ())
    there = [name for name in names if name is not None]
    assert batch.events["subject"].to_pylist() == there
    lacking = [(row, "x", "no_subject") for row, name in enumerate(names) if name is None]
    assert refused(batch) == lacking


def test_codes_of_numbers_and_no_code() -> None:
    codes = pa.array([220045.0, None])
    table = pa.table({"s": ["p", "p"], "t": ["0", "0"], "c": codes, "v": [1.0, 2.0]})
    batch = normalise(table, source(time_unit="hours"), {}, ())
    assert batch.events["code"].to_pylist() == ["220045"]
    assert refused(batch) == [(1, None, "no_code")]


def test_codes_without_time_and_codes_left_out() -> None:
    table = pa.table(
        {
            "s": ["p", "p", "p", None],
            "t": ["soon", "soon", "3", "soon"],
            "c": ["Age", "HR", "ID", "ID"],
            "v": ["60", "80", "1", "2"],
        }
    )
    batch = normalise(table, source(time_unit="hours", static=["Age"]), {}, ("ID",))
    assert rows_of(batch) == [(0, "p", None, "Age", 60.0, None)]
    assert refused(batch) == [(1, "HR", "invalid_time")]
    assert (batch.read, batch.dropped) == (4, 2)


def test_wide_form_reads_the_cells_that_hold_something() -> None:
    table = pa.table(
        {
            "s": ["p", "q"],
            "t": [1.0, 2.0],
            "sex": ["F", None],
            "bili": [1.5, None],
            "note": ["ok", "NA"],
            "seen": pa.array([None, date(2020, 1, 1)]),
        }
    )
    batch = normalise(table, source("wide", time_unit="hours", static=["sex"]), {}, ())
    assert batch.read == 4
    assert sorted(rows_of(batch), key=str) == [
        (0, "p", HOUR, "bili", 1.5, None),
        (0, "p", HOUR, "note", None, "ok"),
        (0, "p", None, "sex", None, "F"),
        (1, "q", 2 * HOUR, "seen", None, "2020-01-01"),
    ]


def test_births_are_events_and_wrong_ones_are_counted() -> None:
    table = pa.table(
        {
            "s": ["p", "q", "r"],
            "t": ["2020-01-01"] * 3,
            "born": ["1950-01-01", "unknown", ""],
            "hr": [80, 81, 82],
        }
    )
    for form, more in (("wide", {}), ("long", {"code": "c", "value": "hr"})):
        whole = table.append_column("c", pa.array(["hr"] * 3)) if form == "long" else table
        batch = normalise(whole, source(form, birth="born", **more), {}, ())
        births = [row for row in rows_of(batch) if row[3] == "MEDS_BIRTH"]
        assert births == [(0, "p", -631_152_000_000_000, "MEDS_BIRTH", None, None)]
        assert refused(batch) == [(1, "MEDS_BIRTH", "invalid_time")]
        assert batch.read == 5


def test_meds_as_it_is() -> None:
    table = pa.table(
        {
            "subject_id": pa.array([1, 1, 1], pa.int64()),
            "time": pa.array([None, 0, 10], pa.timestamp("us")),
            "code": ["SEX//F", "LAB//X", "LAB//Y"],
            "numeric_value": pa.array([None, 1.5, None], pa.float32()),
            "text_value": pa.array([None, None, "high"], pa.large_string()),
        }
    )
    batch = normalise(table, RecordSource(format="meds", path=("x",)), {}, ())
    assert rows_of(batch) == [
        (0, "1", None, "SEX//F", None, None),
        (1, "1", 0, "LAB//X", 1.5, None),
        (2, "1", 10, "LAB//Y", None, "high"),
    ]


CELLS = st.one_of(
    st.none(),
    st.sampled_from(["", " ", "NA", "inf", "-1", "1e400", "1e39", "x", "2020-01-01", "3", "kg"]),
    st.floats(width=64).map(str),
    st.text(max_size=4),
)


@given(
    rows=st.lists(st.tuples(*[CELLS] * 5), max_size=12),
    form=st.sampled_from(["long", "wide"]),
    unit=st.sampled_from(["timestamp", "hours", "years"]),
    drop=st.sampled_from([(), ("x",), ("v", "3")]),
)
def test_no_row_is_lost(rows: list[Any], form: str, unit: str, drop: tuple[str, ...]) -> None:
    names = ("s", "t", "c", "v", "u")
    columns = list(zip(*rows, strict=True)) or [()] * 5
    arrays = [pa.array(list(column), pa.string()) for column in columns]
    table = pa.table(dict(zip(names, arrays, strict=True)))
    codes = {"x": CodeSpec(unit="kg", low=0, high=5, missing=(-1,)), "v": CodeSpec(high=1)}
    more = {"unit": "u"} if form == "long" else {}
    batch = normalise(table, source(form, time_unit=unit, static=["c"], **more), codes, drop)
    assert batch.read == batch.events.num_rows + batch.dropped + batch.refused.num_rows
    if form == "long":
        assert batch.read == len(rows)
    values = batch.events["numeric_value"].drop_null().to_numpy()
    assert np.isfinite(values).all()
    assert batch.events["code"].null_count == batch.events["subject"].null_count == 0
    assert not set(batch.events["code"].to_pylist()) & set(drop)


def test_columns_that_are_read() -> None:
    names = ["s", "t", "c", "v", "u", "born", "other"]
    assert columns_of(source(unit="u", birth="born"), names) == ("s", "t", "c", "v", "u", "born")
    assert columns_of(source("wide", birth="born"), names) == (
        *("s", "t", "c", "v", "u", "other"),
        "born",
    )
    assert columns_of(source("wide", columns=["v"], static=["c"]), names) == ("s", "t", "v", "c")
    assert columns_of(source("wide", time=None), ["s", "v"]) == ("s", "v")
    for wrong in (source(unit="units"), source(birth="birth"), source("wide", columns=["w"])):
        with pytest.raises(UsageError, match="no column"):
            columns_of(wrong, names)
    with pytest.raises(UsageError, match="no column that could become events"):
        columns_of(source("wide"), ["s", "t"])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"format": "meds", "subject": "s"}, "columns of MEDS are its own"),
        ({"format": "meds", "time_unit": "days"}, "columns of MEDS are its own"),
        ({"format": "long", "time_unit": "hours", "birth": "b"}, "`birth` is a date"),
        ({"format": "long", "columns": ["a"]}, "belongs to the wide form"),
    ],
)
def test_sources_that_cannot_be(more: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        RecordSource.model_validate({"path": "x", **more})


def test_dates_and_times_since_admission_do_not_mix() -> None:
    def spec(*sources: RecordSource) -> RecordsSpec:
        return RecordsSpec(sources=sources)

    facts = source("wide", time=None)
    hours, dates = source(time_unit="hours"), source()
    for fine in (spec(hours, facts), spec(dates, facts), spec(hours, source(time_unit="days"))):
        again = RecordsSpec.model_validate_json(fine.model_dump_json())
        assert again == fine
    with pytest.raises(ValidationError, match="one source has dates"):
        spec(hours, dates)
    meds = RecordSource(format="meds", path=("x",))
    assert RecordsSpec.model_validate_json(spec(meds).model_dump_json()) == spec(meds)
