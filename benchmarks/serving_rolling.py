"""Figure 4: a replica killed, and a new version deployed, under load: nobody who asks twice fails.

    python -m benchmarks.figures serving --only 4

Four clients ask without end; what fails they ask once more. A replica is killed with SIGKILL; then
the service's file names another version, and SIGHUP tells the service so. Every answer names its
version and is held against what that version's package says in this process.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks import load
from benchmarks.figures import Figure
from benchmarks.load import Done
from benchmarks.packages import untrained_package
from benchmarks.serving import Service, ct, service
from medray.client import Client
from medray.score.pictures import Pictures
from medray.score.predictor import Predictor

NAME = "untrained-conv3"
CLIENTS, BODIES = 4, 6
KILLED_S, ROLLED_S = 40.0, 110.0


def figures() -> list[Figure]:
    """Kill, then roll."""
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        os.environ.setdefault("MEDRAY_KEY_FILE", str(home / "pseudonym.key"))
        packages = {
            version: untrained_package(
                home / version, "conv3", 64, temperature=0.5, seed=int(version), version=version
            )
            for version in ("1", "2")
        }
        slices = [ct(number) for number in range(BODIES)]
        right = {version: _scores(package, slices) for version, package in packages.items()}
        models = {
            version: {"package": package, "replicas": {"min": 2, "max": 2}}
            for version, package in packages.items()
        }
        limits = {"limits": {"per_minute": 10_000_000}}
        with service(home / "service", [models["1"]], **limits) as running:
            return [*_kill(running, slices, right), *_roll(running, slices, right, models["2"])]


def _scores(package: str, slices: list[bytes]) -> list[float | None]:
    pictures = Pictures(Predictor(package, "cpu"))
    return [pictures.predict_bytes("a.dcm", one)[0].score for one in slices]


def _load(running: Service, slices: list[bytes], seconds: float) -> "subprocess.Popen[bytes]":
    path = f"/v1/models/{NAME}/predict"
    return load.started(
        running.url, path, slices, [(CLIENTS, seconds)], again=1, read=True, timeout_s=60
    )


def _kill(
    running: Service, slices: list[bytes], right: dict[str, list[float | None]]
) -> list[Figure]:
    process = _load(running, slices, KILLED_S)
    time.sleep(5)
    replicas = [pid for pid, command in running.processes().items() if f"{NAME}--1" in command]
    for pid in replicas[:1]:
        os.kill(pid, signal.SIGKILL)
    done = load.finished(process)
    found = _figures("a replica killed", done, right)
    found[0]["ok"] &= bool(replicas)
    found[0]["note"] += f"; one of {len(replicas)} killed"
    return found


def _roll(
    running: Service,
    slices: list[bytes],
    right: dict[str, list[float | None]],
    model: dict[str, object],
) -> list[Figure]:
    process = _load(running, slices, ROLLED_S)
    time.sleep(5)
    running.change([model])
    done = load.finished(process)
    versions = [one.package.partition("#")[0].partition("@")[2] for one in done if one.package]
    with Client(running.url) as client:
        served = [one["version"] for one in client.models()]
    last = len(versions) - 1 - versions[::-1].index("1") if "1" in versions else -1
    first = versions.index("2") if "2" in versions else len(versions)
    return [
        *_figures("a new version rolled out", done, right),
        Figure(
            name="versions in the order of answers",
            value=f"{versions.count('1')} of 1, then {versions.count('2')} of 2",
            bar="first 1, then 2",
            ok=first > 0 and last < first + 4 * CLIENTS and served == ["2"],
            note=f"{max(0, last - first + 1)} answers of either version in between",
        ),
    ]


def _figures(name: str, done: list[Done], right: dict[str, list[float | None]]) -> list[Figure]:
    statuses = Counter(one.status for one in done)
    twice = sum(one.tries > 1 for one in done)
    wrong = sum(not _right(one, right) for one in done if one.status == 200)
    slowest = max((one.seconds for one in done), default=0.0)
    return [
        Figure(
            name=f"{name}: requests that failed",
            value=f"{len(done) - statuses[200]} of {len(done)}",
            bar="0 (asked twice)",
            ok=bool(done) and statuses[200] == len(done),
            note=f"{twice} were asked twice; the slowest took {slowest:.1f} s",
        ),
        Figure(
            name=f"{name}: answers that are not their version's",
            value=f"{wrong} of {statuses[200]}",
            bar="0",
            ok=wrong == 0 and statuses[200] > 0,
            note="to 1e-6",
        ),
    ]


def _right(one: Done, right: dict[str, list[float | None]]) -> bool:
    version = one.package.partition("#")[0].partition("@")[2]
    wanted = right.get(version, [])
    if one.body >= len(wanted) or one.score is None:
        return False
    expected = wanted[one.body]
    return expected is not None and abs(one.score - expected) <= 1e-6
