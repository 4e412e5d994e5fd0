"""The demo's archive: real DICOM by an independent reader, the same bytes every time."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from sklearn.metrics import roc_auc_score

from medray.demo.archive import SYNTAXES, build_archive, samples
from medray.demo.radiographs import draw_anatomy, radiograph


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    build_archive(folder, patients=60, night=6)
    return folder


def test_files_parse_and_their_labels_match(archive: Path) -> None:
    with (archive / "labels.csv").open(encoding="utf-8") as lines:
        labels = {row["study_instance_uid"]: row["nodule"] for row in csv.DictReader(lines)}
    files = [p for p in (archive / "archive" / "radiographs").rglob("*") if p.is_file()]
    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    assert {header.StudyInstanceUID for header in headers} <= set(labels)
    assert {header.file_meta.TransferSyntaxUID for header in headers} == set(SYNTAXES)
    assert {header.PhotometricInterpretation for header in headers} == {
        "MONOCHROME1",
        "MONOCHROME2",
    }
    assert {header.BitsStored for header in headers} == {8, 10, 12, 16}
    with zipfile.ZipFile(archive / "archive" / "clinic.zip") as clinic:
        member = clinic.read(clinic.namelist()[0])
    assert pydicom.dcmread(io.BytesIO(member)).StudyInstanceUID in labels


def test_the_night_holds_new_patients_only(archive: Path) -> None:
    def patients(folder: Path) -> set[str]:
        files = (p for p in folder.rglob("*") if p.is_file())
        return {pydicom.dcmread(f, stop_before_pixels=True).PatientID for f in files}

    night = patients(archive / "night")
    assert len(night) == 6
    assert not night & patients(archive / "archive" / "radiographs")


def test_the_same_seed_writes_the_same_bytes(archive: Path, tmp_path: Path) -> None:
    build_archive(tmp_path, patients=60, night=6)
    first = {p.relative_to(archive): p.read_bytes() for p in archive.rglob("*") if p.is_file()}
    second = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert first == second


def test_samples_are_the_files_inside_pydicom() -> None:
    assert sum(data[128:132] == b"DICM" for _, data in samples()) > 50


def test_a_nodule_darkens_nothing_and_is_no_giveaway() -> None:
    """Local, not global: the mean of a picture barely tells who has a nodule."""
    rng = np.random.default_rng(0)
    truth = [i % 2 for i in range(120)]
    means = [float(radiograph(draw_anatomy(rng, bool(y)), rng, size=48).mean()) for y in truth]
    assert 0.3 < roc_auc_score(truth, means) < 0.7
