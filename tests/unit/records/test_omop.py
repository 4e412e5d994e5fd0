"""Tables of the OMOP Common Data Model 5.4 → events."""

from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pytest

from medray.errors import UsageError
from medray.records.omop import columns_of, normalise, table_of
from medray.spec.records import CodeSpec


def told(
    table: str, columns: dict[str, Any], codes: dict[str, CodeSpec] | None = None
) -> tuple[list[Any], list[Any]]:
    """(subject, time, code, number, text) of events; (row, code, reason) of refusals."""
    rows = pa.table(columns)
    rows = rows.select(list(columns_of(table, rows.column_names)))
    batch = normalise(rows, table, codes or {}, ())
    assert batch.read == batch.events.num_rows + batch.refused.num_rows
    names = ("subject", "time", "code", "numeric_value", "text_value")
    events = [tuple(row[name] for name in names) for row in batch.events.to_pylist()]
    return events, [tuple(row.values()) for row in batch.refused.to_pylist()]


def test_person() -> None:
    events, refused = told(
        "person",
        {
            "PERSON_ID": ["1", "2", "3"],
            "GENDER_CONCEPT_ID": ["8532", "0", ""],
            "YEAR_OF_BIRTH": ["1950", "1960", ""],
            "MONTH_OF_BIRTH": ["6", "", ""],
            "DAY_OF_BIRTH": ["2", "", ""],
            "BIRTH_DATETIME": ["", "", "1970-02-03 04:05:06"],
            "RACE_CONCEPT_ID": ["8527", "0", "0"],
            "GENDER_SOURCE_VALUE": ["f", "x", ""],
            "PERSON_SOURCE_VALUE": ["name", "name", "name"],
        },
    )
    assert refused == []
    assert events == [
        ("1", datetime(1950, 6, 2), "MEDS_BIRTH", None, None),
        ("2", datetime(1960, 1, 1), "MEDS_BIRTH", None, None),
        ("3", datetime(1970, 2, 3, 4, 5, 6), "MEDS_BIRTH", None, None),
        ("1", None, "OMOP//gender", None, "8532"),
        ("2", None, "OMOP//gender", None, "0//x"),
        ("1", None, "OMOP//race", None, "8527"),
    ]


def test_a_birth_that_is_no_date_is_refused() -> None:
    columns = {"person_id": [1], "year_of_birth": [1950], "month_of_birth": [13]}
    assert told("person", columns) == ([], [(0, "MEDS_BIRTH", "invalid_time")])


MEASUREMENT: dict[str, Any] = {
    "person_id": [7],
    "measurement_concept_id": [3004501],
    "measurement_date": ["2020-03-04"],
    "measurement_datetime": ["2020-03-04 10:30:00"],
    "value_as_number": [95.0],
    "value_as_concept_id": [None],
    "unit_concept_id": [8840],
    "unit_source_value": ["mg/dL"],
    "measurement_source_value": ["GLU"],
    "value_source_value": ["95"],
}
GLUCOSE = "OMOP//measurement//3004501"


@pytest.mark.parametrize(
    ("change", "event"),
    [
        ({}, ("7", datetime(2020, 3, 4, 10, 30), GLUCOSE, 95, None)),
        # a date alone is the beginning of its day
        ({"measurement_datetime": [None]}, ("7", datetime(2020, 3, 4), GLUCOSE, 95, None)),
        ({"measurement_datetime": [""]}, ("7", datetime(2020, 3, 4), GLUCOSE, 95, None)),
        (
            {"measurement_datetime": [datetime(2020, 3, 4, 1)]},
            ("7", datetime(2020, 3, 4, 1), GLUCOSE, 95, None),
        ),
        (
            {"measurement_datetime": [None], "measurement_date": [date(2020, 3, 4)]},
            ("7", datetime(2020, 3, 4), GLUCOSE, 95, None),
        ),
        (
            {"measurement_concept_id": [0]},
            ("7", datetime(2020, 3, 4, 10, 30), "OMOP//measurement//0//GLU", 95, None),
        ),
        (
            {"value_as_number": [None], "value_as_concept_id": [45884084]},
            ("7", datetime(2020, 3, 4, 10, 30), GLUCOSE, None, "45884084"),
        ),
        (
            {"value_as_number": [None], "value_as_concept_id": [0], "value_source_value": ["neg"]},
            ("7", datetime(2020, 3, 4, 10, 30), GLUCOSE, None, "0//neg"),
        ),
        # a table with gaps, written by pandas
        ({"person_id": [7.0]}, ("7", datetime(2020, 3, 4, 10, 30), GLUCOSE, 95, None)),
        (
            {"measurement_concept_id": ["3004501.0"]},
            ("7", datetime(2020, 3, 4, 10, 30), GLUCOSE, 95, None),
        ),
    ],
)
def test_measurements(change: dict[str, Any], event: tuple[Any, ...]) -> None:
    assert told("measurement", MEASUREMENT | change) == ([event], [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"person_id": [None]}, "no_subject"),
        ({"measurement_concept_id": [0], "measurement_source_value": [None]}, "no_code"),
        ({"measurement_date": [None], "measurement_datetime": [None]}, "no_time"),
        ({"measurement_datetime": ["noon"]}, "invalid_time"),
        ({"unit_concept_id": [8753], "unit_source_value": ["mmol/L"]}, "wrong_unit"),
        ({"value_as_number": [5000.0]}, "implausible_value"),
    ],
)
def test_measurements_that_are_refused(change: dict[str, Any], reason: str) -> None:
    spec = {GLUCOSE: CodeSpec(unit="mg/dL", high=1500)}
    _, ((_, _, said),) = told("measurement", MEASUREMENT | change, spec)
    assert said == reason


