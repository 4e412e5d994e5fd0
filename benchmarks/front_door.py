"""Figure 8: `make demo`, `make check` and `make test` from a clean clone, with a fresh venv."""

import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure

ROOT = Path(__file__).parent.parent


def figures() -> list[Figure]:
    """Clone the committed tree, install, and walk through the front door."""
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "medray"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        install, _, _ = _make(clone, ".venv/.ready")
        demo, demo_code, _ = _make(clone, "demo")
        check, check_code, _ = _make(clone, "check")
        test, test_code, said = _make(clone, "test")
    coverage = re.search(r"^TOTAL .* (\d+)%", said, re.MULTILINE)
    closing = [line for line in said.splitlines() if "passed" in line][-1:]
    return [
        Figure(
            name="make demo after the installation, from a clean clone",
            value=f"{demo:.0f} s, exit {demo_code}",
            bar="< 300 s, exit 0",
            ok=demo < 300 and demo_code == 0,
            note=f"the installation took {install:.0f} s",
        ),
        Figure(
            name="make check",
            value=f"exit {check_code}",
            bar="exit 0",
            ok=check_code == 0,
            note=f"{check:.0f} s",
        ),
        Figure(
            name="make test",
            value=f"{test:.0f} s, exit {test_code}",
            bar="< 1500 s, exit 0",
            ok=test < 1500 and test_code == 0,
            note=(closing or [""])[0].strip("= "),
        ),
        Figure(
            name="test coverage of the package",
            value=f"{coverage[1]} %" if coverage else "not found",
            bar="stated",
            ok=coverage is not None,
            note="lines, subprocesses and Ray workers not counted",
        ),
    ]


def _make(folder: Path, target: str) -> tuple[float, int, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VIRTUAL_ENV")}
    started = time.perf_counter()
    done = subprocess.run(
        ["make", target], cwd=folder, capture_output=True, text=True, env=environment, check=False
    )
    return time.perf_counter() - started, done.returncode, done.stdout + done.stderr
