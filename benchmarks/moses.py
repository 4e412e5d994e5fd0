"""The MOSES data: SMILES of three splits, out of the wheel in which their authors publish them.

    python -m benchmarks.moses    brings the files that jobs/moses reads

Looked for in $MEDRAY_MOSES (default data/moses), and downloaded there once (50 MB). The wheel, MIT,
is not installed: its dependencies no longer build. What the project needs of it are its files.
"""

import csv
import gzip
import hashlib
import os
import subprocess
import sys
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Literal

RELEASE = "molsets==0.3.1"
Split = Literal["train", "test", "test_scaffolds"]
_WHEEL = "molsets-0.3.1-py3-none-any.whl"
_DATA = "moses/dataset/data/"
SHA256 = {
    "train.csv.gz": "786f0313aa6b9ba5514df685f885742a70ea8d86f1a4fa48115f7f80a634265c",
    "test.csv.gz": "f896fbf3764f88d94670b9959e5872c600c12152a18233823e820761b7a791b2",
    "test_scaffolds.csv.gz": "adffb2192c1bfe31ab0e13154d4af19a37dc18bdbf3cd7b4491e04405128adde",
}


def folder() -> Path:
    """Where the data lies, and what is computed of it may be kept."""
    return Path(os.environ.get("MEDRAY_MOSES", "data/moses")).resolve()


def wheel() -> Path:
    """The wheel as it was published. Raises FileNotFoundError when it cannot be had."""
    found = folder() / _WHEEL
    if not found.exists():
        found.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        done = subprocess.run(
            [*command, "--only-binary=:all:", "--dest", str(found.parent), RELEASE], check=False
        )
        if done.returncode or not found.exists():
            raise FileNotFoundError(
                f"this figure needs {_WHEEL}; set MEDRAY_MOSES to a folder that holds it"
            )
    return found


def files() -> Path:
    """A folder with train.csv.gz, test.csv.gz and test_scaffolds.csv.gz, as they were published.

    Raises ValueError for a file of another content.
    """
    absent = [name for name in SHA256 if not (folder() / name).exists()]
    if absent:
        with zipfile.ZipFile(wheel()) as archive:
            for name in absent:
                (folder() / name).write_bytes(archive.read(_DATA + name))
    for name, expected in SHA256.items():
        if hashlib.sha256((folder() / name).read_bytes()).hexdigest() != expected:
            raise ValueError(f"{name} is not that of {RELEASE}; remove it, or set MEDRAY_MOSES")
    return folder()


@lru_cache(maxsize=3)
def smiles(split: Split) -> list[str]:
    """SMILES of a split, in the file's order."""
    with gzip.open(files() / f"{split}.csv.gz", "rt", encoding="ascii", newline="") as lines:
        return [row["SMILES"] for row in csv.DictReader(lines)]


if __name__ == "__main__":
    sys.stdout.write(f"{files()}\n")
