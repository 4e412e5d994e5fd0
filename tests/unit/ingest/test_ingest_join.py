"""Tables: keys, types, what matches, what may not enter a dataset."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medray.errors import DataError, UsageError
from medray.ingest.join import LabelTable, label_columns, match, read_tables
from medray.schema import FILES
from medray.spec.models import TableSpec


def read(path: Path, text: str | bytes, **spec: Any) -> LabelTable:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (table,) = read_tables([TableSpec(path=str(path), **{"on": "patient_id"} | spec)])
    return table


def file(number: int, **values: str | None) -> dict[str, Any]:
    names = [field.name for field in FILES if pa.types.is_string(field.type)]
    return dict.fromkeys(names) | {"file_id": f"f{number}", "path": f"{number}"} | values


def test_keys_are_text_and_leading_zeros_count(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", "patient_id,y\n 007 ,1\n7,0\n")
    found = match(table, [file(1, patient_id="007"), file(2, patient_id="7 ")])
    assert found.rows == [0, 1]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (["1", "", "3"], pa.int64(), [1, None, 3]),
        (["1", "NA", "2.5"], pa.float64(), [1.0, None, 2.5]),
        (["1e-3", ".5", "-2."], pa.float64(), [0.001, 0.5, -2.0]),
        (["true", "False", ""], pa.bool_(), [True, False, None]),
        (["01", "2"], pa.string(), ["01", "2"]),
        (["1.2.840", "1.2"], pa.string(), ["1.2.840", "1.2"]),
        (["12345678901234567890123"], pa.string(), ["12345678901234567890123"]),
        ([" benign ", "nan"], pa.string(), ["benign", None]),
        (["", ""], pa.string(), [None, None]),
    ],
)
def test_types_of_columns(
    tmp_path: Path, values: list[str], kind: pa.DataType, expected: list[Any]
) -> None:
    rows = "".join(f"p{i},{value}\n" for i, value in enumerate(values))
    table = read(tmp_path / "t.csv", f"patient_id,y\n{rows}")
    assert table.table["y"].type == kind
    assert table.table["y"].to_pylist() == expected


@pytest.mark.parametrize(
    "text",
    [
        "patient_id;y\nA;1\n",
        "patient_id\ty\nA\t1\n",
        "\ufeffpatient_id,y\r\nA,1\r\n",
        '"patient_id","y"\n"A","1"\n',
    ],
)
def test_dialects(tmp_path: Path, text: str) -> None:
    table = read(tmp_path / "t.csv", text)
    assert table.keys == ["A"]
    assert table.table.to_pylist() == [{"y": 1}]


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"mrn": [7, 8], "y": pa.array([0.5, None], pa.float32())}), path)
    (table,) = read_tables([TableSpec(path=str(path), on="patient_id", key="mrn")])
    assert table.keys == ["7", "8"]
    assert table.table["y"].type == pa.float32()


@pytest.mark.parametrize(
    ("text", "spec", "error", "said"),
    [
        ("pid,y\nA,1\n", {}, UsageError, "no column 'patient_id'"),
        ("patient_id,y\nA,1\n", {"columns": ["z"]}, UsageError, "no column 'z'"),
        ("key,patient_id\nA,1\n", {"key": "key", "columns": ["patient_id"]}, UsageError, "ident"),
        ("patient_id,pixels\nA,1\n", {}, UsageError, "medray uses itself"),
        ("patient_id,y,y\nA,1,2\n", {}, DataError, "twice"),
        (b"patient_id,y\n\xff,1\n", {}, DataError, "UTF-8"),
        ("patient_id,y\nA\nB,1,2\n", {}, DataError, "regular CSV"),
        (b"PAR1 no", {}, DataError, "Parquet"),
    ],
)
def test_bad_tables_are_said(
    tmp_path: Path, text: str | bytes, spec: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        read(tmp_path / "t.csv", text, **spec)


def test_a_missing_table_and_two_columns_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv cannot be read"):
        read_tables([TableSpec(path=str(tmp_path / "none.csv"), on="path")])
    (tmp_path / "t.csv").write_text("patient_id,y\nA,1\n")
    twice = TableSpec(path=str(tmp_path / "t.csv"), on="patient_id")
    with pytest.raises(UsageError, match="same name: y"):
        read_tables([twice, twice])


def test_unmatched_rows_of_both_sides_are_counted(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", "patient_id,y\nA,1\nB,2\nC,3\n,4\n")
    found = match(table, [file(1, patient_id="B"), file(2, patient_id="X"), file(3)])
    assert found.rows == [1, -1, -1]
    assert (found.unmatched_files, found.example_files) == (2, ["f2", "f3"])
    assert (found.unmatched_rows, found.example_rows) == (3, [2, 4, 5])  # lines of the file


def test_a_key_with_two_meanings_is_an_error_and_a_repeated_row_is_not(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", "patient_id,y\nA,1\nA,1\nB,2\nB,3\n")
    with pytest.raises(DataError, match=r"'patient_id' of t\.csv has 1 keys") as raised:
        match(table, [file(1, patient_id="A")])
    assert "B" not in str(raised.value).replace("BY", "")
    once = read(tmp_path / "t.csv", "patient_id,y\nA,1\nA,1\n")
    assert match(once, [file(1, patient_id="A")]).rows == [0]


def test_no_match_tells_forms_but_no_values(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", "patient_id,y\nHAM-0042,1\n")
    with pytest.raises(DataError) as raised:
        match(table, [file(1, patient_id="00077123")])
    said = str(raised.value)
    assert "a-9 (8 characters)" in said
    assert "9 (8 characters)" in said
    assert "HAM" not in said
    assert "77123" not in said


def test_paths_are_compared_as_they_are_written_anywhere(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", "path,y\n.\\a\\b.png,1\n", on="path")
    assert match(table, [file(1, path="a/b.png")]).rows == [0]


def test_identifiers_stay_out_by_name_and_by_value(tmp_path: Path) -> None:
    people = [f"P{i:03d}" for i in range(20)]
    rows = "".join(f"{p},{p},{i},1.2.{i}\n" for i, p in enumerate(people))
    table = read(
        tmp_path / "t.csv",
        f"patient_id,mrn,y,study_instance_uid\n{rows}",
    )
    files = [file(i, patient_id=p) for i, p in enumerate(people)]
    columns, left = label_columns([table], [match(table, files)], files)
    assert list(columns) == ["y"]
    assert sorted(left) == ["mrn", "study_instance_uid"]
