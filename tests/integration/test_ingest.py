"""Ingest from an archive on disk to a dataset, run after run."""

import io
import json
import logging
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scans import SYNTAXES, add_refused, scan, write_archive

from medray import storage
from medray.dataset import open_dataset
from medray.dicom.write import write_instance
from medray.errors import DataError, LeakError, MedrayError, OutputConflictError, UsageError
from medray.ingest import IngestSummary, ingest, parts
from medray.spec.models import RunSpec


def spec(root: Path, split: dict[str, Any] | None = None, **settings: Any) -> RunSpec:
    section = {"archive": str(root / "archive"), "files_per_task": 4} | settings
    return RunSpec.model_validate(
        {"name": "t", "output": str(root / "out"), "ingest": section, "split": split or {}}
    )


def run(root: Path, split: dict[str, Any] | None = None, **settings: Any) -> IngestSummary:
    summary = ingest(spec(root, split, **settings))
    check_sums(root, summary)
    return summary


def check_sums(root: Path, summary: IngestSummary) -> None:
    """Rows in = rows out: restated from the tables, whatever the summary says."""
    files = inventory(root)
    images = storage.read_table(str(root / "out/dataset/images"))
    labels = storage.read_table(str(root / "out/dataset/labels"))
    ids = images["item_id"].to_pylist()
    assert len(ids) == len(set(ids))
    assert sorted(ids) == sorted(labels["item_id"].to_pylist())
    assert summary.files == len(files) == summary.ok + summary.ignored + summary.rejected
    assert summary.items == len(ids) == sum(row["items"] for row in files.values())
    made: dict[str, int] = {}
    for file_id in images["file_id"].to_pylist():
        made[file_id] = made.get(file_id, 0) + 1
    for row in files.values():
        assert row["items"] == made.pop(row["file_id"], 0)
        assert (row["status"] == "ok") == (row["items"] > 0) == (row["reason"] is None)
    assert not made
    assert not (root / "out/.staging").exists()


def inventory(root: Path) -> dict[str, dict[str, Any]]:
    rows = storage.read_table(str(root / "out/inventory")).to_pylist()
    return {row["path"]: row for row in rows}


def reasons(root: Path) -> dict[str, str]:
    return {path: row["reason"] for path, row in inventory(root).items() if row["reason"]}


