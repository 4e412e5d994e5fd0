"""The gate on a real server: what comes slowly, what never ends, and how connections are let go."""

import http.client
import json
import resource
import socket
import time
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from gates import PREDICT, Gate, running

SERVERS = ["h11", "httptools"]


def _head(gate: Gate, *lines: str, path: str = PREDICT, token: str = "ward") -> bytes:
    first = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1"]
    first.append(f"Authorization: Bearer {gate.tokens[token]}")
    return "\r\n".join([*first, *lines, "", ""]).encode()


def _rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    said = b""
    while True:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            return said
        if not piece:
            return said
        said += piece


def _problem(said: bytes) -> tuple[int, str, str]:
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, said
    content = json.loads(body)
    return int(said.split()[1]), content["type"].rpartition(":")[2], head.decode().lower()


@pytest.mark.parametrize("http", SERVERS)
def test_a_body_that_drips_is_let_go(tmp_path: Path, http: str) -> None:
    gate = Gate(tmp_path, body_s=0.4)
    with running(gate.guard, http) as port:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            start_s = time.monotonic()
            connection.sendall(_head(gate, "Content-Length: 1000"))
            connection.settimeout(0.05)
            said = b""
            while not said and time.monotonic() - start_s < 8:
                connection.sendall(b"x")
                try:
                    said = connection.recv(65536)
                except TimeoutError:
                    continue
            connection.settimeout(10)
            said += _rest(connection)
            took_s = time.monotonic() - start_s
        status, kind, head = _problem(said)
        assert (status, kind) == (408, "body-too-slow")
        assert "connection: close" in head
        assert 0.4 <= took_s < 8
    (line,) = gate.lines()
    assert (line["status"], line["caller"]) == (408, "ward")
    assert 0 < line["bytes_in"] < 1000


@pytest.mark.parametrize("http", SERVERS)
def test_ten_gigabytes_are_stopped_early_in_flat_memory(tmp_path: Path, http: str) -> None:
    gate = Gate(tmp_path, body_mib=4)
    chunk = b"100000\r\n" + b"\0" * (1 << 20) + b"\r\n"
    sent = 0
    with running(gate.guard, http) as port:
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(_head(gate, "Transfer-Encoding: chunked"))
            try:
                while sent < 10 << 30:
                    connection.sendall(chunk)
                    sent += 1 << 20
            except OSError:  # the server has had enough
                pass
            status, kind, head = _problem(_rest(connection))
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert (status, kind) == (413, "body-too-large")
    assert "connection: close" in head
    assert sent < 64 << 20
    assert grown_kib < 48 << 10
    (line,) = gate.lines()
    assert line["status"] == 413
    assert 4 << 20 < line["bytes_in"] < 6 << 20


@pytest.mark.parametrize("http", SERVERS)
@pytest.mark.parametrize("token", ["ward", "admin"])
def test_a_long_body_is_refused_before_it_is_sent(tmp_path: Path, http: str, token: str) -> None:
    gate = Gate(tmp_path, body_mib=1)
    expected = (413, "body-too-large") if token == "ward" else (403, "wrong-scope")
    with running(gate.guard, http) as port:
        for more in (["Expect: 100-continue"], []):
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                length = f"Content-Length: {10 << 30}"
                connection.sendall(_head(gate, length, *more, token=token))
                said = _rest(connection)
            assert b"100 Continue" not in said
            status, kind, _ = _problem(said)
            assert (status, kind) == expected
    assert [line["bytes_in"] for line in gate.lines()] == [0, 0]


@pytest.mark.parametrize("http", SERVERS)
def test_a_client_that_sends_first_and_listens_later_reads_why(tmp_path: Path, http: str) -> None:
    gate = Gate(tmp_path, body_mib=1)
    with running(gate.guard, http) as port:
        for token, expected in (("ward", 413), ("old", 401)):
            client = http_client(port)
            client.request(
                "POST",
                PREDICT,
                b"x" * (4 << 20),
                {"Authorization": f"Bearer {gate.tokens[token]}"},
            )
            answer = client.getresponse()
            assert answer.status == expected
            assert json.loads(answer.read())["status"] == expected
            client.close()


def http_client(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=10)


@pytest.mark.parametrize("http", SERVERS)
def test_small_refusals_keep_the_connection(tmp_path: Path, http: str) -> None:
    gate = Gate(tmp_path)
    with running(gate.guard, http) as port:
        client = http_client(port)
        client.connect()
        kept = client.sock
        for path, token, expected in (
            ("/v1/models", "admin", 403),
            ("/v1/models", "ward", 200),
            ("/static/..%2f..%2fetc/passwd", "ward", 400),
            ("/v1/models/../../etc/passwd", "ward", 400),
            ("/v1/models/%2e%2e", "ward", 400),
            ("/nothing", "ward", 404),
            ("/v1/models", "ward", 200),
        ):
            client.request("GET", path, headers={"Authorization": f"Bearer {gate.tokens[token]}"})
            answer = client.getresponse()
            answer.read()
            assert answer.status == expected, path
            assert client.sock is kept
        client.close()
    assert [line["status"] for line in gate.lines()] == [403, 200, 400, 400, 400, 404, 200]


@pytest.mark.parametrize("http", SERVERS)
def test_a_client_that_hangs_up_in_its_body_is_recorded(tmp_path: Path, http: str) -> None:
    gate = Gate(tmp_path)
    with running(gate.guard, http) as port:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(_head(gate, "Content-Length: 1000") + b"half")
        until_s = time.monotonic() + 5
        while not gate.lines() and time.monotonic() < until_s:
            time.sleep(0.02)
    (line,) = gate.lines()
    assert (line["status"], line["problem"], line["bytes_in"]) == (None, "client-gone", 4)


def _fastapi() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.post("/v1/models/{ref}/predict")
    async def predict(ref: str, request: Request) -> dict[str, int]:
        if ref == "boom":
            raise ValueError("Ms Secret")
        return {"size": len(await request.body())}

    @app.post("/v1/display")
    async def display() -> StreamingResponse:
        return StreamingResponse(iter([b"a" * 100_000] * 50), media_type="text/plain")

    return app


@pytest.mark.parametrize("http", SERVERS)
def test_around_fastapi(
    tmp_path: Path, http: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    gate = Gate(tmp_path, app=_fastapi(), body_mib=1)
    said = {"Authorization": f"Bearer {gate.tokens['ward']}"}
    with (
        running(gate.guard, http) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=said) as client,
    ):
        assert client.post(PREDICT, content=b"x" * 1000).json() == {"size": 1000}
        pieces = (b"x" * 65536 for _ in range(64))
        assert client.post(PREDICT, content=pieces).status_code == 413
        assert len(client.post("/v1/display", content=b"x").content) == 5_000_000
        assert client.post("/v1/models/boom/predict", content=b"x").status_code == 500
        assert client.post(PREDICT, content=b"").json() == {"size": 0}
    assert [line["status"] for line in gate.lines()] == [200, 413, 200, 500, 200]
    assert "Secret" not in caplog.text + "".join(capfd.readouterr())
