"""Figure 3: CIFAR-10 with conv3 within 15 epochs: accuracy on test/, and how long it took."""

import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.figures import Figure
from benchmarks.shared import shared
from medray import api
from medray.dataset import open_dataset
from medray.score.predictor import Predictor
from medray.spec.load import load_spec

SPEC = "jobs/cifar10/spec.yaml"


def figures() -> list[Figure]:
    """Unpack, ingest, train, and classify the test images once."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        unpack(shared("data/cifar10/cifar10_images.tar.zst"), folder / "archive")
        spec = load_spec(SPEC, [f"ingest.archive={folder / 'archive'}", f"output={folder / 'run'}"])
        ingested = api.ingest(spec)
        trained = api.train(spec)
        columns = open_dataset(str(folder / "run/dataset")).read("held_out")
        logits = Predictor(trained.package).logits({"pixels": columns["pixels"]})["class_folder"]
    classes = np.array(spec.params["classes"])
    accuracy = float(np.mean(classes[logits.argmax(axis=1)] == columns["class_folder"]))
    return [
        Figure(
            name="CIFAR-10: conv3, test accuracy",
            value=f"{accuracy:.4f}",
            bar=".78 within 15 epochs",
            ok=accuracy >= 0.78 and trained.epochs <= 15 and len(logits) == 10_000,
            note=f"{trained.epochs} epochs in {trained.seconds:.0f} s "
            f"(ingest {ingested.seconds:.0f} s); {len(logits)} test images, best epoch "
            f"{trained.best_epoch} of tuning",
        )
    ]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the class folders of a .tar.zst."""
    folder.mkdir(parents=True)
    with (
        pa.CompressedInputStream(pa.OSFile(str(archive)), "zstd") as stream,
        tarfile.open(fileobj=stream, mode="r|") as members,
    ):
        members.extractall(folder, filter="data")
