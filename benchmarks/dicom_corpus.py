"""Figure 4: every file of the DICOM corpus is an image row or a reject with the right code.

    python -m benchmarks.dicom_corpus FOLDER [--timeout-s 20]    one line per file, and the sums

A file ends as a picture or as a reject code; anything else is a defect and is shown as `bug`.
What is right for a file is read off the corpus' manifest, which another decoder wrote.
"""

import argparse
import collections
import csv
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom

from benchmarks.figures import Figure
from benchmarks.shared import shared
from medray import api
from medray.dicom.contained import ContainedDecoder
from medray.dicom.files import parse, sniff
from medray.dicom.pixels import Picture, decode
from medray.dicom.raster import decode_raster
from medray.errors import RejectError
from medray.spec.models import RunSpec
from medray.spec.pixels import PixelSpec
from medray.storage import read_table

SPEC = PixelSpec(window="file", channels=None)


def run_corpus(folder: str | Path, *, timeout_s: float = 20.0) -> list[dict[str, Any]]:
    """Decode the files of `folder`, recursively, in name order; one row per file.

    A row: file (relative), bytes, status ("ok", "reject", "bug"), reason, detail, frames, shape,
    dtype, seconds. `timeout_s` bounds a file: each of its frames gets what its file has left.
    """
    root = Path(folder)
    rows: list[dict[str, Any]] = []
    with ContainedDecoder(timeout_s=timeout_s) as decoder:
        for path in sorted(root.rglob("*")):
            if path.is_file() and path.name != "manifest.csv":
                row = _run_file(path, decoder, timeout_s)
                rows.append({"file": str(path.relative_to(root)), **row})
    return rows


def _run_file(path: Path, decoder: ContainedDecoder, timeout_s: float) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("reason", "detail", "frames", "shape", "dtype"))
    start = time.monotonic()

    def decode_codec(frame: bytes, fmt: Any) -> Any:
        decoder.timeout_s = max(0.001, start + timeout_s - time.monotonic())
        return decoder(frame, fmt)

    data = path.read_bytes()
    row["bytes"] = len(data)
    try:
        pictures = _pictures(data, decode_codec)
        first = pictures[0].pixels
        row |= {"status": "ok", "frames": len(pictures), "shape": first.shape}
        row["dtype"] = str(first.dtype)
    except RejectError as refusal:
        row |= {"status": "reject", "reason": str(refusal.code), "detail": refusal.detail}
    except Exception as fault:  # the point of the exercise is that this never happens
        row |= {"status": "bug", "reason": type(fault).__name__, "detail": str(fault)[:100]}
    row["seconds"] = time.monotonic() - start
    return row


def _pictures(data: bytes, decode_codec: Any) -> list[Picture]:
    if sniff(data[:512]) in ("png", "jpeg"):
        return decode_raster(data, SPEC)
    return decode(parse(data), SPEC, decode_codec=decode_codec)


def figures() -> list[Figure]:
    """Ingest the corpus as any archive and hold each outcome against the manifest."""
    folder = shared("data/dicom_corpus")
    with (folder / "manifest.csv").open(encoding="utf-8") as lines:
        manifest = {row["file"]: row for row in csv.DictReader(lines)}
    with tempfile.TemporaryDirectory() as temporary:
        ingest = {"archive": str(folder), "pixels": {"channels": None}, "reject_limit": 1.0}
        split = {"identical_images": "drop"}
        spec = {"name": "corpus", "output": f"{temporary}/run", "ingest": ingest, "split": split}
        started = time.perf_counter()
        api.ingest(RunSpec.model_validate(spec))
        seconds = time.perf_counter() - started
        files = read_table(f"{temporary}/run/inventory").to_pylist()
        items = read_table(f"{temporary}/run/dataset/images", ["file_id"]).num_rows
    found = {row["path"].rsplit("/", 1)[-1]: row for row in files}
    wrong = [
        f"{name}: {found[name]['status']} {found[name]['reason'] or ''}".strip()
        for name, row in manifest.items()
        if not _right(row, found.get(name), files)
    ]
    seen = sum(name in found for name in manifest)
    return [
        Figure(
            name="DICOM corpus: files with the right outcome",
            value=f"{len(manifest) - len(wrong)} of {len(manifest)}",
            bar="91 of 91",
            ok=not wrong and len(manifest) == 91,
            note="; ".join(wrong) or f"{seconds:.0f} s, no crash, no hang",
        ),
        Figure(
            name="DICOM corpus: rows in = rows out + refused; items as the files say",
            value=f"{seen} files, {items} items, {sum(row['items'] for row in files)} expected",
            bar="sums match",
            ok=seen == len(manifest) and items == sum(row["items"] for row in files),
            note="",
        ),
    ]


def _right(row: dict[str, str], found: dict[str, Any] | None, files: list[Any]) -> bool:
    """Whether an outcome is right, by what the manifest's own decoder saw of the file."""
    if found is None:
        return False
    if found["reason"] == "duplicate_instance":
        return sum(f["sop_instance_uid"] == found["sop_instance_uid"] for f in files) > 1
    if row["modality"] in ("SEG", "RTDOSE"):
        return found["reason"] == "derived_object"
    if row["reference_decode"] == "ok":
        frames = int(row["frames"] or 1)
        return found["status"] == "ok" and found["items"] == frames
    if row["reference_decode"] == "nopixel":
        wanted = {"not_an_image", "no_pixel_data"}
        # has an image pixel module by the manifest, but its pixels cannot be reached
        wanted |= {"header_invalid"} if row["photometric"] else set()
        return found["reason"] in wanted
    if row["reference_parse"] == "fail":
        return found["reason"] in ("truncated", "header_invalid")
    return found["status"] == "ok" or found["reason"] in _REASONS_FOR_UNDECODABLE


_REASONS_FOR_UNDECODABLE = {
    "truncated",
    "no_pixel_data",
    "not_an_image",
    "size_mismatch",
    "decode_failed",
    "missing_attribute",
    "unsupported_transfer_syntax",
}


def main() -> int:
    """Print the table; exit code 1 if anything but a picture or a reject came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--timeout-s", type=float, default=20.0)
    arguments = parser.parse_args()
    rows = run_corpus(arguments.folder, timeout_s=arguments.timeout_s)
    for row in rows:
        what = f"{row['frames']} x {row['shape']} {row['dtype']}"
        if row["status"] != "ok":
            what = f"{row['status']} {row['reason']}: {row['detail']}"
        print(f"{row['file']:40s} {row['seconds']:7.3f} s  {what}")
    sums = collections.Counter(row["reason"] or "ok" for row in rows)
    seconds = sum(row["seconds"] for row in rows)
    print(f"{len(rows)} files in {seconds:.1f} s: " + ", ".join(
        f"{count} {reason}" for reason, count in sums.most_common()))  # fmt: skip
    print(
        f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, "
        f"pydicom {pydicom.__version__}, imagecodecs {imagecodecs.__version__}"
    )
    return int(any(row["status"] == "bug" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
