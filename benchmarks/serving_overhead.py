"""Figure 2: what the door costs, beside a bare uvicorn + FastAPI app and beside LitServe.

    python -m benchmarks.figures serving --only 2

A 512×512 CT goes through a small CNN. The bare app reads the body and calls the same `Pictures`
in one thread; it has no limits, no audit, no replicas and no batches. LitServe has a worker process
and batches of 16; it takes no raw bodies, so that its clients send a form with the file in it. All
three are on the same machine and are asked in turn, round by round. A peer that is not asked is
stopped (SIGSTOP): LitServe polls without end. The service cannot be stopped, and runs all the time.
"""

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks import load
from benchmarks.figures import Figure
from benchmarks.load import Done
from benchmarks.packages import untrained_package
from benchmarks.serving import ct, end, free_port, service, tree

SIZE = 64  # what the network sees, as in `medray demo`; four are computed at once
CLIENTS = (1, 8, 32)
ROUNDS, SECONDS = 3, 4.0
BODIES = 8
SLOWEST_P50 = 2.5
_BOUNDARY = "figure"


class Peer(NamedTuple):
    """Something that answers: where, and how it is asked."""

    name: str
    url: str
    path: str
    bodies: Sequence[bytes]
    kind: str = "application/dicom"
    pid: int | None = None  # to be stopped while it is not asked


def figures() -> list[Figure]:
    """Ask in turn, and compare."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as running:
        home = Path(temporary)
        os.environ.setdefault("MEDRAY_KEY_FILE", str(home / "pseudonym.key"))
        package = untrained_package(home / "package", "conv3", SIZE)
        slices = [ct(number) for number in range(BODIES)]
        url, pid = running.enter_context(_peer("bare", package))
        bare = Peer("bare", url, "/predict", slices, pid=pid)
        quiet = _ask(bare, 1)  # before anything else runs
        url, pid = running.enter_context(_peer("litserve", package))
        kind = f"multipart/form-data; boundary={_BOUNDARY}"
        lit = Peer("LitServe", url, "/predict", [_form(one) for one in slices], kind, pid)
        limits = {"limits": {"per_minute": 10_000_000}}
        models = [{"package": package, "queue": 256}]
        served = running.enter_context(service(home / "service", models, **limits))
        ours = Peer("medray", served.url, "/v1/models/untrained-conv3/predict", slices)
        found = _measured((ours, bare, lit))
    return [*_rows(found, quiet), _breakdown(found["medray", 1])]


def _measured(peers: Sequence[Peer]) -> dict[tuple[str, int], list[Done]]:
    """Requests of each peer and number of clients, over all rounds; the first round only warms."""
    found: dict[tuple[str, int], list[Done]] = defaultdict(list)
    for peer in peers:
        _ask(peer, 8)
    for _ in range(ROUNDS):
        for clients in CLIENTS:
            for peer in peers:
                found[peer.name, clients] += _ask(peer, clients)
    return found


def _ask(peer: Peer, clients: int) -> list[Done]:
    _tell(peer.pid, signal.SIGCONT)
    try:
        return load.asked(peer.url, peer.path, peer.bodies, [(clients, SECONDS)], kind=peer.kind)
    finally:
        _tell(peer.pid, signal.SIGSTOP)


def _tell(pid: int | None, number: signal.Signals) -> None:
    for one in tree(pid) if pid is not None else ():
        with suppress(ProcessLookupError):
            os.kill(one, number)


def _p50_ms(done: Sequence[Done]) -> float:
    return 1000 * statistics.median(one.seconds for one in done)


def _per_second(done: Sequence[Done]) -> float:
    return sum(one.status == 200 for one in done) / (ROUNDS * SECONDS)


def _rows(found: dict[tuple[str, int], list[Done]], quiet: Sequence[Done]) -> list[Figure]:
    rows: list[Figure] = []
    for clients in CLIENTS:
        ours, bare, lit = (found[name, clients] for name in ("medray", "bare", "LitServe"))
        every = all(one.status == 200 for one in (*ours, *bare, *lit))
        times = _p50_ms(ours) / _p50_ms(bare)
        rates = [_per_second(one) for one in (ours, bare, lit)]
        note = (
            f"p50 {_p50_ms(ours):.1f} ms, bare {_p50_ms(bare):.1f}, LitServe {_p50_ms(lit):.1f}; "
            f"{rates[0]:.0f}/s, bare {rates[1]:.0f}, LitServe {rates[2]:.0f}"
        )
        if clients == 1:
            note += f"; bare with nothing else running {_p50_ms(quiet):.1f} ms"
            value, bar, ok = f"{times:.2f}×", f"p50 ≤ {SLOWEST_P50}× bare", times <= SLOWEST_P50
        else:
            value, bar = f"{rates[0]:.0f}/s", f"≥ bare {rates[1]:.0f}/s"
            ok = rates[0] >= rates[1]
        rows.append(
            Figure(
                name=f"512² CT through conv3 of {SIZE}², clients: {clients}",
                value=value,
                bar=bar,
                ok=ok and every,
                note=note + ("" if every else "; not every request was answered"),
            )
        )
    return rows


def _breakdown(done: Sequence[Done]) -> Figure:
    """Medians of what the door says of each request (Server-Timing)."""
    steps: dict[str, list[float]] = defaultdict(list)
    for one in done:
        for name, value in re.findall(r"(\w+);dur=([0-9.]+)", one.headers.get("server-timing", "")):
            steps[name].append(float(value))
    said = {name: statistics.median(values) for name, values in steps.items()}
    inside = sum(value for name, value in said.items() if name != "total")
    total = said.get("total", 0.0)
    rest = {
        "between door and replica": total - inside,
        "ingress and client": _p50_ms(done) - total,
    }
    parts = [f"{name} {value:.2f}" for name, value in {**said, **rest}.items() if name != "total"]
    return Figure(
        name="where the time goes, one client",
        value=f"{_p50_ms(done):.1f} ms",
        bar="stated",
        ok=bool(said),
        note=", ".join(parts) + " ms",
    )


# ---------------------------------------------------------------- peers


def _form(data: bytes) -> bytes:
    head = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.dcm"\r\n'
        "Content-Type: application/dicom\r\n\r\n"
    )
    return head.encode() + data + f"\r\n--{_BOUNDARY}--\r\n".encode()


@contextmanager
def _peer(kind: str, package: str) -> Iterator[tuple[str, int]]:
    """A peer in a process of its own; its URL, and its number."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving_peers", kind, package, str(port)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while not _there(f"{url}/health"):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{kind} did not start")
            time.sleep(0.2)
        yield url, process.pid
    finally:
        _tell(process.pid, signal.SIGCONT)
        end(process)


def _there(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - this machine
            return answer.status == 200
    except OSError:
        return False
