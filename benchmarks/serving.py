"""What figures of the service share: a service to ask, its processes, a slice to ask about."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from medray.client import Client
from medray.dicom.write import write_instance

READY_S = 180.0
END_S = 90.0


@dataclass
class Service:
    """A service that runs: where it answers, its file, its process."""

    port: int
    file: Path
    process: "subprocess.Popen[bytes]"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def change(self, models: Sequence[Mapping[str, Any]]) -> None:
        """Rewrite its file and tell it so."""
        self.settings["models"] = [dict(one) for one in models]
        self.file.write_text(yaml.safe_dump(self.settings))
        self.process.send_signal(signal.SIGHUP)

    def running(self, ref: str) -> int:
        """Replicas that run."""
        with Client(self.url, retries=5) as client:
            return int(client.model(ref)["replicas"]["running"])

    def processes(self) -> dict[int, str]:
        """All that the service consists of: process → its command line."""
        return tree(self.process.pid)

    def memory_mib(self) -> float:
        """Of all its processes; what they share is counted once (PSS)."""
        return sum(_pss_kib(one) for one in self.processes()) / 1024


@contextmanager
def service(
    folder: Path, models: Sequence[Mapping[str, Any]], **settings: Any
) -> Iterator[Service]:
    """Run `medray serve` on a free port of this machine, until it is ready; then end it.

    Its output goes to `serve.log` in the folder; of a service that does not start, into the error.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    whole = {
        "name": "figures",
        "port": port,
        "output": str(folder / "service"),
        "access": {"open": True},
        "models": [dict(one) for one in models],
        **settings,
    }
    file = folder / "service.yaml"
    file.write_text(yaml.safe_dump(whole))
    log = folder / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "medray", "serve", str(file)],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
    try:
        _wait(process, port, log)
        yield Service(port, file, process, whole)
    finally:
        end(process)


@contextmanager
def memory_of(running: Service) -> Iterator[list[float]]:
    """MiB of all its processes, twice a second, until the block ends."""
    ended = threading.Event()
    seen: list[float] = []

    def watch() -> None:
        while not ended.wait(0.5):
            seen.append(running.memory_mib())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def _wait(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + READY_S
    with Client(f"http://127.0.0.1:{port}", timeout_s=10) as client:
        while True:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the service did not start:\n{log.read_text()[-3000:]}")
            try:
                client.ready()
                return
            except Exception:  # not yet; the log says why, if never
                time.sleep(0.3)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and those below it: asked to first, then killed one by one."""
    below = tree(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid, command in below.items():
        if pid != process.pid and _command(pid) == command:
            os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    """A port of this machine that nobody has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def tree(pid: int) -> dict[int, str]:
    """A process and all below it: number → command line."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                said = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # ended meanwhile
            parents.setdefault(int(said[1]), []).append(int(entry.name))
    found: dict[int, str] = {}
    ahead = [pid]
    while ahead:
        one = ahead.pop()
        found[one] = _command(one)
        ahead += parents.get(one, [])
    return found


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def _pss_kib(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


# ---------------------------------------------------------------- what is asked about


def ct(number: int = 0, size: int = 512) -> bytes:
    """An uncompressed CT slice (H,W) of `size`, 12 bits, made up."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:size, 0:size] / size
    body = 1000.0 * (((x - 0.5) ** 2 + (y - 0.5) ** 2) < 0.18 + 0.04 * rng.random())
    pixels = np.clip(body + rng.normal(40, 25, (size, size)), 0, 4095)
    return write_instance(
        np.rint(pixels).astype(np.uint16),
        sop_instance_uid=f"2.25.4{number:06d}",
        study_instance_uid="2.25.5000001",
        series_instance_uid="2.25.6000001",
        patient_id="P1",
        modality="CT",
        bits_stored=12,
        rescale=(1.0, -1024.0),
    )
