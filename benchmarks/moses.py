"""The MOSES data: SMILES of three splits, out of the wheel in which their authors publish them.

Looked for in $MEDRAY_MOSES (default data/moses), and downloaded there once (50 MB). The wheel, MIT,
is not installed: its dependencies no longer build. What the project needs of it are its files.
"""

import csv
import gzip
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
    """A folder with train.csv.gz, test.csv.gz and test_scaffolds.csv.gz."""
    target = folder() / _DATA
    with zipfile.ZipFile(wheel()) as archive:
        for name in archive.namelist():
            ours = name.startswith(_DATA) and name.endswith(".csv.gz")
            if ours and not (folder() / name).exists():
                archive.extract(name, folder())
    return target


@lru_cache(maxsize=3)
def smiles(split: Split) -> list[str]:
    """SMILES of a split, in the file's order."""
    with gzip.open(files() / f"{split}.csv.gz", "rt", encoding="ascii", newline="") as lines:
        return [row["SMILES"] for row in csv.DictReader(lines)]
