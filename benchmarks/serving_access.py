"""Figure 6: who may not ask, and what is too much, is refused, recorded, and costs no memory.

    python -m benchmarks.figures serving --only 6

A service with tokens and signed tokens (a key made on the spot) and small limits. Each attempt has
the statuses that are right for it; each line of the audit is counted, and the chain verified.
"""

import io
import json
import os
import socket
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.figures import Figure
from benchmarks.packages import untrained_package
from benchmarks.serving import Service, ct, memory_of, service
from medray.serve.access.audit import FILE_NAME
from medray.serve.access.token_file import new_token

REF = "untrained-conv3"
PREDICT, EXPLAIN = f"/v1/models/{REF}/predict", f"/v1/models/{REF}/explain"
ISSUER, AUDIENCE = "https://issuer.example", "medray"
BODY_MIB, BODY_S, UNZIPPED_MIB = 16, 5, 32
HUGE = 10 << 30
LORIS = 20  # connections that send a byte now and then
HEADERS_S = 15  # that the ingress waits for the headers of a request
GROWTH_MIB = 100.0


class Attempt(NamedTuple):
    """What is sent, and the statuses that refuse it. recorded: a line of the audit is due."""

    name: str
    right: tuple[int, ...]
    status: int
    recorded: bool = True
    problem: bool = True


def figures() -> list[Figure]:
    """Try everything; then see that one who may ask still can."""
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        os.environ.setdefault("MEDRAY_KEY_FILE", str(home / "pseudonym.key"))
        package = untrained_package(home / "package", "conv3", 64)
        key, other = (
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP256R1()),
        )
        tokens = home / "tokens.json"
        good = new_token(tokens, "ward", ("predict",)).token
        settings = _settings(home, tokens, key)
        with service(home / "service", [{"package": package}], **settings) as running:
            _ask(running, good, ct())  # what is loaded at the first request is no growth
            before = running.memory_mib()
            lines = len(_audit(home))
            with (
                httpx.Client(base_url=running.url, timeout=60, trust_env=False) as client,
                memory_of(running) as seen,
            ):
                found = [*_who(client, good, key, other), *_what(running, client, good)]
            more = len(_audit(home)) - lines
            most = max(seen)
            last = _ask(running, good, ct())
        whole = _verified(home)
    return [
        *(_figure(one) for one in found),
        Figure(
            name="lines of the audit",
            value=str(more),
            bar=f"≥ {sum(one.recorded for one in found)}, its chain whole",
            ok=more >= sum(one.recorded for one in found) and not whole,
            note=whole or "a line for each request that was refused",
        ),
        Figure(
            name="memory of the service, all processes (PSS)",
            value=f"{most - before:+.0f} MiB",
            bar=f"≤ +{GROWTH_MIB:.0f} MiB",
            ok=most - before <= GROWTH_MIB,
            note=f"{before:.0f} MiB before, at most {most:.0f} while all was tried",
        ),
        Figure(
            name="one who may ask, after all of it",
            value=str(last),
            bar="200",
            ok=last == 200,
            note="",
        ),
    ]


def _settings(home: Path, tokens: Path, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    jwk = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key()))
    keys = {"keys": [jwk | {"kid": "figure", "use": "sig", "alg": "ES256"}]}
    (home / "jwks.json").write_text(json.dumps(keys))
    oidc = {
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jwks": str(home / "jwks.json"),
        "algorithms": ["ES256"],
        "leeway_s": 0,
    }
    return {
        "access": {"tokens": str(tokens), "oidc": oidc},
        "audit": {"folder": str(home / "audit")},
        "limits": {
            "body_mib": BODY_MIB,
            "body_s": BODY_S,
            "unzipped_mib": UNZIPPED_MIB,
            "per_minute": 10_000,
        },
    }


def _ask(running: Service, token: str, data: bytes) -> int:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/dicom"}
    url = running.url + PREDICT
    return httpx.post(url, content=data, headers=headers, timeout=60, trust_env=False).status_code


def _figure(one: Attempt) -> Figure:
    return Figure(
        name=one.name,
        value="closed" if one.status == 0 else str(one.status),
        bar=" or ".join("closed" if status == 0 else str(status) for status in one.right),
        ok=one.status in one.right and one.problem,
        note="" if one.problem else "no problem document",
    )


# ---------------------------------------------------------------- who


def _who(
    client: httpx.Client,
    good: str,
    key: ec.EllipticCurvePrivateKey,
    other: ec.EllipticCurvePrivateKey,
) -> Iterator[Attempt]:
    """Tokens that are none, expired, forged, or for something else."""
    now = datetime.now(UTC)
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "ward",
        "iat": now - timedelta(hours=2),
        "exp": now + timedelta(hours=1),
        "scope": "medray.predict",
    }
    named = {"kid": "figure"}

    def signed(
        changes: dict[str, Any], by: Any = key, algorithm: str | None = "ES256"
    ) -> dict[str, str]:
        made = jwt.encode(claims | changes, by, algorithm=algorithm, headers=named)
        return {"Authorization": f"Bearer {made}"}

    past = {"exp": now - timedelta(hours=1)}
    public = "a shared secret that an attacker may choose as he likes"
    tries: list[tuple[str, str, tuple[int, ...], dict[str, str]]] = [
        ("no token", PREDICT, (401,), {}),
        ("a token made up", PREDICT, (401,), {"Authorization": "Bearer medray_" + "A" * 40}),
        ("another scheme", PREDICT, (401,), {"Authorization": "Basic d2FyZDp3YXJk"}),
        ("a scope it has not", EXPLAIN, (403,), {"Authorization": f"Bearer {good}"}),
        ("signed, expired", PREDICT, (401,), signed(past)),
        ("signed by another key", PREDICT, (401,), signed({}, other)),
        ("signed with none", PREDICT, (401,), signed({}, None, "none")),
        ("signed with a shared secret", PREDICT, (401,), signed({}, public, "HS256")),
        ("signed for another audience", PREDICT, (401,), signed({"aud": "else"})),
        ("signed by another issuer", PREDICT, (401,), signed({"iss": "https://else.example"})),
        ("signed, without a scope of ours", PREDICT, (401, 403), signed({"scope": "email"})),
    ]
    kind = {"Content-Type": "application/dicom"}
    for name, path, right, headers in tries:
        answer = client.post(path, content=b"x", headers={**kind, **headers})
        yield Attempt(name, right, answer.status_code, problem=_is_problem(answer))
    answer = client.post(PREDICT, content=ct(), headers={**kind, **signed({})})
    yield Attempt("signed as it must be", (200,), answer.status_code)