def test_every_file_ends_as_items_or_with_a_reason(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", 21)
    expected = add_refused(tmp_path / "archive")
    (tmp_path / "archive/notes.txt").write_text("Patient: Doe^Jane " * 20)
    (tmp_path / "archive/again.dcm").write_bytes(scan(0, SYNTAXES[0]))
    summary = run(tmp_path, reject_limit=0.1)
    for name, reason in expected.items():
        assert inventory(tmp_path)[name]["reason"] == reason, name
    assert reasons(tmp_path)["notes.txt"] == "not_dicom"
    # Of two files of one instance the first by path is taken.
    assert inventory(tmp_path)["again.dcm"]["status"] == "ok"
    assert reasons(tmp_path)["ward0/scan00000.dcm"] == "duplicate_instance"
    assert summary.over_limit
    assert summary.items >= 21


def test_a_second_ingest_does_nothing_and_says_so(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", 6)
    first = run(tmp_path)
    before = sorted(p for p in (tmp_path / "out").rglob("*"))
    second = run(tmp_path)
    assert (first.changed_dataset, first.new, first.decoded) == (True, 6, 6)
    assert (second.changed_dataset, second.unchanged, second.headers) == (False, 6, 0)
    assert second.splits == first.splits
    assert sorted(p for p in (tmp_path / "out").rglob("*")) == before
    assert storage.open_table(str(tmp_path / "out/dataset/images")).version() == 0


def test_new_changed_and_vanished_files(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", 6)
    run(tmp_path)
    before = open_dataset(str(tmp_path / "out")).hashes()
    write_archive(archive, 2, first=6)
    changed = archive / "ward1/scan00001.dcm"
    changed.write_bytes(
        write_instance(
            np.full((9, 9), 7, np.uint8),
            sop_instance_uid="2.25.1000001",
            study_instance_uid="2.25.2000000",
            series_instance_uid="2.25.3000000",
            patient_id="P00000",
        )
    )
    os.utime(changed, ns=(1, 1))
    (archive / "ward2/scan00002.dcm").unlink()
    summary = run(tmp_path)
    assert (summary.new, summary.changed, summary.vanished, summary.unchanged) == (2, 1, 1, 4)
    assert (summary.headers, summary.decoded, summary.items) == (3, 3, 7)
    after = open_dataset(str(tmp_path / "out")).hashes()
    kept = before.keys() & after.keys()
    assert len(kept) == 5
    assert sum(before[item] != after[item] for item in kept) == 1
    shapes = storage.read_table(str(tmp_path / "out/dataset/images"), ["shape"])
    assert shapes["shape"].to_pylist().count([9, 9]) == 1
    assert run(tmp_path).changed_dataset is False


def test_a_file_that_comes_back_as_it_was_is_taken_again(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", 4)
    path = archive / "ward1/scan00001.dcm"
    stamp, data = path.stat().st_mtime_ns, path.read_bytes()
    run(tmp_path)
    path.unlink()
    assert run(tmp_path).items == 3
    path.write_bytes(data)
    os.utime(path, ns=(stamp, stamp))
    assert run(tmp_path).items == 4


def test_a_good_copy_replaces_a_corrupt_one_in_the_same_run(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "archive", 3)
    whole = scan(0, SYNTAXES[0])
    (archive / "a_cut.dcm").write_bytes(whole[: len(whole) - 300])
    run(tmp_path)
    assert reasons(tmp_path) == {"a_cut.dcm": "truncated"}
    assert inventory(tmp_path)["ward0/scan00000.dcm"]["status"] == "ok"


def test_zips_and_folders_give_the_same_pictures(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", 7)
    run(tmp_path)
    (tmp_path / "b/archive").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "b/archive/all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((tmp_path / "archive").rglob("*.dcm")):
            archive.write(path, path.relative_to(tmp_path / "archive"))
        archive.writestr("../evil", b"x")
    run(tmp_path / "b")
    plain, zipped = (open_dataset(str(r / "out")).hashes() for r in (tmp_path, tmp_path / "b"))
    assert plain == zipped
    assert reasons(tmp_path / "b") == {"all.zip!../evil": "archive_unsafe"}


def test_pixels_are_hashed_before_and_stored_after_resizing(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", 4)
    run(tmp_path)
    whole = open_dataset(str(tmp_path / "out")).hashes()
    (tmp_path / "b").mkdir()
    shutil.copytree(tmp_path / "archive", tmp_path / "b/archive")
    run(tmp_path / "b", pixels={"size": [8, 12], "channels": 3})
    dataset = open_dataset(str(tmp_path / "b/out"))
    assert dataset.hashes() == whole
    shapes = storage.read_table(dataset.images_uri, ["shape"])["shape"].to_pylist()
    assert shapes == [[8, 12, 3]] * 4


def test_select_and_required_labels_are_decided_without_decoding(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", 8)
    labels = tmp_path / "labels.csv"
    table = {"path": str(labels), "on": "sop_instance_uid", "required": True}
    labels.write_text("sop_instance_uid,y\n2.25.1000000,1\n2.25.1000001,0\nnobody,1\n")
    first = run(tmp_path, tables=[table])
    assert (first.items, first.decoded, first.reasons) == (2, 2, {"no_label": 6})
    assert (first.tables[0].unmatched_files, first.tables[0].unmatched_rows) == (6, 1)
    # Another value: labels change, nothing is read again.
    labels.write_text("sop_instance_uid,y\n2.25.1000000,0\n2.25.1000001,0\n")
    second = run(tmp_path, tables=[table])
    assert (second.changed_dataset, second.headers, second.decoded) == (True, 0, 0)
    assert open_dataset(str(tmp_path / "out")).labels()["y"].to_pylist() == [0, 0]
    # One more row: one more file is decoded. One fewer: its item leaves.
    labels.write_text("sop_instance_uid,y\n2.25.1000000,0\n2.25.1000002,1\n")
    third = run(tmp_path, tables=[table])
    assert (third.items, third.headers, third.decoded) == (2, 0, 1)
    fourth = run(tmp_path, tables=[], select={"modality": ["CT", "DX"]})
    assert (fourth.items, fourth.decoded) == (8, 6)
    with pytest.raises(DataError, match=r"became an item \(8 not_selected\)"):
        run(tmp_path, tables=[table], select={"modality": ["CT"]})
    assert open_dataset(str(tmp_path / "out")).labels().num_rows == 8  # as it stood


def test_labels_that_match_nothing_leave_nothing(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", 3)
    (tmp_path / "labels.csv").write_text("study_instance_uid,y\n9.9.9,1\n")
    table = {"path": str(tmp_path / "labels.csv"), "on": "study_instance_uid"}
    with pytest.raises(DataError, match=r"no row of labels\.csv matches"):
        run(tmp_path, tables=[table])
    assert not (tmp_path / "out").exists()


def test_a_torn_patient_leaves_nothing(tmp_path: Path) -> None:
    write_archive(tmp_path / "archive", 8)  # four scans to a patient
    rows = "".join(f"2.25.1{n:06d},{'train' if n else 'test'}\n" for n in range(8))
    (tmp_path / "labels.csv").write_text(f"sop_instance_uid,split\n{rows}")
    table = {"path": str(tmp_path / "labels.csv"), "on": "sop_instance_uid"}
    with pytest.raises(LeakError, match="1 of 2 subjects"):
        run(tmp_path, tables=[table], split={"column": "split"})
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="column `split`"):
        run(tmp_path, tables=[table])


def test_an_identical_picture_of_another_patient(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    for number, patient in enumerate("ABC"):
        data = write_instance(
            np.full((8, 8), 0 if patient in "AB" else 9, np.uint8),
            sop_instance_uid=f"2.25.{number + 1}",
            study_instance_uid=f"2.25.{number + 10}",
            series_instance_uid=f"2.25.{number + 20}",
            patient_id=patient,
        )
        (tmp_path / f"archive/{patient}").write_bytes(data)
    (tmp_path / "t.csv").write_text("patient_id,part\nA,train\nB,held_out\nC,tuning\n")
    table = {"path": str(tmp_path / "t.csv"), "on": "patient_id"}
    with pytest.raises(LeakError, match="1 identical images or records"):
        run(tmp_path, {"column": "part"}, tables=[table])
    summary = run(tmp_path, {"column": "part", "identical_images": "drop"}, tables=[table])
    counts = {name: count["items"] for name, count in summary.splits.items()}
    assert counts == {"train": 0, "tuning": 1, "held_out": 1}
    assert (summary.identical_left_out, summary.without_split, summary.items) == (1, 1, 3)


def write_classes(archive: Path) -> None:
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 4)):
        for label in ("benign", "malignant"):
            for number in range(count):
                path = archive / part / label / f"{number}.{'png' if number % 2 else 'jpg'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 255, (12, 10, 3), np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "PNG" if number % 2 else "JPEG")
                path.write_bytes(buffer.getvalue())


def test_folders_of_classes(tmp_path: Path) -> None:
    write_classes(tmp_path / "archive")
    shares = {"train": 0.5, "tuning": 0.25, "held_out": 0.25}
    summary = run(tmp_path, {"column": "folder_split", "fractions": shares})
    labels = open_dataset(str(tmp_path / "out")).labels().to_pylist()
    assert summary.items == 48
    for row in labels:
        assert row["class_folder"] in ("benign", "malignant")
        assert (row["folder_split"] == "held_out") == (row["split"] == "held_out")
    assert summary.splits["held_out"]["items"] == 8
    assert summary.splits["tuning"]["items"] > 0
    assert "33% of train's subjects" in summary.split_by
    assert open_dataset(str(tmp_path / "out")).read("held_out")["pixels"].shape == (8, 12, 10)


def test_other_settings_another_key_or_foreign_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(tmp_path / "archive", 3)
    run(tmp_path)
    with pytest.raises(OutputConflictError, match="other settings: pixels"):
        run(tmp_path, pixels={"size": [8, 8]})
    (tmp_path / "key").write_bytes(bytes(32))
    with monkeypatch.context() as patch:
        patch.setenv("MEDRAY_KEY_FILE", str(tmp_path / "key"))
        with pytest.raises(OutputConflictError, match="another pseudonym key"):
            run(tmp_path)
    (tmp_path / "b/out").mkdir(parents=True)
    (tmp_path / "b/out/thesis.docx").write_bytes(b"x")
    shutil.copytree(tmp_path / "archive", tmp_path / "b/archive")
    with pytest.raises(OutputConflictError, match="no run of medray made"):
        run(tmp_path / "b")
    assert [p.name for p in (tmp_path / "b/out").iterdir()] == ["thesis.docx"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [(["PatientName"], "identifies"), (["StudyInstanceUID"], "identifies"), (["Sex"], "keyword")],
)
def test_columns_that_identify_are_refused(tmp_path: Path, columns: list[str], said: str) -> None:
    write_archive(tmp_path / "archive", 1)
    with pytest.raises(UsageError, match=said):
        run(tmp_path, columns=columns)


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    from medray.ingest.output import Output, locked

    write_archive(tmp_path / "archive", 1)
    staging = Output(str(tmp_path / "out")).staging
    with locked(staging, "ingest"):
        with pytest.raises(OutputConflictError, match="another"):
            ingest(spec(tmp_path))
        assert Path(staging, "lock").exists(), "what the first run works on is not the second's"
    assert ingest(spec(tmp_path)).items == 1


def test_no_identifier_leaves_the_inventory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Search every byte of the dataset, and every log, for what was planted."""
    caplog.set_level(logging.DEBUG, "medray")
    secrets = ("MRN-4711", "DOE^JANE", "2.25.7777701", "2.25.7777702", "ACC-0815", "Ward_Doe")
    folder = tmp_path / "archive/Ward_Doe"
    folder.mkdir(parents=True)
    good = write_instance(
        np.arange(64, dtype=np.uint8).reshape(8, 8),
        sop_instance_uid="2.25.7777701",
        study_instance_uid="2.25.7777702",
        series_instance_uid="2.25.7777703",
        patient_id="MRN-4711",
        patient={"PatientName": "DOE^JANE", "AccessionNumber": "ACC-0815", "PatientSex": "F"},
    )
    (folder / "good.dcm").write_bytes(good)
    (folder / "bad.dcm").write_bytes(good[: len(good) - 20].replace(b"7777701", b"7777709"))
    (tmp_path / "t.csv").write_text("patient_id,y,path\nMRN-4711,1,Ward_Doe/good.dcm\nMRN-X,0,q\n")
    told: list[dict[str, Any]] = []
    table = {"path": str(tmp_path / "t.csv"), "on": "patient_id"}
    ingest(spec(tmp_path, tables=[table]), progress=told.append)
    texts = [json.dumps(told), caplog.text]
    for path in (tmp_path / "out/dataset").rglob("*"):
        if path.is_file() and path.suffix != ".parquet":
            texts.append(path.read_text())
    for name in ("images", "labels"):
        texts.append(str(storage.read_table(str(tmp_path / f"out/dataset/{name}")).to_pylist()))
    for secret in secrets:
        assert not [text for text in texts if secret in text], secret
    assert "PatientSex" in texts[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_on_ray_and_in_process_the_dataset_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(tmp_path / "archive", 21)
    add_refused(tmp_path / "archive")
    run(tmp_path)
    expected = open_dataset(str(tmp_path / "out")).fingerprint(), reasons(tmp_path)
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(parts, "IN_PROCESS_ROWS", 0)
    run(tmp_path)
    assert (open_dataset(str(tmp_path / "out")).fingerprint(), reasons(tmp_path)) == expected


def test_missing_section_and_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no `ingest` section"):
        ingest(RunSpec(name="x"))
    with pytest.raises(MedrayError, match="does not exist"):
        run(tmp_path)
    assert not (tmp_path / "out").exists()
