"""Figure 1: every breast ultrasound of the dataset is bit-equal to the intended picture."""

import csv
import hashlib
import tempfile
from pathlib import Path

import pyarrow as pa

from benchmarks.figures import Figure
from benchmarks.shared import shared
from medray import api
from medray.spec.models import IngestSpec, RunSpec, TableSpec
from medray.storage import read_table


def figures() -> list[Figure]:
    """Ingest the archive as its job does and compare each picture's hash before resizing."""
    folder = shared("data/breast_ultrasound")
    with (folder / "labels.csv").open(encoding="utf-8") as lines:
        intended = {row["sop_instance_uid"]: row["pixels_sha256"] for row in csv.DictReader(lines)}
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary) / "run"
        table = TableSpec(path=str(folder / "labels.csv"), on="sop_instance_uid")
        ingest = IngestSpec(archive=(str(folder / "archive"),), tables=(table,))
        spec = RunSpec.model_validate(
            {
                "name": "breast-pixels",
                "output": str(output),
                "ingest": ingest.model_dump(),
                "split": {"column": "split", "identical_images": "drop"},
            }
        )
        summary = api.ingest(spec)
        files = read_table(str(output / "inventory"), ["file_id", "sop_instance_uid", "status"])
        images = read_table(str(output / "dataset" / "images"))
    equal = _equal(files, images, intended)
    rejected = files.filter(pa.compute.equal(files["status"], "rejected")).num_rows
    return [
        Figure(
            name="breast ultrasound: pictures bit-equal before resizing",
            value=f"{equal} of {len(intended)}",
            bar="780 of 780",
            ok=equal == len(intended) == 780,
            note=f"{images.num_rows} items, {summary.seconds:.1f} s",
        ),
        Figure(
            name="breast ultrasound: rejected files",
            value=str(rejected),
            bar="0",
            ok=rejected == 0,
            note="",
        ),
    ]


def _equal(files: pa.Table, images: pa.Table, intended: dict[str, str]) -> int:
    """Pictures whose stored bytes hash to the intended value (they are stored unresized)."""
    uid = dict(
        zip(files["file_id"].to_pylist(), files["sop_instance_uid"].to_pylist(), strict=True)
    )
    hashes = (hashlib.sha256(p.as_py()).hexdigest() for p in images["pixels"])
    return sum(
        intended.get(uid[file]) == found
        for file, found in zip(images["file_id"].to_pylist(), hashes, strict=True)
    )
