"""Small DICOM archives for tests of scoring: many syntaxes, some files that must be refused."""

from pathlib import Path

import numpy as np

from medray.dicom.write import (
    DEFLATED_LE,
    EXPLICIT_LE,
    IMPLICIT_LE,
    JPEG_2000_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    RLE_LOSSLESS,
    write_instance,
)

SYNTAXES = (
    EXPLICIT_LE,
    IMPLICIT_LE,
    DEFLATED_LE,
    RLE_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_2000_LOSSLESS,
)


def scan(number: int, syntax: str = EXPLICIT_LE) -> bytes:
    """One radiograph: two to a study, four to a patient, its brightness given by its number."""
    rng = np.random.default_rng(number)
    depth, dtype = ((8, np.uint8), (12, np.uint16))[number % 2]
    top = (1 << depth) - 1
    pixels = np.clip(rng.normal(0.2 + 0.6 * ((number * 37) % 101) / 101, 0.15, (40, 36)), 0, 1)
    return write_instance(
        np.rint(pixels * top).astype(dtype),
        sop_instance_uid=f"2.25.1{number:06d}",
        study_instance_uid=f"2.25.2{number // 2:06d}",
        series_instance_uid=f"2.25.3{number // 2:06d}",
        patient_id=f"P{number // 4:05d}",
        transfer_syntax_uid=syntax,
        bits_stored=depth,
        photometric_interpretation=("MONOCHROME2", "MONOCHROME1")[number % 3 == 0],
    )


def write_archive(folder: Path, count: int, first: int = 0) -> Path:
    """`count` radiographs in all syntaxes, a few folders deep."""
    for number in range(first, first + count):
        path = folder / f"ward{number % 3}" / f"scan{number:05d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(scan(number, SYNTAXES[number % len(SYNTAXES)]))
    return folder


def add_refused(folder: Path) -> dict[str, str]:
    """Files that give no score: name → reason."""
    good = scan(90_000, JPEG_LS_LOSSLESS)
    files = {
        "cut.dcm": (good[: len(good) - 200], "truncated"),
        "empty.dcm": (b"", "empty_file"),
        "notes.txt": (b"read me " * 40, "not_dicom"),
        "zz_twin.dcm": (scan(1), "duplicate_instance"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    return {name: reason for name, (_, reason) in files.items()}
