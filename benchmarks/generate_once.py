"""Figure 4: generation → toxicity → gallery as one job on two Ray workers, killed and resumed.

    python -m benchmarks.generate_once

`medray generate` draws with the package of figure 2, compares with the whole training set of MOSES,
asks a predictor of Tox21 and draws the gallery. Its process and all it started get SIGKILL in the
middle of the draws; the same command then goes on.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from benchmarks import molecule_packages
from benchmarks.figures import Figure
from medray import storage

COUNT = 6_000
_WAIT_S = 3600


def figures() -> list[Figure]:
    """Kill, resume, count."""
    made_by, tox = molecule_packages.maker(), molecule_packages.toxicity()
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "made"
        command = [sys.executable, "-m", "medray", "generate", str(made_by), "--out", str(out)]
        command += ["-n", str(COUNT), "--toxicity", str(tox), "--by", "tox21/NR-AhR"]
        killed_at = _kill_when_half_is_drawn(command, out)
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(done.stderr[-500:])
        told = json.loads((out / "summary.json").read_text())
        rows = storage.read_table(str(out / "molecules")).to_pylist()
        page = (out / "gallery.html").read_text()
    distinct = len({row["smiles"] for row in rows})
    judged = [name for name in rows[0] if name.startswith("tox21/")]
    whole = all(row[name] is not None for row in rows for name in (*judged, "QED", "neighbour"))
    drawn = page.count('<svg class="molecule"')
    resumed = told["resumed"]
    return [
        Figure(
            name="molecules that stand once",
            value=f"{distinct:,} of {len(rows):,}",
            bar=f"{COUNT:,}",
            ok=distinct == len(rows) == COUNT,
            note=f"{told['drawn']:,} draws; killed after {killed_at} chunks",
        ),
        Figure(
            name="draws that the killed run left to the next",
            value=f"{resumed:,}",
            bar="> 0",
            ok=resumed > 0,
            note=f"the second run took {seconds:.0f} s",
        ),
        Figure(
            name="molecules with every score and neighbour, and drawn in the gallery",
            value=f"{len(rows) if whole else 0:,}; {drawn} drawings",
            bar="all; 200 and more",
            ok=whole and drawn >= 200,
            note=f"{len(judged)} scores each, neighbour among all of train",
        ),
        Figure(
            name="molecules/s, all stages, two workers",
            value=f"{told['molecules_per_s']:.1f}",
            bar="stated",
            ok=True,
            note="of the second run: its own molecules by its whole time",
        ),
    ]


def _kill_when_half_is_drawn(command: list[str], out: Path) -> int:
    """Start the command, kill it and all it started; how many chunks were drawn by then."""
    half = COUNT // 512 // 2
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        end = time.monotonic() + _WAIT_S
        while _chunks(out) < half and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        return _chunks(out)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _chunks(out: Path) -> int:
    return len(list(out.glob(".staging/*/chunks/*.receipt.parquet")))


if __name__ == "__main__":
    for row in figures():
        print(row)
