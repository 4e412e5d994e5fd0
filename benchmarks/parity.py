"""Figure 5: score and predict agree to 1e-6, and a killed score ends with each item once.

    python -m benchmarks.parity

Both verbs run as a user runs them: `medray score` on Ray, killed with SIGKILL at three moments and
run again; `medray predict` on single files and on many.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.packages import untrained_package, write_scans
from medray import storage
from medray.package import open_package
from medray.spec.load import dump_spec
from medray.spec.models import ScoreSpec

FILES = 300
BATCH = 16
# Picture size, every how many files one is predicted, and the package's temperature: as low as
# leaves the scores away from 0 and 1.
NETWORKS = (("conv3", 64, 1, 0.05), ("resnet18", 32, 5, 0.5))
MEDRAY = str(Path(sys.executable).with_name("medray"))


def figures() -> list[Figure]:
    """Score, predict and compare, per network."""
    rows: list[Figure] = []
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.setdefault("MEDRAY_KEY_FILE", str(Path(temporary) / "pseudonym.key"))
        archive = Path(temporary) / "archive"
        write_scans(archive, FILES)
        for network, size, step, temperature in NETWORKS:
            folder = Path(temporary) / network
            package = untrained_package(folder, network, size, temperature)
            rows.extend(_network(folder, archive, network, package, step))
    return rows


def _network(folder: Path, archive: Path, network: str, package: str, step: int) -> list[Figure]:
    section = ScoreSpec(archive=(str(archive),), batch_size=BATCH, files_per_task=BATCH)
    spec = open_package(package).spec.model_copy(update={"score": section})
    (folder / "spec.yaml").write_text(dump_spec(spec))
    kills = _kill_at_three_moments(folder)
    _wait(_start(folder))
    rows = storage.read_table(str(folder / "predictions")).to_pylist()
    counts = Counter(row["item_id"] for row in rows if row["status"] == "ok")
    exact = set(counts.values()) == {1} and len(counts) == len(rows) == FILES
    scored = {row["item_id"]: row["score"] for row in rows}
    files = sorted(str(path) for path in archive.rglob("*") if path.is_file())
    together = _predict(package, files[::step])
    alone = [row for file in files[:: FILES // 6] for row in _predict(package, [file])]
    gaps = [abs(scored[row["item_id"]] - row["score"]) for row in [*together, *alone]]
    middle = sum(0.02 < row["score"] < 0.98 for row in together)
    return [
        Figure(
            name=f"score beside predict, {network}",
            value=f"{max(gaps):.1e}",
            bar="≤ 1e-6",
            ok=max(gaps) <= 1e-6 and len(together) == len(files[::step]),
            note=f"{len(together)} files in one predict, {len(alone)} each in its own process; "
            f"{middle} scores between .02 and .98",
        ),
        Figure(
            name=f"score killed at three moments and run again, {network}",
            value=f"{len(counts)} items, each {'once' if exact else sorted(set(counts.values()))}",
            bar=f"{FILES} items, each once",
            ok=exact and kills == 3,
            note=f"{kills} of 3 kills hit a running process",
        ),
    ]


def _kill_at_three_moments(folder: Path) -> int:
    """Kill when the first scores, half of them, and the rows to publish lie there."""

    def chunks() -> int:
        return len(list((folder / ".staging" / "score").glob("*/chunks/*.parquet")))

    moments: tuple[Callable[[], bool], ...] = (
        lambda: chunks() >= 1,
        lambda: chunks() >= FILES // BATCH // 2,
        lambda: any((folder / "predictions").glob("scores-*.parquet")),
    )
    return sum(_kill_when(folder, happened) for happened in moments)


def _kill_when(folder: Path, happened: Callable[[], bool]) -> bool:
    process = _start(folder)
    while not happened() and process.poll() is None:
        time.sleep(0.002)
    running = process.poll() is None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return running


def _start(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [MEDRAY, "score", str(folder / "spec.yaml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait(process: "subprocess.Popen[str]") -> None:
    out, error = process.communicate()
    if process.returncode:
        raise RuntimeError(f"medray score: exit {process.returncode}\n{out}{error}")


def _predict(package: str, files: list[str]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [MEDRAY, "predict", package, *files, "--json", "--device", "cpu"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [row for line in done.stdout.splitlines() for row in json.loads(line)["rows"]]


if __name__ == "__main__":
    for figure in figures():
        print(*figure.values(), sep="  ")
