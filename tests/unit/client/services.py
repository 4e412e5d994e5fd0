"""Services to ask: real uvicorn servers with scripted answers; a front that breaks connections."""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import uvicorn


@dataclass
class Asked:
    """A request as the service saw it."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """What is answered: status, content, headers; after a while, if `slow_s`."""

    status: int = 200
    content: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    slow_s: float = 0.0


class Script:
    """An ASGI app that answers by a function of the request and how many there were before."""

    def __init__(self, answer: Callable[[Asked, int], Reply]) -> None:
        self._answer = answer
        self.asked: list[Asked] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        asked = Asked(scope["method"], scope["path"], scope["query_string"].decode(), headers, body)
        self.asked.append(asked)
        reply = self._answer(asked, len(self.asked) - 1)
        await asyncio.sleep(reply.slow_s)
        content = reply.content
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        named = {"content-type": "application/json", **reply.headers}
        pairs = [(name.encode(), value.encode()) for name, value in named.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": pairs})
        await send({"type": "http.response.body", "body": data})


@contextmanager
def served(app: Any, **settings: Any) -> Iterator[int]:
    """Run an ASGI app; its port on loopback."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            app, log_config=None, lifespan="off", timeout_graceful_shutdown=1, **settings
        )
    )
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@contextmanager
def breaking(port: int, times: int) -> Iterator[int]:
    """A front that resets the first connections, and passes on the others whole."""
    listening = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def accept() -> None:
        for number in range(1_000_000):
            try:
                come, _ = listening.accept()
            except OSError:
                return
            if number < times:
                come.recv(1)
                come.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                come.close()
                continue
            gone = socket.create_connection(("127.0.0.1", port))
            for one, other in ((come, gone), (gone, come)):
                threads.append(threading.Thread(target=_pass_on, args=(one, other)))
                threads[-1].start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        for one in threads:
            one.join()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    try:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
    finally:
        for each in (one, other):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        one.close()
