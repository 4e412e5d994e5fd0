"""Clients that ask without end, in a process of their own; each request is told one by one.

    asked(url, path, bodies, phases=[(clients, seconds), …])

HTTP/1.1 over asyncio's own streams: a client library would cost more than what is measured. Bounded
by the time and the number of requests of each phase, and to this machine.
"""

import asyncio
import base64
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict
from urllib.parse import urlsplit

MOST = 200_000  # requests of one call
_PAUSE_S = 0.1  # after 429 or no answer, for a client that does not wait as long as it is told


class Done(NamedTuple):
    """A request that was answered, or was not (status 0).

    at       seconds since the start. tries: how often it was sent.
    headers  of interest: server-timing, retry-after, content-type.
    package  that answered; score: the first one.
    """

    at: float
    seconds: float
    status: int
    phase: int
    body: int
    tries: int
    headers: dict[str, str]
    package: str
    score: float | None


class _Asked(TypedDict):
    host: str
    port: int
    path: str
    headers: dict[str, str]
    bodies: list[str]
    phases: list[tuple[int, float]]
    again: int
    read: bool
    timeout_s: float


def asked(
    url: str,
    path: str,
    bodies: Sequence[bytes],
    phases: Sequence[tuple[int, float]],
    *,
    kind: str = "application/dicom",
    headers: Mapping[str, str] | None = None,
    again: int = 0,
    read: bool = False,
    timeout_s: float = 30.0,
) -> list[Done]:
    """Ask, and wait for the end.

    phases  (clients, seconds), one after the other. again: repeat what fails (no answer, or 5xx)
            so often. read: keep package and score of each answer.
    """
    with started(
        url, path, bodies, phases, kind=kind, headers=headers, again=again, read=read,
        timeout_s=timeout_s,
    ) as process:  # fmt: skip
        return finished(process)


def started(
    url: str,
    path: str,
    bodies: Sequence[bytes],
    phases: Sequence[tuple[int, float]],
    *,
    kind: str = "application/dicom",
    headers: Mapping[str, str] | None = None,
    again: int = 0,
    read: bool = False,
    timeout_s: float = 30.0,
) -> "subprocess.Popen[bytes]":
    """Begin to ask; see `asked`. `finished` waits for the end."""
    where = urlsplit(url)
    if where.hostname != "127.0.0.1":
        raise ValueError("load is for this machine alone")
    content = _Asked(
        host=where.hostname,
        port=where.port or 80,
        path=path,
        headers={"Content-Type": kind, **(headers or {})},
        bodies=[base64.b64encode(one).decode() for one in bodies],
        phases=list(phases),
        again=again,
        read=read,
        timeout_s=timeout_s,
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(content).encode())
    process.stdin.close()
    return process


def finished(process: "subprocess.Popen[bytes]") -> list[Done]:
    """What became of each request, in the order of their ends."""
    assert process.stdout is not None
    said = process.stdout.read()
    if process.wait():
        raise RuntimeError("the load ended early")
    return [Done(*one) for one in json.loads(said)]


class _Load:
    """One run of clients."""

    def __init__(self, content: _Asked) -> None:
        self.content = content
        self.bodies = [base64.b64decode(one) for one in content["bodies"]]
        self.done: list[Done] = []
        self.count = 0

    async def run(self) -> None:
        self.started = time.perf_counter()
        for phase, (clients, seconds) in enumerate(self.content["phases"]):
            until = time.perf_counter() + seconds
            await asyncio.gather(*(self._client(phase, until) for _ in range(clients)))

    async def _client(self, phase: int, until: float) -> None:
        connection: _Connection | None = None
        while time.perf_counter() < until and self.count < MOST:
            number = self.count % len(self.bodies)
            self.count += 1
            began = time.perf_counter()
            for tries in range(1, self.content["again"] + 2):
                connection, answer = await self._once(connection, number)
                if 0 < answer.status < 500:
                    break
                if tries <= self.content["again"]:
                    await asyncio.sleep(float(answer.headers.get("retry-after", 0.2)))
            ended = time.perf_counter()
            package, score = self._read(answer)
            self.done.append(
                Done(
                    began - self.started, ended - began, answer.status, phase, number, tries,
                    answer.headers, package, score,
                )
            )  # fmt: skip
            if answer.status in (0, 429):
                await asyncio.sleep(_PAUSE_S)
        if connection is not None:
            connection.close()

    async def _once(
        self, connection: "_Connection | None", number: int
    ) -> "tuple[_Connection | None, _Answer]":
        content = self.content
        try:
            async with asyncio.timeout(content["timeout_s"]):
                if connection is None:
                    streams = await asyncio.open_connection(content["host"], content["port"])
                    connection = _Connection(*streams)
                answer = await connection.ask(
                    content["host"], content["path"], content["headers"], self.bodies[number]
                )
        except (OSError, EOFError, TimeoutError, ValueError):
            if connection is not None:
                connection.close()
            return None, _Answer(0, {}, b"")
        if answer.headers.get("connection", "").lower() == "close":
            connection.close()
            connection = None
        return connection, answer

    def _read(self, answer: "_Answer") -> tuple[str, float | None]:
        if not self.content["read"] or answer.status != 200:
            return "", None
        said = json.loads(answer.body)
        scores = said["predictions"][0]["scores"]
        return said["package"], scores[0]["score"] if scores else None


class _Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


_KEPT = ("server-timing", "retry-after", "content-type", "connection")


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def close(self) -> None:
        self._writer.close()

    async def ask(self, host: str, path: str, headers: Mapping[str, str], body: bytes) -> _Answer:
        lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self._writer.drain()
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        found = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        kept = {name: found[name] for name in _KEPT if name in found}
        return _Answer(int(head[0].split()[1]), kept, await self._content(found))

    async def _content(self, found: Mapping[str, str]) -> bytes:
        if found.get("transfer-encoding", "").lower() != "chunked":
            return await self._reader.readexactly(int(found["content-length"]))
        parts: list[bytes] = []
        while size := int((await self._reader.readline()).split(b";")[0], 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readline()
        await self._reader.readline()
        return b"".join(parts)


def main() -> None:
    """Read what to ask from standard input, write what came of it to standard output."""
    content: Any = json.load(sys.stdin)
    load = _Load(content)
    asyncio.run(load.run())
    json.dump(load.done, sys.stdout)


if __name__ == "__main__":
    main()
