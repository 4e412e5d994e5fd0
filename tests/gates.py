"""A guarded ASGI app for tests: a door that answers and says what it did, and ways to ask."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import uvicorn

from medray.serve.access import Guard, guarded
from medray.serve.access.tokens import Token, TokenList, hash_of, make_token
from medray.spec.serve import AccessSpec, AuditSpec, LimitsSpec, OidcSpec

SCOPES = ("predict", "explain", "admin")
TOKENS: list[tuple[str, dict[str, Any]]] = [
    ("ward", {"scopes": ("predict", "explain")}),
    *((name, {"scopes": (name,)}) for name in SCOPES),
    ("slow", {"scopes": ("predict",), "per_minute": 2}),
    ("old", {"scopes": ("predict",), "expires": datetime(2026, 1, 1, tzinfo=UTC)}),
]
PREDICT = "/v1/models/breast@1/predict"


async def door(scope: Any, receive: Any, send: Any) -> None:
    """The app behind: counts the body without keeping it, answers with what it was told."""
    if scope["type"] == "lifespan":
        return
    if "boom" in scope["path"]:
        raise ValueError("Ms Secret has sepsis")
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("gone")
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    status = 404 if "nobody" in scope["path"] else 200
    caller = scope["medray.caller"]
    if status == 200:
        stated = {"package": "breast@1#0123", "items": [["ab12", "ok"]], "outcome": "ok"}
        scope["medray.audit"].update(stated)
    content = {
        "size": size,
        "caller": caller and caller.name,
        "scopes": sorted(caller.scopes) if caller else None,
        "request_id": scope["medray.request_id"],
    }
    body = json.dumps(content).encode()
    kind = (b"content-type", b"application/json")
    headers = [kind, (b"cache-control", b"max-age=60"), (b"x-frame-options", b"ALLOWALL")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)

    @property
    def kind(self) -> str:
        assert self.headers["content-type"] == "application/problem+json", self
        return self.content["type"].removeprefix("urn:medray:problem:")


class Gate:
    """A guarded door with tokens of every sort, and its audit."""

    def __init__(
        self,
        folder: Path,
        *,
        access: Mapping[str, Any] | None = None,
        oidc: OidcSpec | None = None,
        app: Any = door,
        tls: bool = False,
        host: str = "127.0.0.1",
        **limits: Any,
    ) -> None:
        self.file, self.audit = folder / "tokens.json", folder / "audit"
        folder.mkdir(exist_ok=True)
        self.tokens = {name: make_token() for name, _ in TOKENS}
        entries = [
            Token(name=name, sha256=hash_of(self.tokens[name]), **more) for name, more in TOKENS
        ]
        self.file.write_text(TokenList(tokens=tuple(entries)).model_dump_json())
        given = {"tokens": str(self.file)} if access is None else access
        self.guard: Guard = guarded(
            app,
            AccessSpec(**given, oidc=oidc),
            LimitsSpec(**limits),
            AuditSpec(folder=str(self.audit)),
            host=host,
            tls=tls,
        )

    def ask(
        self,
        path: str = PREDICT,
        method: str | None = None,
        token: str | None = "ward",
        headers: Sequence[tuple[str, str]] = (),
        body: Sequence[bytes] = (b"",),
        client: str = "10.0.0.7",
        host: str | None = "127.0.0.1:8000",
        raw: bytes | None = None,
    ) -> Answer:
        """Ask over ASGI, without a server. token: of `tokens`, or one itself."""
        method = method or ("POST" if path.endswith(("predict", "explain", "studies")) else "GET")
        given = [("host", host)] if host else []
        if token is not None:
            given.append(("authorization", f"Bearer {self.tokens.get(token, token)}"))
        given += headers
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in given],
            "client": (client, 5),
        }
        if raw is not None:
            scope["raw_path"] = raw
        return asyncio.run(_asked(self.guard, scope, list(body)))

    def lines(self) -> list[dict[str, Any]]:
        """Every line of the audit but those that open a file, in order."""
        files = sorted(self.audit.glob("*.jsonl"))
        every = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
        return [line for line in every if "medray_audit" not in line]


async def _asked(app: Any, scope: dict[str, Any], pieces: list[bytes]) -> Answer:
    sent: list[dict[str, Any]] = []
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        if not left:
            return {"type": "http.disconnect"}
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    assert len(headers) == len(sent[0]["headers"]), "a header twice"
    return Answer(
        sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])
    )


@contextmanager
def running(app: Any, http: str = "h11") -> Iterator[int]:
    """A real server on loopback, in a thread; gives its port."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http=http, ws="none", log_level="critical", lifespan="off", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]), daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
    assert not thread.is_alive()


class KeyServer:
    """An identity provider's key set, over HTTP on loopback."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked = 0
        self.status = 200
        self.wait_s = 0.0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                time.sleep(outer.wait_s)
                body = json.dumps({"keys": outer.keys}).encode()
                self.send_response(outer.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}/keys"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
