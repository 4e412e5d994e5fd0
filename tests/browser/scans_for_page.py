"""Scans with what a viewer needs: positions, windows, colour."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image

from medray.dicom.write import write_instance


def ct(slice_number: int, pixels: np.ndarray[Any, Any], spacing: float = 0.8) -> bytes:
    """An axial slice at 2.5 mm times its number; stored values are HU + 1024."""
    data = write_instance(
        pixels,
        sop_instance_uid=f"2.25.77{slice_number}",
        study_instance_uid="2.25.7",
        series_instance_uid="2.25.8",
        patient_id="PAGE1",
        modality="CT",
        bits_stored=12,
        rescale=(1, -1024),
        window=(40, 400),
        pixel_spacing_mm=(spacing, spacing),
    )
    return placed(data, [-100.0, -60.0, 2.5 * slice_number], [1, 0, 0, 0, 1, 0])


def placed(data: bytes, position: list[float], orientation: list[float]) -> bytes:
    """The same instance elsewhere in the patient."""
    dataset = pydicom.dcmread(BytesIO(data))
    dataset.ImagePositionPatient = position
    dataset.ImageOrientationPatient = orientation
    out = BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def phantom(rows: int = 120, columns: int = 200) -> np.ndarray[Any, Any]:
    """Stored values (rows, columns): air, soft tissue to one side, bone in one corner."""
    values = np.full((rows, columns), 24, np.uint16)
    values[20:100, 30:170] = 1024 + 60
    values[20:60, 30:80] = 1024 + 160
    values[80:100, 150:170] = 1024 + 700
    return values


def series(folder: Path, slices: int = 5) -> list[str]:
    """Files of a series, whose order is not that of their names."""
    names: list[str] = []
    for number in range(slices):
        path = folder / f"{(number * 3) % slices}.dcm"
        pixels = phantom()
        pixels[5:10, 5 : 10 + 10 * number] = 1024 + 240
        path.write_bytes(ct(number, pixels))
        names.append(str(path))
    return names


def png(folder: Path, pixels: np.ndarray[Any, Any], name: str = "picture.png") -> str:
    """A PNG file."""
    path = folder / name
    Image.fromarray(pixels).save(path)
    return str(path)
