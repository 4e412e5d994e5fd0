"""Build the demo's archive: synthetic radiographs with labels, and real files of many syntaxes.

    archive/radiographs/…   patients with one or two studies, mixed on purpose: seven transfer
                            syntaxes, 8/10/12/16 bits, MONOCHROME1 and 2, rescale, windows
    archive/samples/…       DICOM files that ship inside pydicom; some are no images, some broken
    archive/clinic.zip      a few patients as a ZIP, as they come from a CD
    night/…                 new patients who arrived today
    labels.csv              study_instance_uid, nodule
    patients.csv            patient_id, sex, age_years, smoker

The same seed writes the same bytes.
"""

import csv
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.data

from medray.demo.radiographs import Anatomy, draw_anatomy, radiograph
from medray.dicom.write import write_instance
from medray.storage import write_atomic

UID_ROOT = "1.2.826.0.1.3680043.8.498.90"  # under pydicom's root, for test data

SYNTAXES = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.1.99",  # Deflated
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless SV1
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
)
MANUFACTURERS = ("Aurora Imaging", "Borealis Medical", "Cirrus X-ray")


@dataclass(frozen=True, slots=True)
class Study:
    """One exposure of a patient, ready to be written."""

    patient_id: str
    study_instance_uid: str
    finding: bool
    anatomy: Anatomy
    file: str
    data: bytes


def build_archive(
    folder: Path,
    patients: int = 420,
    night: int = 60,
    seed: int = 7,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Write the whole demo archive below `folder`; a complete one is left as it is."""
    done = folder / ".complete"
    if done.exists():
        return

    def tell(number: int) -> None:
        if progress:
            total = patients + night
            progress({"stage": "archive", "done": number, "total": total, "unit": "patients"})

    studies: list[Study] = []
    for number in range(patients + night):
        studies.extend(_patient(number, seed))
        if number % 20 == 0:
            tell(number)
    today = [s for s in studies if int(s.patient_id[-5:]) >= patients]
    past = [s for s in studies if int(s.patient_id[-5:]) < patients]
    zipped = {s.patient_id for s in past[-30:]}
    for study in past:
        if study.patient_id not in zipped:
            write_atomic(str(folder / "archive" / "radiographs" / study.file), study.data)
    for study in today:
        write_atomic(str(folder / "night" / study.file), study.data)
    _write_zip(folder / "archive" / "clinic.zip", [s for s in past if s.patient_id in zipped])
    for name, data in samples():
        write_atomic(str(folder / "archive" / "samples" / name), data)
    _write_tables(folder, past)
    write_atomic(str(done), b"")
    tell(patients + night)


def samples() -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the DICOM test files that lie inside the installed pydicom."""
    folder = Path(str(pydicom.data.__file__)).parent / "test_files"
    for file in sorted(folder.glob("*")):
        if file.is_file() and file.stat().st_size < 2 << 20:
            yield file.name, file.read_bytes()


def _patient(number: int, seed: int) -> Iterator[Study]:
    """One or two studies of a patient."""
    rng = np.random.default_rng([seed, number])
    finding = bool(rng.random() < 0.4)
    anatomy = draw_anatomy(rng, finding)
    for visit in range(1 + int(rng.random() < 0.3)):
        yield _study(f"DEMO{number:05d}", number, visit, finding, anatomy, rng)


def _study(
    patient_id: str,
    number: int,
    visit: int,
    finding: bool,
    anatomy: Anatomy,
    rng: np.random.Generator,
) -> Study:
    bits = int(rng.choice([8, 10, 12, 16]))
    inverted = bool(rng.random() < 0.3)
    syntax = SYNTAXES[int(rng.integers(len(SYNTAXES)))]
    picture_HW = radiograph(anatomy, rng)
    top = 2**bits - 1
    stored_HW = np.rint((1.0 - picture_HW if inverted else picture_HW) * top)
    study_uid = f"{UID_ROOT}.1.{number + 1}.{visit + 1}"
    data = write_instance(
        stored_HW.astype(np.uint8 if bits == 8 else np.uint16),
        sop_instance_uid=f"{UID_ROOT}.3.{number + 1}.{visit + 1}",
        series_instance_uid=f"{UID_ROOT}.2.{number + 1}.{visit + 1}",
        study_instance_uid=study_uid,
        transfer_syntax_uid=syntax,
        modality="DX",
        patient_id=patient_id,
        patient={
            "PatientSex": "F" if anatomy.female else "M",
            "PatientAge": f"{anatomy.age_years:03d}Y",
            "Manufacturer": MANUFACTURERS[number % len(MANUFACTURERS)],
        },
        bits_stored=bits,
        photometric_interpretation="MONOCHROME1" if inverted else "MONOCHROME2",
        window=(top / 2 + 0.5, float(top + 1)),
    )
    file = f"{number % 20:02d}/{patient_id}/{visit}" + (".dcm" if number % 3 else "")
    return Study(patient_id, study_uid, finding, anatomy, file, data)


def _write_zip(path: Path, studies: list[Study]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for study in studies:
            archive.writestr(zipfile.ZipInfo(study.file), study.data)
    write_atomic(str(path), buffer.getvalue())


def _write_tables(folder: Path, studies: list[Study]) -> None:
    """Labels by study and facts by patient; a few rows match nothing, as in real tables."""
    labels = [[s.study_instance_uid, int(s.finding)] for s in studies]
    labels += [[f"{UID_ROOT}.1.999999.{n}", n % 2] for n in range(1, 4)]
    _write_csv(folder / "labels.csv", ["study_instance_uid", "nodule"], labels)
    patients: dict[str, list[object]] = {}
    for study in studies:
        rng = np.random.default_rng([11, int(study.patient_id[-5:])])
        smoker = "yes" if rng.random() < (0.5 if study.finding else 0.2) else "no"
        patients[study.patient_id] = [study.patient_id, study.anatomy.age_years, smoker]
    _write_csv(
        folder / "patients.csv", ["patient_id", "age_years", "smoker"], list(patients.values())
    )


def _write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomic(str(path), buffer.getvalue().encode())
