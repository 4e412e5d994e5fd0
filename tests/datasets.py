"""Small datasets written straight to disk, in the form that ingest publishes."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from medray.dataset import DatasetMeta, write_meta
from medray.schema import IMAGES
from medray.spec.pixels import PixelSpec


def write_dataset(
    output: Path,
    pixels: np.ndarray[Any, Any],
    splits: list[str],
    labels: dict[str, list[Any]],
    files: int = 3,
) -> None:
    """dataset/ under `output`: pixels (N, H, W[, C]), one subject per item."""
    count = len(pixels)
    ids = [hashlib.sha256(f"item {i}".encode()).hexdigest()[:16] for i in range(count)]
    images = pa.Table.from_pydict(
        {
            "item_id": ids,
            "subject_id": [f"s{i}" for i in ids],
            "study_id": [f"t{i}" for i in ids],
            "file_id": [f"f{i}" for i in ids],
            "frame": [0] * count,
            "pixels": [picture.tobytes() for picture in pixels],
            "shape": [list(pixels.shape[1:])] * count,
            "dtype": [pixels.dtype.name] * count,
            "pixels_sha256": [hashlib.sha256(p.tobytes()).hexdigest() for p in pixels],
            "spacing_mm": [None] * count,
        },
        schema=IMAGES,
    )
    for part in range(files):
        rows = list(range(part, count, files))
        write_deltalake(str(output / "dataset/images"), images.take(rows), mode="append")
    table = pa.table(
        {
            "item_id": ids,
            "subject_id": [f"s{i}" for i in ids],
            "study_id": [f"t{i}" for i in ids],
            "split": splits,
            **labels,
        }
    )
    write_deltalake(str(output / "dataset/labels"), table)
    write_meta(
        str(output / "dataset"),
        DatasetMeta(
            name="stripes",
            pixels=PixelSpec(),
            columns=(),
            subject="patient_id",
            ingest_sha256="0" * 64,
            key_check="0" * 32,
            labels_sha256="0" * 64,
        ),
    )


def stripes(count: int, size: int = 16, seed: int = 0) -> tuple[Any, list[int]]:
    """Noisy pictures of horizontal (1) or vertical (0) stripes: learned in a few epochs."""
    rng = np.random.default_rng(seed)
    labels = [i % 2 for i in range(count)]
    ramp = np.arange(size)
    pictures: list[Any] = []
    for label in labels:
        wave = np.sin(ramp * 1.5 + rng.uniform(0, 6))
        picture = np.repeat(wave[:, None], size, axis=1)
        picture = picture if label else picture.T
        noisy = 128 + 60 * picture + rng.normal(0, 20, (size, size))
        pictures.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return np.stack(pictures), labels
