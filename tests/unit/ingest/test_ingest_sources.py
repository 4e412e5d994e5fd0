"""Which files of records are read, and how lines come out of them."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from medray.errors import DataError, SpecError, UsageError
from medray.ingest import sources
from medray.spec.load import parse_spec
from medray.spec.records import RecordsSpec

PATIENT = b'{"resourceType": "Patient", "id": "%d", "gender": "male"}\n'


def spec(form: str, *paths: Path) -> RecordsSpec:
    source: dict[str, Any] = {"format": form, "path": tuple(map(str, paths))}
    return RecordsSpec.model_validate({"sources": [source]})


def names(form: str, *paths: Path) -> list[str]:
    return [Path(unit["uri"]).name for unit in sources.units_of(spec(form, *paths))]


def subjects(asked: RecordsSpec) -> tuple[list[str], list[tuple[int, str]]]:
    """Patients that were read, and (row, reason) of what was refused."""
    found: list[str] = []
    refused: list[tuple[int, str]] = []
    for unit in sources.units_of(asked):
        for batch in sources.read(unit, asked.sources[0], {}, ()):
            found += batch.events["subject"].to_pylist()
            refused += [(row["row"], row["reason"]) for row in batch.refused.to_pylist()]
    return found, refused


def test_fhir_reads_lines_plain_and_compressed(tmp_path: Path) -> None:
    (tmp_path / "Patient.ndjson").write_bytes(PATIENT % 1)
    with gzip.open(tmp_path / "Patient.2.jsonl.gz", "wb") as file:
        file.write(PATIENT % 2)
    (tmp_path / "bundle.json").write_text("{}")
    assert names("fhir", tmp_path) == ["Patient.2.jsonl.gz", "Patient.ndjson"]
    assert subjects(spec("fhir", tmp_path)) == (["2", "1"], [])


def test_lines_are_whole_however_the_blocks_fall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"".join(PATIENT % number for number in range(50)) + b'{"resourceType": "Patient"'
    (tmp_path / "a.ndjson").write_bytes(text.replace(b"\n", b"\r\n"))
    for size in (1, 7, 61, 4096):
        monkeypatch.setattr(sources, "_LINES_BYTES", size)
        found, refused = subjects(spec("fhir", tmp_path))
        assert found == [str(number) for number in range(50)], size
        assert refused == [(50, "unreadable_row")]


def test_a_line_too_long_to_hold_is_refused_and_the_next_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_LINES_BYTES", 64)
    monkeypatch.setattr(sources, "_LINE_BYTES", 256)
    long = b'{"resourceType": "Patient", "id": "%s"}\n' % (b"x" * 5000)
    (tmp_path / "a.ndjson").write_bytes(PATIENT % 1 + long + PATIENT % 2 + long.strip())
    assert subjects(spec("fhir", tmp_path)) == (
        ["1", "2"],
        [(1, "unreadable_row"), (3, "unreadable_row")],
    )


def test_a_compressed_file_that_breaks_off_says_so(tmp_path: Path) -> None:
    text = b"".join(PATIENT % number for number in range(1000))
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(text)[:-40])
    with pytest.raises(DataError, match="file 0 of source 0 cannot be read to its end"):
        subjects(spec("fhir", tmp_path))


def test_omop_reads_its_tables_alone(tmp_path: Path) -> None:
    for name in ("PERSON.csv", "death.csv", "concept.csv", "note.csv"):
        (tmp_path / name).write_text("person_id\n")
    assert names("omop", tmp_path) == ["PERSON.csv", "death.csv"]


def test_meds_reads_data_and_neither_metadata_nor_labels(tmp_path: Path) -> None:
    for folder in ("data/train", "metadata", "labels"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "0.csv").write_text("subject_id,time,code,numeric_value\n1,,a,\n")
    assert names("meds", tmp_path) == ["0.csv"]


@pytest.mark.parametrize(
    ("form", "wanted"), [("fhir", "NDJSON"), ("omop", "person, visit_occurrence"), ("long", "CSV")]
)
def test_a_folder_without_such_files_says_what_is_wanted(
    tmp_path: Path, form: str, wanted: str
) -> None:
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(UsageError, match=wanted):
        names(form, tmp_path)


@pytest.mark.parametrize("form", ["fhir", "omop"])
def test_a_standard_takes_no_names_of_columns(form: str) -> None:
    text = f"name: a\nrecords:\n  sources:\n    - {{format: {form}, path: x, code: c, unit: u}}\n"
    with pytest.raises(SpecError, match="are its own: leave out code, unit"):
        parse_spec(text)
    sound = parse_spec(f"name: a\nrecords: {{sources: [{{format: {form}, path: x}}]}}\n").records
    assert sound is not None
    assert RecordsSpec.model_validate_json(sound.model_dump_json()) == sound
