"""Decode every file of a folder in a contained child: one line per file and one line of sums.

    python benchmarks/dicom_corpus.py FOLDER [--timeout-s 20]

A file ends as a picture or as a reject code; anything else is a defect and is shown as `bug`.
"""

import argparse
import collections
import platform
import sys
import time
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom

from medray.dicom.contained import ContainedDecoder
from medray.dicom.files import parse, sniff
from medray.dicom.pixels import Picture, decode
from medray.dicom.raster import decode_raster
from medray.errors import RejectError
from medray.spec.pixels import PixelSpec

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
