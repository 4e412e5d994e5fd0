"""FHIR and OMOP through the command line: ingest, inspect, export as MEDS, and back in again."""

import json
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import meds
import pyarrow.parquet as pq
import pytest
from clinics import (
    FHIR_NOT_USED,
    FHIR_REFUSED,
    OMOP_REFUSED,
    PATIENTS,
    Event,
    fhir_timelines,
    omop_timelines,
    write_fhir,
    write_omop,
)

from medray import storage

Run = Callable[..., tuple[int, str, str]]

SPEC = """\
name: clinic
output: {root}/{format}-run
records:
  sources: [{{format: {format}, path: {root}/{format}}}]
  codes: {{{glucose}: {{unit: mg/dL, low: 10, high: 1500}}}}
  shards: 3
split: {{fractions: {{train: 0.5, tuning: 0.25, held_out: 0.25}}}}
workload: timeline
params:
  outcome: {{code: {diabetes}}}
  horizon_days: 100
  predict_at: visits
  hidden: 4
  min_patients: 2
train: {{epochs: 1}}
"""
CODES = {
    "fhir": {"glucose": "LOINC//2345-7", "diabetes": "SNOMED//44054006"},
    "omop": {"glucose": "OMOP//measurement//3004501", "diabetes": "OMOP//condition//201826"},
}
EXPECTED: dict[str, tuple[list[list[Event]], dict[str, int], dict[str, int]]] = {
    "fhir": (fhir_timelines(), FHIR_REFUSED, FHIR_NOT_USED),
    "omop": (omop_timelines(), OMOP_REFUSED, {}),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clinic")
    write_fhir(folder / "fhir")
    write_omop(folder / "omop")
    for form in ("fhir", "omop"):
        (folder / f"{form}.yaml").write_text(SPEC.format(root=folder, format=form, **CODES[form]))
    return folder


def timelines(rows: list[dict[str, Any]]) -> list[list[Event]]:
    """Events of every patient, without their names, in an order of their own."""
    by_subject: dict[int, list[Event]] = defaultdict(list)
    for row in rows:
        time = None if row["time"] is None else row["time"].isoformat()
        event = (time, row["code"], row["numeric_value"], row["text_value"])
        by_subject[row["subject_id"]].append(event)
    return sorted((sorted(events, key=str) for events in by_subject.values()), key=str)


def exported(folder: Path, kind: str = "data") -> list[dict[str, Any]]:
    files = sorted((folder / kind).rglob("*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


@pytest.mark.parametrize("form", ["fhir", "omop"])
def test_in_and_out_again(root: Path, run: Run, form: str) -> None:
    expected, refused, not_used = EXPECTED[form]
    expected = sorted(expected, key=str)
    events = sum(len(one) for one in expected)

    code, out, err = run("ingest", root / f"{form}.yaml")
    assert code == 0, f"{err}\n{out}"
    output = root / f"{form}-run"
    told = json.loads((output / "dataset" / "summary.json").read_text())
    assert told["refused"] == refused
    assert told["not_used"] == not_used
    assert told["rows"] == told["events"] + told["dropped"] + sum(refused.values())
    assert (told["events"], told["subjects"]) == (events, PATIENTS)
    assert timelines(storage.read_table(str(output / "dataset" / "events")).to_pylist()) == expected

    code, out, err = run("inspect", output, "--json")
    assert code == 0, err
    parts = {part["kind"]: part for part in json.loads(out)["parts"]}
    assert parts["refused rows"]["facts"]["reasons"] == refused
    held = parts["dataset"]["facts"]
    assert (held["subjects"], held["events"]) == (PATIENTS, events)
    assert sum(held["splits"].values()) == PATIENTS
    assert held["subjects_without_code"][CODES[form]["glucose"]] == "0%"
    tables = {part["kind"]: part["facts"]["rows"] for part in parts["dataset"]["parts"]}
    assert tables == {"events": events, "subjects": PATIENTS}
    code, out, err = run("inspect", output / "dataset")
    assert code == 0, err
    assert "timelines" in out

    folder = root / f"{form}-meds"
    for _ in range(2):  # an export replaces its like
        code, out, err = run("export", "meds", root / f"{form}.yaml", "--out", folder)
        assert code == 0, err
    check_meds(folder, expected)
    check_labels(folder, CODES[form]["diabetes"])
    code, out, err = run("inspect", folder, "--json")
    assert code == 0, err
    assert json.loads(out)["kind"] == "MEDS"

    again = root / f"{form}-again.yaml"
    again.write_text(
        f"name: again\noutput: {root}/{form}-again\n"
        f"records: {{sources: [{{format: meds, path: {folder}}}]}}\n"
    )
    code, out, err = run("ingest", again)
    assert code == 0, err
    table = storage.read_table(str(root / f"{form}-again" / "dataset" / "events"))
    assert timelines(table.to_pylist()) == expected


def check_meds(folder: Path, expected: list[list[Event]]) -> None:
    """The rules of MEDS 0.4, https://github.com/Medical-Event-Data-Standard/meds."""
    splits = pq.ParquetFile(folder / meds.subject_splits_filepath).read()
    meds.SubjectSplitSchema.validate(splits)
    split_of = dict(zip(*splits.to_pydict().values(), strict=True))
    assert len(split_of) == PATIENTS
    seen: set[int] = set()
    for file in sorted((folder / "data").rglob("*.parquet")):
        table = pq.ParquetFile(file).read()
        meds.DataSchema.validate(table)
        subjects = table["subject_id"].to_pylist()
        runs = [one for at, one in enumerate(subjects) if at == 0 or subjects[at - 1] != one]
        assert len(runs) == len(set(runs)), "a subject is not contiguous"
        assert not seen & set(runs), "a subject stands in two files"
        seen |= set(runs)
        assert {split_of[one] for one in runs} == {file.parent.name}
        times = table["time"].to_pylist()
        for at in range(1, len(subjects)):
            if subjects[at] == subjects[at - 1]:
                before, after = times[at - 1], times[at]
                assert before is None or (after is not None and before <= after)
    assert timelines(exported(folder)) == expected
    codes = pq.ParquetFile(folder / meds.code_metadata_filepath).read()
    meds.CodeMetadataSchema.validate(codes)
    assert set(codes["code"].to_pylist()) == {row["code"] for row in exported(folder)}
    metadata = json.loads((folder / meds.dataset_metadata_filepath).read_text())
    meds.DatasetMetadataSchema.validate(metadata)
    assert metadata["meds_version"] == meds.__version__


def check_labels(folder: Path, outcome: str) -> None:
    """Each visit's answer, read off the exported events once more."""
    horizon = timedelta(days=100)
    events: dict[int, list[tuple[Any, str]]] = defaultdict(list)
    for row in exported(folder):
        if row["time"] is not None:
            events[row["subject_id"]].append((row["time"], row["code"]))
    expected: dict[tuple[int, Any], bool] = {}
    for subject, timed in events.items():
        last = max(time for time, _ in timed)
        for now in {time for time, code in timed if code != meds.birth_code}:
            later = [time for time, code in timed if code == outcome and time > now]
            if later and min(later) <= now + horizon:
                expected[subject, now] = True
            elif later or last >= now + horizon:
                expected[subject, now] = False
    for file in (folder / "labels").rglob("*.parquet"):
        meds.LabelSchema.validate(pq.ParquetFile(file).read())
    rows = exported(folder, "labels")
    found = {(row["subject_id"], row["prediction_time"]): row["boolean_value"] for row in rows}
    assert len(found) == len(rows)
    assert found == expected
    assert set(found.values()) == {True, False}


def test_an_export_without_a_spec_has_no_labels(root: Path, run: Run) -> None:
    run("ingest", root / "fhir.yaml")
    code, _, err = run("export", "meds", root / "fhir-run", "--out", root / "plain")
    assert code == 0, err
    assert not (root / "plain" / "labels").exists()
    assert timelines(exported(root / "plain")) == sorted(fhir_timelines(), key=str)


def test_a_package_of_records_says_what_it_was_asked(root: Path, run: Run) -> None:
    for verb in ("ingest", "train"):
        code, out, err = run(verb, root / "fhir.yaml")
        assert code == 0, f"{verb}: {err}\n{out}"
    code, out, err = run("inspect", root / "fhir-run" / "package", "--json")
    assert code == 0, err
    facts = json.loads(out)["facts"]
    assert facts["workload"] == "timeline"
    assert facts["asked"]["outcome"]["code"] == CODES["fhir"]["diabetes"]
    assert facts["learned_from"]["records"] == ["fhir"]
    assert facts["learned_from"]["codes_and_texts"] > 0


def test_an_export_touches_nothing_of_others(root: Path, tmp_path: Path, run: Run) -> None:
    run("ingest", root / "fhir.yaml")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.docx").write_bytes(b"mine")
    code, _, err = run("export", "meds", root / "fhir.yaml", "--out", theirs)
    assert code == 2
    assert "→" in err
    assert [path.name for path in theirs.iterdir()] == ["thesis.docx"]

    ours = tmp_path / "ours"
    assert run("export", "meds", root / "fhir.yaml", "--out", ours)[0] == 0
    (ours / "data" / "notes.txt").write_text("mine")
    code, _, err = run("export", "meds", root / "fhir.yaml", "--out", ours)
    assert code == 2
    assert (ours / "data" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / ".staging").exists()


def test_an_export_before_an_ingest_names_the_verb_to_run(tmp_path: Path, run: Run) -> None:
    spec = tmp_path / "run.yaml"
    spec.write_text(
        f"name: a\noutput: {tmp_path}/out\nrecords: {{sources: [{{format: fhir, path: x}}]}}\n"
    )
    for source in (spec, tmp_path):
        code, _, err = run("export", "meds", source, "--out", tmp_path / "meds")
        assert code == 1
        assert "medray ingest" in err
    assert not (tmp_path / "meds").exists()


def test_a_source_of_nothing_says_why(tmp_path: Path, run: Run) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.ndjson").write_text("{}\n{\n")
    spec = tmp_path / "run.yaml"
    source = f"{{format: fhir, path: {tmp_path}/data}}"
    spec.write_text(f"name: a\noutput: {tmp_path}/out\nrecords: {{sources: [{source}]}}\n")
    code, _, err = run("ingest", spec)
    assert code == 1
    assert "2 unreadable_row" in err
