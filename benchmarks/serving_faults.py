"""Figure 5: whatever is sent, there is no 5xx and no crash, and a refusal is a problem document.

    python -m benchmarks.figures serving --only 5

Three kinds of bad requests: what schemathesis makes of the OpenAPI document; files that are broken
on purpose (headers that lie, bombs, codestreams of another size); 1,000 mutations of ten good files
in all transfer syntaxes.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.broken_files import constructed
from benchmarks.figures import Figure
from benchmarks.packages import untrained_package, write_scans
from benchmarks.serving import Service, ct, service

SEEDS, MUTATIONS, CLIENTS = 10, 1000, 8
EXAMPLES = 25  # per operation
REF = "untrained-conv3"
PROBLEM = "application/problem+json"
STORE_REFUSED = (409, "application/dicom+json")  # STOW-RS' own document (PS3.18 10.5.3)
Check = Callable[[httpx.Response], str]


def figures() -> list[Figure]:
    """Three kinds of bad requests, and a good one at the end."""
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        os.environ.setdefault("MEDRAY_KEY_FILE", str(home / "pseudonym.key"))
        package = untrained_package(home / "package", "conv3", 64)
        settings = {"limits": {"per_minute": 10_000_000, "body_mib": 64, "unzipped_mib": 128}}
        with service(home / "service", [{"package": package}], **settings) as running:
            before = _replicas(running)
            faults = constructed(ct())
            broken = _sent(running, list(faults.values()))
            named = [
                (status, f"{name}: {fault}" if fault else "")
                for name, (status, fault) in zip(faults, broken, strict=True)
            ]
            rows = [
                _figure("constructed faults", named, len(faults)),
                _figure("mutations", _sent(running, _mutated(home)), MUTATIONS),
                _schema(running),
            ]
            after = _replicas(running)
            (good,) = _sent(running, [ct()])
        return [*rows, _alive(good, before, after)]


def _replicas(running: Service) -> set[int]:
    return {pid for pid, command in running.processes().items() if "ServeReplica" in command}


def _alive(good: tuple[int, str], before: set[int], after: set[int]) -> Figure:
    return Figure(
        name="processes that fell over",
        value=str(len(before - after)),
        bar="0, and a good file scored after all of it",
        ok=before <= after and bool(before) and good == (200, ""),
        note=f"{len(before)} replicas and doors",
    )


# ---------------------------------------------------------------- files


def _mutated(home: Path) -> list[bytes]:
    """Good files with bytes changed, cut out, doubled, or cut off: places all over the file."""
    write_scans(home / "seeds", SEEDS)
    seeds = [path.read_bytes() for path in sorted((home / "seeds").rglob("*")) if path.is_file()]
    rng = np.random.default_rng(5)
    return [_mutation(seeds[number % SEEDS], number // SEEDS, rng) for number in range(MUTATIONS)]


def _mutation(data: bytes, number: int, rng: np.random.Generator) -> bytes:
    head = bool(number % 2)  # half of them in the header, where more depends on a byte
    top = min(len(data), 1200) if head else len(data)
    at = int(rng.integers(128, top))
    size = int(rng.integers(1, 40))
    noise = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
    ways = (
        lambda: data[:at] + noise[:1] + data[at + 1 :],
        lambda: data[:at] + noise + data[at + size :],
        lambda: data[:at] + data[at + size :],
        lambda: data[:at] + data[at : at + size] * 2 + data[at + size :],
        lambda: data[:at],
    )
    return ways[number % len(ways)]()


def _sent(running: Service, files: Sequence[bytes]) -> list[tuple[int, str]]:
    """Of each file: status of its request, and what is wrong with the answer."""
    with httpx.Client(base_url=running.url, timeout=60, trust_env=False) as client:

        def send(data: bytes) -> tuple[int, str]:
            try:
                answer = client.post(
                    f"/v1/models/{REF}/predict",
                    content=data,
                    headers={"Content-Type": "application/dicom"},
                )
            except httpx.TransportError as error:
                return 0, type(error).__name__
            return answer.status_code, wrong_with(answer)

        with ThreadPoolExecutor(CLIENTS) as threads:
            return list(threads.map(send, files))


def wrong_with(answer: httpx.Response) -> str:
    """Say what an answer to a prediction should not be; empty when all is well."""
    if answer.status_code >= 500:
        return f"{answer.status_code}"
    try:
        content: Any = answer.json()
    except ValueError:
        return f"{answer.status_code} without JSON"
    if answer.status_code != 200:
        kind = answer.headers.get("content-type", "").partition(";")[0]
        named = kind == PROBLEM and content.get("status") == answer.status_code
        return "" if named else f"{answer.status_code} is no problem document"
    items = content.get("predictions", [])
    told = items and all(
        one["status"] == "ok" or (one["status"] == "rejected" and one["reason"]) for one in items
    )
    return "" if told else "an item without status"


def _figure(name: str, found: Sequence[tuple[int, str]], wanted: int) -> Figure:
    wrong = Counter(fault for _, fault in found if fault)
    statuses = Counter(status for status, _ in found)
    return Figure(
        name=f"{name} over HTTP: bad answers",
        value=f"{wrong.total()} of {len(found)}",
        bar="0",
        ok=not wrong and len(found) == wanted,
        note=", ".join(f"{count} × {one}" for one, count in sorted(statuses.items()))
        + "".join(f"; {count} × {what}" for what, count in wrong.most_common(8)),
    )


# ---------------------------------------------------------------- the document


def _schema(running: Service) -> Figure:
    """Ask every operation of the OpenAPI document with what schemathesis makes of it."""
    import schemathesis

    _as_it_is(schemathesis.serializer)
    schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    wrong: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for result in schema.get_all_operations():
        _operation(result.ok(), wrong, asked)
    return Figure(
        name="schemathesis over /openapi.json: bad answers",
        value=f"{wrong.total()} of {asked.total()}",
        bar="0",
        ok=not wrong and len(asked) >= 6,
        note=f"{len(asked)} operations"
        + "".join(f"; {count} × {what}" for what, count in wrong.most_common(4)),
    )


def _as_it_is(serializer: Any) -> None:
    """Kinds of bodies that schemathesis cannot write by itself: what it has drawn, as bytes."""

    def as_bytes(_: Any, value: Any) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode()

    for kind in ("application/dicom", "application/zip", "image/png", "image/jpeg"):
        serializer(kind)(as_bytes)
    serializer("multipart/related")(as_bytes)


def _operation(operation: Any, wrong: Counter[str], asked: Counter[str]) -> None:
    from hypothesis import HealthCheck, Phase, given, settings

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def ask(case: Any) -> None:
        asked[operation.label] += 1
        answer = case.call(timeout=60)
        kind = str((answer.headers.get("content-type") or [""])[0]).partition(";")[0]
        status = int(answer.status_code)
        if status >= 500:
            wrong[f"{operation.label} {status}"] += 1
        elif status >= 400 and kind != PROBLEM and (status, kind) != STORE_REFUSED:
            wrong[f"{operation.label} {status} as {kind or 'nothing'}"] += 1

    ask()