@pytest.mark.parametrize("unit", ["mg/dL", "8840"])
def test_a_unit_is_known_by_its_concept_or_its_source_value(unit: str) -> None:
    events, _ = told("measurement", MEASUREMENT, {GLUCOSE: CodeSpec(unit=unit)})
    assert events[0][3] == 95
    convert = CodeSpec(unit="mmol/L", convert={unit: 0.0555})
    events, _ = told("measurement", MEASUREMENT, {GLUCOSE: convert})
    assert events[0][3] == pytest.approx(5.2725)


def test_visits_begin_and_end_and_others_begin() -> None:
    visit = {
        "person_id": [1, 2],
        "visit_concept_id": [9201, 9202],
        "visit_start_date": ["2020-01-01", "2020-02-01"],
        "visit_end_date": ["2020-01-05", None],
    }
    assert told("visit_occurrence", visit)[0] == [
        ("1", datetime(2020, 1, 1), "OMOP//visit_start//9201", None, None),
        ("2", datetime(2020, 2, 1), "OMOP//visit_start//9202", None, None),
        ("1", datetime(2020, 1, 5), "OMOP//visit_end//9201", None, None),
    ]
    condition = {
        "person_id": [1],
        "condition_concept_id": [0],
        "condition_start_date": ["2020-01-01"],
        "condition_source_value": ["E11.9"],
    }
    assert told("condition_occurrence", condition)[0] == [
        ("1", datetime(2020, 1, 1), "OMOP//condition//0//E11.9", None, None)
    ]
    drug = {
        "person_id": [1],
        "drug_concept_id": [1503297],
        "drug_exposure_start_datetime": ["2020-01-01 08:00"],
    }
    assert told("drug_exposure", drug)[0] == [
        ("1", datetime(2020, 1, 1, 8), "OMOP//drug//1503297", None, None)
    ]
    assert told("death", {"person_id": [1], "death_date": ["2021-01-01"]})[0] == [
        ("1", datetime(2021, 1, 1), "MEDS_DEATH", None, None)
    ]


@pytest.mark.parametrize(
    ("uri", "table"),
    [
        ("/cdm/person.csv", "person"),
        ("/cdm/MEASUREMENT.CSV.gz", "measurement"),
        ("s3://bucket/cdm/Death.parquet", "death"),
        ("/cdm/drug_exposure/part-0.parquet", "drug_exposure"),
        ("/person/concept.csv", None),
        ("/cdm/person/000000.csv.gz", "person"),
        ("/cdm/note.csv", None),
        ("person.csv", "person"),
    ],
)
def test_files_belong_to_tables_by_name(uri: str, table: str | None) -> None:
    assert table_of(uri) == table


@pytest.mark.parametrize(
    ("table", "names", "absent"),
    [
        ("person", ["year_of_birth"], "person_id"),
        ("measurement", ["person_id", "measurement_date"], "measurement_concept_id"),
        ("death", ["person_id"], "death_datetime or death_date"),
    ],
)
def test_a_file_without_its_columns_says_which(table: str, names: list[str], absent: str) -> None:
    with pytest.raises(UsageError, match=absent):
        columns_of(table, names)
