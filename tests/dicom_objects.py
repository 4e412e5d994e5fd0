"""Real DICOM files to make objects from, and dicom3tools' judgement of what was made."""

import re
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from pydicom.data import get_testdata_file

from medray.dicom.write import JPEG_2000_LOSSLESS, write_instance

REAL = (
    "CT_small.dcm",  # CT
    "MR_small.dcm",  # MR, implicit
    "MR_small_bigendian.dcm",  # MR, big endian
    "JPEG2000.dcm",  # NM
    "examples_overlay.dcm",  # MR of a head
    "J2K_pixelrep_mismatch.dcm",  # CT of a head
    "examples_rgb_color.dcm",  # US, RGB
    "examples_ybr_color.dcm",  # US, YBR, 30 frames
    "examples_palette.dcm",  # US, palette
    "image_dfl.dcm",  # deflated
    "693_J2KI.dcm",  # CT, de-identified without saying how
    "SC_rgb_small_odd.dcm",  # colour, an odd number of bytes
    "SC_rgb_rle_2frame.dcm",  # two frames of a class that has one
)


def real(name: str) -> bytes:
    """A file of pydicom's test data, or a radiograph of our own."""
    if name in ("CR", "DX"):
        return radiograph(modality=name)
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), name
    return Path(path).read_bytes()


def radiograph(number: int = 1, study: int = 1, modality: str = "CR") -> bytes:
    """One of a study, with a patient."""
    pixels = np.full((24, 20), 100 + number, np.uint8)
    return write_instance(
        pixels,
        sop_instance_uid=f"2.25.77{number}",
        study_instance_uid=f"2.25.88{study}",
        series_instance_uid=f"2.25.99{study}",
        patient_id="P-7",
        modality=modality,
        transfer_syntax_uid=JPEG_2000_LOSSLESS,
        patient={"PatientName": "Doe^Jane", "PatientSex": "F"},
    )


def errors(data: bytes) -> set[str]:
    """What dciodvfy calls an error of a file."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(data)
        file.flush()
        done = subprocess.run(
            ["dciodvfy", "-new", file.name], capture_output=True, text=True, errors="replace"
        )
    said = done.stdout + done.stderr
    assert re.search(r"^(Error|Warning|[A-Z]\w+$)", said, re.MULTILINE), said
    return {line for line in said.splitlines() if line.startswith("Error")}
