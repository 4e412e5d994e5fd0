"""`ingest` of patients' tables: small real files → events, facts and counts that hold."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medray import api, storage
from medray.dataset import RecordsDataset, open_any
from medray.errors import DataError, LeakError, OutputConflictError, UsageError
from medray.ingest.records import RecordsSummary
from medray.spec.models import RunSpec
from tests.timelines import HEADER, cohort, records_spec, write_cohort, write_csv, write_outcomes


def ingest(root: Path, **changes: Any) -> RecordsSummary:
    return api.ingest(RunSpec.model_validate(records_spec(root, **changes)))


def opened(root: Path) -> RecordsDataset:
    dataset = open_any(str(root / "out"))
    assert isinstance(dataset, RecordsDataset)
    return dataset


def events(root: Path) -> pa.Table:
    table = storage.read_table(str(root / "out/dataset/events"))
    keys = ("subject_id", "time", "code", "text_value", "numeric_value")
    return table.sort_by([(name, "ascending") for name in keys])


def source(root: Path, **more: Any) -> dict[str, Any]:
    return {**records_spec(root)["records"]["sources"][0], **more}


def test_counts_files_and_facts(tmp_path: Path) -> None:
    rows, died = cohort(20)
    wrong = [
        ("", "1", "HR", "80"),
        ("p001", "1", "", "80"),
        ("p001", "noon", "HR", "80"),
        ("p001", "1", "HR", "inf"),
        ("p001", "1", "HR", "900"),
        ("p001", "1", "HR", "-1"),
        ("p001", "1", "Note", "x"),
        rows[2],  # said before, in another file
    ]
    write_csv(tmp_path / "events/a.csv", rows[:100])
    write_csv(tmp_path / "events/b.csv", [*rows[100:], *wrong])
    write_outcomes(tmp_path / "outcomes.csv", {**died, "nobody": 1})
    spec = records_spec(tmp_path)
    spec["records"] |= {"codes": {"HR": {"high": 300, "missing": [-1]}}, "drop": ["Note"]}
    summary = api.ingest(RunSpec.model_validate(spec))
    assert (summary.rows, summary.events, summary.dropped) == (len(rows) + 8, len(rows), 1)
    assert summary.refused == dict.fromkeys(
        [
            "duplicate_event",
            "implausible_value",
            "invalid_time",
            "invalid_value",
            "missing_value",
            "no_code",
            "no_subject",
        ],
        1,
    )
    assert summary.rejected_share == pytest.approx(5 / (len(rows) + 8))
    assert (summary.subjects, summary.without_events, summary.files) == (21, 1, 2)
    held = summary.timelines
    assert (held.subjects, held.events) == (20, len(rows))
    assert held.static_events == sum(row[1] == "" for row in rows)
    over_both = {row[0] for row in rows[:100]} & {row[0] for row in rows[100:]}
    assert held.split_over_files == len(over_both)  # refused rows do not count
    for code in held.codes:
        mine = [row for row in rows if row[2] == code.code]
        numbers = [row for row in mine if row[3].replace(".", "").replace("-", "").isdigit()]
        assert (code.events, code.numeric) == (len(mine), len(numbers)), code.code
        assert code.subjects == len({row[0] for row in mine})
        assert code.missing == pytest.approx(1 - code.subjects / 20)
        assert code.text == (len(mine) if code.code == "Sex" else 0)
    refused = storage.read_table(str(tmp_path / "out/inventory/refused")).to_pylist()
    assert {(row["file"], row["row"], row["reason"]) for row in refused} == {
        *((1, len(rows) - 100 + place, reason) for place, reason in enumerate(
            ("no_subject", "no_code", "invalid_time", "invalid_value", "implausible_value",
             "missing_value"))),
        (1, len(rows) - 100 + 7, "duplicate_event"),
    }  # fmt: skip
    json.dumps(summary.to_dict())
    assert "21 patients" in summary.headline()


def test_a_patient_over_several_files_stands_once_and_whole(tmp_path: Path) -> None:
    died = write_cohort(tmp_path, 30, files=3)
    summary = ingest(tmp_path)
    assert summary.timelines.split_over_files == 30
    dataset = opened(tmp_path)
    assert len(dataset.event_files()) == 3
    places: dict[int, int] = {}
    for number, uri in enumerate(dataset.event_files()):
        table = pq.read_table(uri)
        subjects = table["subject_id"].to_pylist()
        blocks = [one for at, one in enumerate(subjects) if at == 0 or subjects[at - 1] != one]
        assert len(blocks) == len(set(blocks))  # each in one piece
        assert not set(blocks) & set(places)  # and in one file
        places |= dict.fromkeys(blocks, number)
        for one in blocks:
            times = table.filter(pa.compute.equal(table["subject_id"], one))["time"].to_pylist()
            timed = [time for time in times if time is not None]
            assert times == [None] * (len(times) - len(timed)) + sorted(timed)
    assert len(places) == 30
    labels = dataset.labels()
    assert sum(labels["events"].to_pylist()) == events(tmp_path).num_rows
    assert sorted(labels["died"].to_pylist()) == sorted(died.values())
    # what a split holds is what the files say
    held = dataset.read("train")
    assert sum(map(len, held["event_time"])) == sum(held["events"])


def test_run_again_it_does_nothing_and_what_changed_is_taken_in(tmp_path: Path) -> None:
    write_cohort(tmp_path, 12)
    first = ingest(tmp_path)
    before, whole = opened(tmp_path).fingerprint(), events(tmp_path)
    files = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}
    again = ingest(tmp_path)
    assert first.changed_dataset
    assert not again.changed_dataset
    assert again.headline().startswith("nothing new")
    assert (again.rows, again.subjects, again.splits) == (first.rows, first.subjects, first.splits)
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert after == files

    file = tmp_path / "events/part1.csv"
    old, old_times = file.read_text(), file.stat()
    file.write_text(old + "p000,40,Lactate,3\n")
    assert ingest(tmp_path).events == first.events + 1
    assert events(tmp_path).num_rows == first.events + 1
    assert opened(tmp_path).fingerprint() != before

    # and back to what it was: the same bytes at the same time
    file.write_text(old)
    os.utime(file, ns=(old_times.st_atime_ns, old_times.st_mtime_ns))
    assert ingest(tmp_path).changed_dataset
    assert events(tmp_path).equals(whole)
    assert opened(tmp_path).fingerprint() == before
    assert not (tmp_path / "out/.staging").exists()


def test_another_split_and_back_again(tmp_path: Path) -> None:
    write_cohort(tmp_path, 30)
    halves = {"fractions": {"train": 0.5, "tuning": 0.0, "held_out": 0.5}}
    first = ingest(tmp_path)
    other = ingest(tmp_path, split=halves)
    assert other.splits != first.splits
    assert ingest(tmp_path).splits == first.splits
    assert opened(tmp_path).counts()["train"]["items"] == first.splits["train"]["items"]


def plain(root: Path) -> list[list[str]]:
    rows, died = cohort(4)
    write_outcomes(root / "outcomes.csv", died)
    said = [list(row) for row in rows]
    return [
        *said,
        ["p000", "1", "Note", 'says "no",\nand; more\tthan that'],
        ["p001", "2", "N", "é"],
    ]


def as_text(rows: list[list[str]], separator: str, end: str = "\n") -> str:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"' if set(cell) & set('",;\t\n') else cell

    lines = [separator.join(map(quoted, row)) for row in [list(HEADER), *rows]]
    return end.join(lines) + end


def write_as(root: Path, form: str, rows: list[list[str]]) -> None:
    folder = root / "events"
    folder.mkdir()
    if form == "parquet":
        columns = [[cell or None for cell in column] for column in zip(*rows, strict=True)]
        table = pa.table(dict(zip(HEADER, columns, strict=True)))
        pq.write_table(table, folder / "a.parquet", row_group_size=7)
    elif form == "dictionary":
        columns = [pa.array(column).dictionary_encode() for column in zip(*rows, strict=True)]
        pq.write_table(pa.table(dict(zip(HEADER, columns, strict=True))), folder / "a.parquet")
    elif form == "gz":
        (folder / "a.csv.gz").write_bytes(gzip.compress(as_text(rows, ",").encode()))
    else:
        text = {
            "comma": as_text(rows, ","),
            "semicolon": as_text(rows, ";"),
            "tab": as_text(rows, "\t"),
            "bom": "\ufeff" + as_text(rows, ","),
            "windows": as_text(rows, ",", "\r\n"),
            "no last line end": as_text(rows, ",").rstrip("\n"),
            "blank lines": as_text(rows, ",", "\n\n"),
        }[form]
        (folder / f"a.{'tsv' if form == 'tab' else 'csv'}").write_bytes(text.encode())


def test_files_of_every_form_say_the_same(tmp_path: Path) -> None:
    forms = ("comma", "semicolon", "tab", "bom", "windows", "no last line end", "blank lines")
    tables: dict[str, pa.Table] = {}
    for form in (*forms, "gz", "parquet", "dictionary"):
        root = tmp_path / form
        root.mkdir()
        rows = plain(root)
        write_as(root, form, rows)
        summary = ingest(root, split={"fractions": {"train": 1, "tuning": 0, "held_out": 0}})
        assert (summary.rows, summary.events) == (len(rows), len(rows)), form
        tables[form] = events(root)
    notes = [text for text in tables["comma"]["text_value"].to_pylist() if text and "no" in text]
    assert notes == ['says "no",\nand; more\tthan that']
    for form, table in tables.items():
        assert table.equals(tables["comma"]), form


def test_wide_visits_with_births_and_facts(tmp_path: Path) -> None:
    rows = [
        ("1", "2020-01-05", "1950-03-01", "F", "1.1", ""),
        ("1", "2020-02-05", "1950-03-01", "F", "", "mild"),
        ("2", "1939-12-31", "1940-01-01", "M", "2.5", ""),  # before the birth
        ("2", "2020-03-01", "1940-01-01", "M", "2.6", ""),
    ]
    write_csv(tmp_path / "v.csv", rows, ("id", "day", "born", "sex", "bili", "oedema"))
    wide = {"format": "wide", "path": str(tmp_path / "v.csv"), "subject": "id", "time": "day"}
    wide |= {"static": ["sex"], "birth": "born"}
    summary = ingest(tmp_path, records={"sources": [wide], "shards": 2})
    # 2 births, 2 facts, bili 3 of which one is too early, oedema; births said again are no events
    assert summary.events == 7
    assert summary.refused == {"time_before_birth": 1}
    assert summary.not_used == {"facts said again": 4}
    assert summary.dropped == 4
    labels = opened(tmp_path).labels()
    # a record begins with the first visit, not with the birth
    assert {str(value.date()) for value in labels["start"].to_pylist()} == {
        "2020-01-05",
        "2020-03-01",
    }
    assert summary.timelines.span_days[-1] == 31


def test_split_by_column_required_tables_and_patients_without_events(tmp_path: Path) -> None:
    rows, died = cohort(9)
    write_csv(tmp_path / "events/a.csv", rows)
    known = {name: died[name] for name in list(died)[:8]} | {"extra": 0}
    part = ["train"] * 5 + ["val", "test", "", "held_out"]
    write_outcomes(tmp_path / "outcomes.csv", known, part=part)
    spec = records_spec(tmp_path, split={"column": "part"})
    spec["records"]["tables"][0]["required"] = True
    summary = api.ingest(RunSpec.model_validate(spec))
    counts = {name: count["items"] for name, count in summary.splits.items()}
    assert counts == {"train": 5, "tuning": 1, "held_out": 2}
    assert summary.without_split == 2  # one without a part, one that the table does not know
    assert summary.without_events == 1
    assert summary.unmatched == {"outcomes.csv": 1}
    assert summary.split_by == "by the column part"
    assert "part" not in opened(tmp_path).labels().column_names


def test_one_record_under_two_names_is_a_leak(tmp_path: Path) -> None:
    rows, died = cohort(8)
    copies = [("copy", *row[1:]) for row in rows if row[0] == "p001"]
    assert len(copies) >= 10
    one_visit = [(name, "1", "Visit", "") for name in ("a", "b")]  # alike by chance
    write_csv(tmp_path / "events/a.csv", [*rows, *copies, *one_visit])
    whose = {**died, "copy": 1, "a": 0, "b": 0}
    part = ["train"] * 8 + ["held_out", "train", "held_out"]
    write_outcomes(tmp_path / "outcomes.csv", whose, part=part)
    split = {"column": "part", "fractions": {"train": 0.8, "tuning": 0, "held_out": 0.2}}
    with pytest.raises(LeakError, match=r"1 identical images or records .* \(2 items\)"):
        ingest(tmp_path, split=split)
    assert not (tmp_path / "out/dataset").exists()
    summary = ingest(tmp_path, split=split | {"identical_images": "drop"})
    assert summary.identical_left_out == 1
    counts = {name: count["items"] for name, count in summary.splits.items()}
    assert counts == {"train": 8, "tuning": 0, "held_out": 2}


def test_an_output_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    write_cohort(tmp_path, 6)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.doc").write_text("mine")
    with pytest.raises(OutputConflictError, match="1 things that no run of medray made"):
        ingest(tmp_path)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.doc"]


def test_another_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cohort(tmp_path, 6)
    ingest(tmp_path)
    monkeypatch.setenv("MEDRAY_KEY_FILE", str(tmp_path / "other.key"))
    with pytest.raises(OutputConflictError, match="another pseudonym key"):
        ingest(tmp_path)


CUT_SHORT = gzip.compress(os.urandom(4000).hex().encode())[:2000]


@pytest.mark.parametrize(
    ("name", "data", "error", "why"),
    [
        ("a.csv.gz", CUT_SHORT, DataError, "source 0"),
        ("a.parquet", b"PAR1 and no more", DataError, "not a readable Parquet"),
        ("a.csv", b"stay,hours,code,value\np,1,x\n", DataError, "no regular CSV"),
        ("a.csv", b"stay,hours,code,value\np,1,\xff\xfe,1\n", DataError, "no regular CSV"),
        ("a.csv", b"stay,hours,code,value,value\np,1,x,1,2\n", DataError, "names a column twice"),
        ("a.csv", b"id,hours,code,value\np,1,x,1\n", UsageError, "no column 'stay'"),
        ("a.csv", b"stay,hours,code,value\n", DataError, "they are empty"),
        ("a.csv", b"stay,hours,code,value\n,1,x,1\n", DataError, "1 no_subject"),
        ("a.txt", b"", UsageError, "no CSV or Parquet file"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, name: str, data: bytes, error: type[Exception], why: str
) -> None:
    (tmp_path / "events").mkdir()
    (tmp_path / "events" / name).write_bytes(data)
    write_outcomes(tmp_path / "outcomes.csv", {"p": 1})
    with pytest.raises(error, match=why) as caught:
        ingest(tmp_path)
    assert str(tmp_path / "events" / name) not in str(caught.value)
    assert not (tmp_path / "out/dataset").exists()


def test_nothing_of_a_patient_leaves_by_the_dataset(tmp_path: Path) -> None:
    """Raw names stand nowhere; rare texts are no names that a package would carry."""
    rows, died = cohort(12)
    notes = [("p003", "5", "Note", f"Mrs. Miller's note {number}") for number in range(4)]
    write_csv(tmp_path / "events/a.csv", [*rows, *notes])
    write_outcomes(tmp_path / "outcomes.csv", died)
    ingest(tmp_path)
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert b"p003" not in path.read_bytes(), path
    named = opened(tmp_path).names().values()
    assert {"Lactate", "Note"} <= set(named)
    assert not [name for name in named if "Miller" in name]
    subjects = opened(tmp_path).labels()["subject_id"].to_pylist()
    assert np.unique([int(one) for one in subjects]).size == 12
