"""Figure 6: how long `medray --help` and one prediction take, as whole processes.

    python -m benchmarks.startup

Each command and its yardstick run in turn, so that both meet the same load; medians of wall
clock, with the processor time beside them.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.packages import untrained_package, write_scans

ROUNDS = 9
MEDRAY = str(Path(sys.executable).with_name("medray"))
LIBRARIES_OF_HELP = [sys.executable, "-c", "import typer, rich, pydantic"]
LIBRARIES_OF_PREDICT = [sys.executable, "-c", "import torch, monai.networks.nets, pydicom"]


def figures() -> list[Figure]:
    """Time both commands against what their libraries need to be imported."""
    rows = [_figure("medray --help", [MEDRAY, "--help"], LIBRARIES_OF_HELP, 1.5)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ.setdefault("MEDRAY_KEY_FILE", str(folder / "pseudonym.key"))
        write_scans(folder / "archive", 7)
        native, compressed = folder / "archive" / "1" / "00001", folder / "archive" / "5" / "00005"
        for network, size in (("resnet18", 128), ("densenet121", 128), ("conv3", 64)):
            package = untrained_package(folder / network, network, size)
            command = [MEDRAY, "predict", package, str(native)]
            rows.append(
                _figure(f"medray predict, {network} {size}×{size}", command, LIBRARIES_OF_PREDICT)
            )
        command = [MEDRAY, "predict", package, str(compressed)]
        name = "medray predict, conv3 64×64, a JPEG-LS file"
        rows.append(_figure(name, command, LIBRARIES_OF_PREDICT))
    return rows


def _figure(name: str, command: list[str], yardstick: list[str], bar: float = 1.6) -> Figure:
    """Compare interleaved runs of two commands; the first pair only warms the file cache."""
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for _ in range(ROUNDS + 1):
        ours.append(_run(command))
        theirs.append(_run(yardstick))
    our_wall, our_cpu = (statistics.median(run[i] for run in ours[1:]) for i in (0, 1))
    their_wall, their_cpu = (statistics.median(run[i] for run in theirs[1:]) for i in (0, 1))
    return Figure(
        name=name,
        value=f"{our_wall / their_wall:.2f}×",
        bar=f"≤ {bar}×",
        ok=our_wall <= bar * their_wall,
        note=f"{our_wall:.2f} s beside {their_wall:.2f} s, processor {our_cpu:.2f} s beside "
        f"{their_cpu:.2f} s; medians of {ROUNDS}",
    )


def _run(command: list[str]) -> tuple[float, float]:
    """Wall and processor seconds of one process and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, spent


if __name__ == "__main__":
    for figure in figures():
        print(*figure.values(), sep="  ")
