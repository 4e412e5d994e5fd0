"""Run an issue's figures and print each value beside its bar; exit 1 when one falls short.

    python -m benchmarks.figures image            all of them
    python -m benchmarks.figures image --only 1,4 some

Every module in FIGURES has `figures() -> list[Figure]`, and is measured in a process of its own: no
cluster or setting of one reaches the next. All have one pseudonym key, so that folds, which hash
pseudonyms, are the same on every machine. Data that only the workplace has is read
from $MEDRAY_SHARED (default ../shared); where it is missing, the figure says so and counts as
not reached.
"""

import argparse
import hashlib
import importlib
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TypedDict

from rich.console import Console
from rich.table import Table

FIGURES = {
    "image": {
        1: "breast_pixels",
        2: "breast_ultrasound",
        3: "cifar10",
        4: "dicom_corpus",
        5: "parity",
        6: "startup",
        7: "train_throughput",
        8: "front_door",
    },
    "timeline": {
        1: "icu_mortality",
        2: "pbc2",
        3: "survival_metrics",
        4: "timeline_parity",
        5: "records_scale",
        6: "course",
        7: "records_bad_input",
    },
    "molecules": {
        1: "moses_metrics",
        2: "moses_gan",
        3: "tox21",
        4: "generate_once",
        5: "reinforce",
        6: "molecules_bad_input",
    },
    "serving": {
        1: "serving_parity",
        2: "serving_overhead",
        3: "serving_autoscale",
        4: "serving_rolling",
        5: "serving_faults",
        6: "serving_access",
        7: "serving_viewer",
    },
}


KEY = hashlib.sha256(b"the key of all figures").digest()


class Figure(TypedDict):
    """One measured value beside the bar it must reach."""

    name: str
    value: str
    bar: str
    ok: bool
    note: str


def machine() -> str:
    """What the figures were measured on, without naming the host."""
    packages = ("torch", "ray", "monai", "pydicom", "imagecodecs", "deltalake", "pyarrow")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    model = "unknown processor"
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "")
    system = f"{platform.system()} {platform.machine()}, {os.cpu_count()} × {model}"
    return f"{system}, Python {platform.python_version()}\n{versions}"


def measure(module: str) -> list[Figure]:
    """Measure one module's figures, in this process."""
    return importlib.import_module(f"benchmarks.{module}").figures()


def alone(module: str) -> list[Figure]:
    """Measure one module's figures in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(measure, module).result()


def run(name: str, only: set[int]) -> bool:
    """Print the table of `name`; True when every figure holds."""
    console = Console(width=150)
    console.print(machine(), highlight=False)
    table = Table("#", "figure", "value", "bar", "", "note", title=f"figures: {name}")
    reached = True
    for number, module in FIGURES[name].items():
        if only and number not in only:
            continue
        started = time.perf_counter()
        try:
            rows = alone(module)
        except Exception as error:  # a figure that cannot be measured is not reached
            console.print_exception()
            rows = [Figure(name=module, value="failed", bar="", ok=False, note=repr(error)[:200])]
        seconds = time.perf_counter() - started
        for row in rows:
            mark = "[green]ok[/]" if row["ok"] else "[red]short[/]"
            table.add_row(str(number), row["name"], row["value"], row["bar"], mark, row["note"])
            reached &= row["ok"]
        console.print(f"figure {number} ({module}) took {seconds:.0f} s", highlight=False)
    console.print(table)
    return reached


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("name", choices=sorted(FIGURES))
    parser.add_argument("--only", default="", help="numbers, e.g. 1,4")
    arguments = parser.parse_args()
    only = {int(part) for part in arguments.only.split(",") if part}
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "pseudonym.key"
        key.write_bytes(KEY)
        os.environ["MEDRAY_KEY_FILE"] = str(key)
        reached = run(arguments.name, only)
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