def _is_problem(answer: httpx.Response) -> bool:
    kind = answer.headers.get("content-type", "").partition(";")[0]
    return kind == "application/problem+json"


# ---------------------------------------------------------------- what


def _what(running: Service, client: httpx.Client, good: str) -> Iterator[Attempt]:
    """Names that lead elsewhere; bodies that do not end, unfold, or trickle."""
    token = {"Authorization": f"Bearer {good}"}
    paths = (
        "/static/../../etc/passwd",
        "/v1/models/..%2f..%2fetc%2fpasswd/predict",
        "/v1/models/%2e%2e/predict",
        "/static/%2e%2e/%2e%2e/door.py",
        "/v1/models/untrained-conv3%00/predict",
    )
    for path in paths:
        method = "POST" if path.endswith("predict") else "GET"
        status, problem = _raw(running, method, path, good)
        name = f"a path that leads elsewhere: {path[:28]}…"
        yield Attempt(name, (400, 404, 422), status, problem=problem)
    yield Attempt("a body of 10 GiB, in chunks", (413, 0), _endless(running, good))
    bomb = _zip_bomb()
    answer = client.post(
        PREDICT, content=bomb, headers={**token, "Content-Type": "application/zip"}
    )
    name = f"a ZIP of {len(bomb) >> 10} KiB that unfolds to 1 GiB"
    yield Attempt(name, (400, 413, 422), answer.status_code, problem=_is_problem(answer))
    head = (
        f"POST {PREDICT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {good}\r\n"
        "Content-Type: application/dicom\r\nContent-Length: 500000\r\n"
    )
    statuses = _loris(running, head + "\r\n", 3 * BODY_S)
    yield Attempt(f"slow-loris: {LORIS} bodies by the byte", (408, 0), max(statuses))
    statuses = _loris(running, head + "X-Slow: ", 2 * HEADERS_S)  # the ingress: no audit of these
    yield Attempt(
        f"slow-loris: {LORIS} headers by the byte", (408, 0), max(statuses), recorded=False
    )


def _raw(running: Service, method: str, path: str, token: str) -> tuple[int, bool]:
    """Send a path as it is, which a client library would tidy up; status, and whether a problem."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/dicom\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as there:
        there.sendall(head.encode())
        said = b""
        while part := there.recv(65536):
            said += part
    status = int(said.split(b" ", 2)[1]) if said else 0
    return status, b"application/problem+json" in said.lower()


def _endless(running: Service, token: str) -> int:
    """Send chunks until the service has had enough; its status, 0 when it hung up."""
    head = (
        f"POST {PREDICT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        "Content-Type: application/dicom\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    size = 1 << 20
    chunk = f"{size:x}\r\n".encode() + bytes(size) + b"\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=60) as there:
        there.sendall(head.encode())
        with suppress(OSError):
            for _ in range(HUGE // size):
                there.sendall(chunk)
                if _has_said(there):
                    break
            else:
                return 200  # all of it was taken
        return _status(there)


def _has_said(there: socket.socket) -> bool:
    there.setblocking(False)
    try:
        return bool(there.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        there.setblocking(True)
        there.settimeout(60)


def _loris(running: Service, head: str, seconds: float) -> list[int]:
    """Begin requests and send a byte more each second; what each is answered."""
    slow: list[socket.socket] = []
    for _ in range(LORIS):
        slow.append(socket.create_connection(("127.0.0.1", running.port), timeout=60))
        slow[-1].sendall(head.encode())
    until = time.monotonic() + seconds
    waiting = list(slow)
    while waiting and time.monotonic() < until:
        for one in list(waiting):
            try:
                one.sendall(b"x")
                if _has_said(one):
                    waiting.remove(one)
            except OSError:
                waiting.remove(one)
        time.sleep(1)
    statuses = [200 if one in waiting else _status(one) for one in slow]  # 200: still let in
    for one in slow:
        one.close()
    return statuses


def _status(there: socket.socket) -> int:
    try:
        said = there.recv(4096)
    except OSError:
        return 0
    return int(said.split(b" ", 2)[1]) if said else 0


def _zip_bomb() -> bytes:
    made = io.BytesIO()
    with (
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.dcm", "w", force_zip64=True) as file,
    ):
        for _ in range(1024):
            file.write(bytes(1 << 20))
    return made.getvalue()


# ---------------------------------------------------------------- the audit


def _audit(home: Path) -> list[dict[str, Any]]:
    """Lines about requests, over all files."""
    files = [path for path in (home / "audit").iterdir() if FILE_NAME.fullmatch(path.name)]
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    return [line for line in lines if "medray_audit" not in line]


def _verified(home: Path) -> str:
    """What is wrong with the chain; empty when it is whole."""
    from medray.serve.access.verify import verify

    return "; ".join(verify(home / "audit").problems)
