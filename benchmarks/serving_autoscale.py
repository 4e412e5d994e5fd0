"""Figure 3: replicas follow a load that rises ten-fold and falls; too much is turned away.

    python -m benchmarks.figures serving --only 3

One model, one to three replicas. First one client, then ten at once, then one again; replicas that
run are read from /v1/models while they do. Then five times as many clients as the service takes at
all, and one again.
"""

import os
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks import load
from benchmarks.figures import Figure
from benchmarks.packages import untrained_package
from benchmarks.serving import Service, ct, service

REF = "untrained-resnet18"
PATH = f"/v1/models/{REF}/predict"
REPLICAS = {"min": 1, "max": 3, "ongoing": 2, "up_s": 3, "down_s": 8}
QUEUE, BATCH = 8, 2
# What a replica may have at once is twice the batch or what is aimed at, whichever is more.
CAPACITY = REPLICAS["max"] * 2 * BATCH + QUEUE
START_S = 45.0  # a process that imports torch, loads a model and is found healthy
SETTLE_S = 20.0  # Serve looks back over some seconds, and drains
RECOVER_S = 10.0
PHASES = [(1, 10.0), (10, 60.0), (1, 45.0)]
CROWD_S, AFTER_S = 20.0, 20.0


class _Watch(threading.Thread):
    """Replicas and memory of a service, twice a second."""

    def __init__(self, running: Service) -> None:
        super().__init__(daemon=True)
        self._service, self._end = running, threading.Event()
        self.began = time.perf_counter()
        self.replicas: list[tuple[float, int]] = []
        self.memory: list[tuple[float, float]] = []

    def run(self) -> None:
        while not self._end.wait(0.5):
            now = time.perf_counter() - self.began
            self.replicas.append((now, self._service.running(REF)))
            self.memory.append((now, self._service.memory_mib()))

    def stop(self) -> None:
        self._end.set()
        self.join()


def figures() -> list[Figure]:
    """Rise, fall, flood."""
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        os.environ.setdefault("MEDRAY_KEY_FILE", str(home / "pseudonym.key"))
        package = untrained_package(home / "package", "resnet18", 224)
        model = {
            "package": package,
            "replicas": REPLICAS,
            "batch": {"most": BATCH},
            "queue": QUEUE,
            "timeout_s": 60,
        }
        limits = {"limits": {"per_minute": 10_000_000}}
        with service(home / "service", [model], **limits) as running:
            return [*_wave(running), *_flood(running)]


def _wave(running: Service) -> list[Figure]:
    watch = _Watch(running)
    watch.start()
    done = load.asked(running.url, PATH, [ct()], PHASES, timeout_s=60)
    watch.stop()
    rose, fell = PHASES[0][1], PHASES[0][1] + PHASES[1][1]
    up = next((at - rose for at, count in watch.replicas if at > rose and count > 1), None)
    most = max(count for _, count in watch.replicas)
    down = next((at - fell for at, count in watch.replicas if at > fell and count == 1), None)
    statuses = Counter(one.status for one in done)
    p99 = [_percentile([x.seconds for x in done if x.phase == n], 0.99) for n in range(3)]
    path = " ".join(f"{at:.0f}s:{count}" for at, count in _changes(watch.replicas))
    return [
        _within("more replicas after a ten-fold rise", up, REPLICAS["up_s"] + START_S, path),
        _within("one replica after the fall", down, REPLICAS["down_s"] + SETTLE_S, f"most {most}"),
        Figure(
            name="answers in rise and fall",
            value=_said(statuses),
            bar="no 5xx, none lost",
            ok=all(0 < status < 500 for status in statuses),
            note="p99 " + ", ".join(f"{1000 * one:.0f}" for one in p99) + " ms before, in, after",
        ),
    ]


def _flood(running: Service) -> list[Figure]:
    before = load.asked(running.url, PATH, [ct()], [(1, 5.0)], timeout_s=60)
    watch = _Watch(running)
    watch.start()
    phases = [(5 * CAPACITY, CROWD_S), (1, AFTER_S)]
    done = load.asked(running.url, PATH, [ct()], phases, timeout_s=60)
    watch.stop()
    crowd = [one for one in done if one.phase == 0]
    statuses = Counter(one.status for one in crowd)
    told = all("retry-after" in one.headers for one in crowd if one.status == 429)
    usual = statistics.median(one.seconds for one in before)
    end = max(one.at + one.seconds for one in crowd)
    good = [
        one.at - end
        for one in done
        if one.phase == 1 and one.status == 200 and one.seconds <= 2 * usual
    ]
    early = [mib for at, mib in watch.memory if CROWD_S / 4 < at < CROWD_S / 2]
    late = [mib for at, mib in watch.memory if CROWD_S / 2 < at < CROWD_S]
    growth = (max(late) - max(early)) / max(early) if early and late else float("inf")
    return [
        Figure(
            name=f"{5 * CAPACITY} clients, five times what is taken",
            value=_said(statuses),
            bar="200, and 429 with Retry-After",
            ok=set(statuses) == {200, 429} and told,
            note="each 429 with Retry-After" if told else "429 without Retry-After",
        ),
        Figure(
            name="memory under the flood",
            value=f"{growth:+.1%}",
            bar="≤ +5 % in its second half",
            ok=growth <= 0.05,
            note=f"{max(late, default=0):.0f} MiB, all processes (PSS)",
        ),
        _within("as quick as before after the flood", good[0] if good else None, RECOVER_S, ""),
    ]


def _within(name: str, seconds: float | None, most: float, note: str) -> Figure:
    return Figure(
        name=name,
        value="never" if seconds is None else f"{max(0.0, seconds):.1f} s",
        bar=f"≤ {most:g} s",
        ok=seconds is not None and seconds <= most,
        note=note,
    )


def _said(statuses: Counter[int]) -> str:
    names = {0: "lost"}
    return ", ".join(f"{count} × {names.get(one, one)}" for one, count in sorted(statuses.items()))


def _changes(seen: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    return [one for place, one in enumerate(seen) if place == 0 or one[1] != seen[place - 1][1]]


def _percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))] if values else float("nan")
