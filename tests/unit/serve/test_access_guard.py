"""The gate: who passes, what is refused and how, and that every refusal is recorded."""

import asyncio
import json
import logging
import resource
from pathlib import Path
from typing import Any

import pytest
from gates import PREDICT, SCOPES, Gate, door

from medray.errors import UsageError
from medray.serve.access import guarded
from medray.serve.access.token_file import revoke_token
from medray.serve.access.verify import verify
from medray.spec.serve import AccessSpec, AuditSpec, LimitsSpec

# The contract, once more: method, path, scope (None: open).
TABLE = [
    ("GET", "/", None),
    ("GET", "/static/app-1a.js", None),
    ("GET", "/static/fonts/a.woff2", None),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/openapi.json", None),
    ("GET", "/metrics", "admin"),
    ("GET", "/v1/models", "predict"),
    ("HEAD", "/v1/models", "predict"),
    ("GET", "/v1/models/breast", "predict"),
    ("GET", "/v1/models/breast@stable", "predict"),
    ("POST", "/v1/models/breast/predict", "predict"),
    ("POST", "/v1/models/breast@1.2/explain", "explain"),
    ("POST", "/v1/display", "predict"),
    ("GET", "/v1/worklist", "predict"),
    ("POST", "/dicomweb/studies", "predict"),
    ("POST", "/dicomweb/studies/1.2.840.113", "predict"),
]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.mark.parametrize(("method", "path", "scope"), TABLE)
def test_a_path_wants_its_scope_and_no_other(
    gate: Gate, method: str, path: str, scope: str | None
) -> None:
    for one in SCOPES:
        answer = gate.ask(path, method, token=one)
        expected = 200 if scope in (None, one) else 403
        assert answer.status == expected, (one, answer)
        if expected == 403:
            assert answer.kind == "wrong-scope"
            told = answer.headers["www-authenticate"]
            assert told == f'Bearer realm="medray", error="insufficient_scope", scope="{scope}"'
    assert gate.ask(path, method, token=None).status == (200 if scope is None else 401)


@pytest.mark.parametrize(
    ("token", "scheme", "status", "kind", "challenge"),
    [
        (None, "", 401, "no-token", 'Bearer realm="medray"'),
        ("dXNlcjpwYXNz", "Basic ", 401, "no-token", 'Bearer realm="medray"'),
        ("", "Bearer", 400, "bad-authorization", 'Bearer realm="medray", error="invalid_request"'),
        ("a b", "Bearer ", 400, "bad-authorization", "invalid_request"),
        ("medray_" + "a" * 49, "Bearer ", 401, "invalid-token", 'error="invalid_token"'),
        ("eyJhbGciOiJub25lIn0.e30.", "Bearer ", 401, "invalid-token", "invalid_token"),
        ("old", "Bearer ", 401, "invalid-token", "invalid_token"),
        ("ward", "bearer ", 200, "", ""),  # RFC 7235 2.1: the scheme has no case
    ],
)
def test_credentials(
    gate: Gate, token: str | None, scheme: str, status: int, kind: str, challenge: str
) -> None:
    value = scheme + gate.tokens.get(token or "", token or "")
    headers = [] if token is None else [("authorization", value)]
    answer = gate.ask(token=None, headers=headers)
    assert answer.status == status
    (line,) = gate.lines()
    assert line["status"] == status
    assert line["route"] == "/v1/models/{ref}/predict"
    if status == 200:
        assert (line["caller"], line["by"], line["problem"]) == ("ward", "token", None)
        return
    assert answer.kind == kind == line["problem"]
    assert answer.content["status"] == status
    assert challenge in answer.headers["www-authenticate"]
    assert line["caller"] is None
    if token:
        said = answer.body.decode() + json.dumps(line)
        assert gate.tokens.get(token, token) not in said


def test_two_credentials_are_none(gate: Gate) -> None:
    answer = gate.ask(headers=[("authorization", "Bearer other")])
    assert (answer.status, answer.kind) == (400, "bad-authorization")


def test_a_revoked_token_is_refused_as_soon_as_the_file_says_so(gate: Gate) -> None:
    assert gate.ask().status == 200
    revoke_token(gate.file, "ward")
    gate.guard._callers._tokens._looked_s = float("-inf")  # a second has passed
    answer = gate.ask()
    assert (answer.status, answer.content["detail"]) == (401, "the token is revoked")


def test_without_tokens_nobody_is_let_in_and_the_answer_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEDRAY_TOKENS", raising=False)
    gate = Gate(tmp_path, access={})
    for token in (None, "ward"):
        answer = gate.ask(token=token)
        assert answer.status == 401
        assert "medray token new" in answer.content["detail"]
    assert gate.ask("/healthz", token=None).status == 200
    assert gate.ask("/", token=None).status == 200
    monkeypatch.setenv("MEDRAY_TOKENS", gate.file.read_text())
    other = Gate(tmp_path / "other", access={})
    other.tokens = gate.tokens
    assert other.ask().content["caller"] == "ward"
    monkeypatch.setenv("MEDRAY_TOKENS", "medray_secret")
    with pytest.raises(UsageError, match=r"\$MEDRAY_TOKENS is no JSON") as refused:
        Gate(tmp_path / "third", access={})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "headers", "status", "kind"),
    [
        ("localhost:8000", [], 200, ""),
        ("[::1]:8000", [("origin", "http://[::1]:8000")], 200, ""),
        ("evil.example:8000", [], 421, "not-this-host"),  # DNS rebinding
        ("localhost:8000", [("origin", "https://evil.example")], 403, "other-site"),
        ("localhost:8000", [("origin", "null")], 403, "other-site"),
        ("localhost:8000", [("sec-fetch-site", "cross-site")], 403, "other-site"),
        ("localhost:8000", [("host", "localhost:8000")], 400, "bad-host"),
        (None, [], 400, "bad-host"),
        ("a b", [], 400, "bad-host"),
    ],
)
def test_open_is_for_this_machine_and_its_own_page(
    tmp_path: Path, host: str | None, headers: list[tuple[str, str]], status: int, kind: str
) -> None:
    gate = Gate(tmp_path, access={"open": True})
    answer = gate.ask(token=None, host=host, headers=headers)
    assert answer.status == status
    if status == 200:
        assert answer.content["caller"] == "open"
        assert answer.content["scopes"] == ["admin", "explain", "predict"]
    else:
        assert answer.kind == kind == gate.lines()[0]["problem"]
    assert gate.ask(token="medray_wrong", host="localhost").status == 401


def test_what_cannot_be_guarded_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"`access.open` would let everybody in who reaches 0\."):
        Gate(tmp_path, access={"open": True}, host="0.0.0.0")
    with pytest.raises(UsageError, match="medray token new NAME"):
        Gate(tmp_path / "other", access={"tokens": str(tmp_path / "absent.json")})
    for folder in (None, "s3://bucket/audit", str(tmp_path / "tokens.json" / "audit")):
        with pytest.raises(UsageError, match=r"audit.folder"):
            guarded(door, AccessSpec(), LimitsSpec(), AuditSpec(folder=folder))


def test_a_rate_is_its_callers_own(gate: Gate) -> None:
    assert [gate.ask(token="slow").status for _ in range(4)] == [200, 200, 429, 429]
    answer = gate.ask(token="slow")
    assert answer.kind == "too-many-requests"
    assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert gate.ask(token="ward").status == 200
    assert [line["problem"] for line in gate.lines()].count("too-many-requests") == 3


def test_guesses_are_slowed_down_by_address(tmp_path: Path) -> None:
    gate = Gate(tmp_path, per_minute=3)
    guesses = [gate.ask(token="medray_guess", client="10.0.0.9").status for _ in range(5)]
    assert guesses == [401, 401, 401, 429, 429]
    assert gate.ask(token="medray_guess", client="10.0.0.8").status == 401
    assert gate.ask(client="10.0.0.9").status == 200, "a good token is not its address's fault"
    network = [gate.ask(token=None, client=f"2001:db8::{n}").status for n in range(1, 5)]
    assert network == [401, 401, 401, 429]


@pytest.mark.parametrize(
    ("headers", "body", "status", "kind"),
    [
        ([("content-length", "1048576")], [b"x" * (1 << 20)], 200, ""),
        ([("content-length", "1048577")], [], 413, "body-too-large"),
        ([("content-length", "9" * 5000)], [], 413, "body-too-large"),
        ([("transfer-encoding", "chunked")], [b"x" * (1 << 20), b"x", b"x"], 413, "body-too-large"),
        ([], [b"x" * (1 << 20), b"x"], 413, "body-too-large"),  # HTTP/2 needs no length
        ([("content-length", "1"), ("content-length", "2")], [], 400, "bad-length"),
        ([("content-length", "5"), ("transfer-encoding", "chunked")], [], 400, "bad-length"),
        ([("content-length", "-1")], [], 400, "bad-length"),
        ([("content-length", "²")], [], 400, "bad-length"),
    ],
)
def test_bodies(
    tmp_path: Path, headers: list[tuple[str, str]], body: list[bytes], status: int, kind: str
) -> None:
    gate = Gate(tmp_path, body_mib=1)
    answer = gate.ask(headers=headers, body=body or [b""])
    assert answer.status == status
    (line,) = gate.lines()
    if status == 200:
        assert line["bytes_in"] == answer.content["size"] == 1 << 20
        assert "connection" not in answer.headers
        return
    assert answer.kind == kind == line["problem"]
    if headers:
        assert answer.headers["connection"] == "close"
    if status == 413:
        assert line["caller"] == "ward"


def test_also_the_open_page_takes_no_long_body(tmp_path: Path) -> None:
    gate = Gate(tmp_path, body_mib=1)
    answer = gate.ask("/healthz", token=None, headers=[("content-length", "1048577")])
    assert (answer.status, answer.kind) == (413, "body-too-large")


def test_one_who_waits_to_be_told_to_send_is_not_waited_for(gate: Gate) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": PREDICT,
        "headers": [(b"host", b"a"), (b"expect", b"100-continue"), (b"content-length", b"9")],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("a server says `100 Continue` when a body is asked for")

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(gate.guard(scope, receive, send))
    assert sent[0]["status"] == 401
    assert sent[-1].get("more_body", False) is False


def test_an_app_that_swallows_the_refusal_cannot_answer_instead(tmp_path: Path) -> None:
    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except Exception:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"all well"})

    gate = Gate(tmp_path, app=stubborn, body_mib=1)
    answer = gate.ask(body=[b"x" * (1 << 20), b"x", b"x"])
    assert (answer.status, answer.kind) == (413, "body-too-large")


def test_a_failing_app_gives_away_nothing(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = gate.ask("/v1/models/boom/predict")
    assert (answer.status, answer.kind) == (500, "failed")
    assert "a request failed: ValueError" in caplog.text
    everything = answer.body.decode() + caplog.text + json.dumps(gate.lines())
    assert "Secret" not in everything


def test_headers_of_data_and_of_the_page(tmp_path: Path) -> None:
    gate = Gate(tmp_path, tls=True)
    data, page = gate.ask().headers, gate.ask("/static/app.js", token=None).headers
    refused = gate.ask(token=None).headers
    for headers in (data, page, refused):
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "camera=()" in headers["permissions-policy"]
        assert int(headers["strict-transport-security"].removeprefix("max-age=")) >= 31_536_000
        policy = dict(
            part.split(" ", 1)
            for part in headers["content-security-policy"].split("; ")
            if " " in part
        )
        assert policy["default-src"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert "'unsafe-inline'" not in headers["content-security-policy"]
        assert "'unsafe-eval'" not in headers["content-security-policy"].replace("wasm-unsafe", "")
    assert data["cache-control"] == refused["cache-control"] == "no-store"
    assert page["cache-control"] == "max-age=60"
    page_policy = page["content-security-policy"]
    for needed in ("script-src 'self' 'wasm-unsafe-eval'", "img-src 'self' blob: data:"):
        assert needed in page_policy
    assert "worker-src 'self' blob:" in page_policy
    plain = Gate(tmp_path / "plain").ask().headers
    assert "strict-transport-security" not in plain


@pytest.mark.parametrize(
    ("given", "kept"),
    [("ward-3.77_A", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("ä", False)],
)
def test_a_request_id_is_the_callers_if_it_is_one(gate: Gate, given: str, kept: bool) -> None:
    answer = gate.ask(headers=[("x-request-id", given)])
    told = answer.headers["x-request-id"]
    assert (told == given) is kept
    assert told == answer.content["request_id"] == gate.lines()[0]["request_id"]


def test_the_record_has_no_name_that_a_caller_wrote(gate: Gate) -> None:
    gate.ask("/v1/models/breast@1/predict", headers=[("x-request-id", "r1")], body=[b"12345"])
    gate.ask("/v1/models/nobody.mueller/predict")
    gate.ask("/dicomweb/studies/1.2.3.4", "POST")
    gate.ask("/patients/mueller")
    gate.ask("/v1/models/mueller/predict", token=None)
    gate.ask("/v1/models/mueller/predict", token="admin")
    gate.ask("/v1/models", "MUELLER")
    first, unknown, study, *_ = lines = gate.lines()
    assert first.pop("seconds") >= 0
    assert first.pop("time").endswith("Z")
    assert len(first.pop("before")) == 64
    assert first == {
        "request_id": "r1",
        "caller": "ward",
        "by": "token",
        "client": "10.0.0.7",
        "method": "POST",
        "route": "/v1/models/{ref}/predict",
        "model": "breast@1",
        "status": 200,
        "problem": None,
        "package": "breast@1#0123",
        "outcome": "ok",
        "items": [["ab12", "ok"]],
        "bytes_in": 5,
    }
    assert (unknown["status"], unknown["model"]) == (404, None)
    assert study["route"] == "/dicomweb/studies/{study}"
    said = json.dumps(lines).lower()
    assert "mueller" not in said
    assert "1.2.3.4" not in said
    assert gate.tokens["ward"] not in said
    assert verify(gate.audit).sound


def test_health_is_not_recorded_but_what_is_refused_there_is(gate: Gate) -> None:
    gate.ask("/healthz", token=None)
    gate.ask("/", token=None)
    assert not gate.lines()
    gate.ask("/healthz", "POST", token=None)
    assert [line["problem"] for line in gate.lines()] == ["method-not-allowed"]


def test_what_cannot_be_recorded_is_not_answered(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    assert gate.ask().status == 200
    (file,) = gate.audit.glob("*.jsonl")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 40, hard))  # a full disk
    try:
        answer = gate.ask()
        refused = gate.ask(token=None)
        healthy = gate.ask("/healthz", token=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (answer.status, answer.kind) == (503, "no-audit")
    assert answer.headers["retry-after"]
    assert b"caller" not in answer.body, "nothing of the app's answer"
    assert (refused.status, healthy.status) == (401, 200)
    assert "the audit cannot be written: File too large" in caplog.text
    assert gate.ask().status == 200
    found = verify(gate.audit)
    assert found.sound, found.problems
    assert found.lines == 3, "the half line is gone: first line, two answers"


def test_an_app_that_states_no_json_is_not_answered_either(tmp_path: Path) -> None:
    async def careless(scope: Any, receive: Any, send: Any) -> None:
        scope["medray.audit"]["package"] = b"bytes"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"scores"})

    answer = Gate(tmp_path, app=careless).ask()
    assert (answer.status, answer.kind) == (503, "no-audit")


def test_a_client_that_leaves_is_recorded(gate: Gate) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": PREDICT,
        "headers": [
            (b"host", b"a"),
            (b"authorization", f"Bearer {gate.tokens['ward']}".encode()),
            (b"content-length", b"10"),
        ],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(gate.guard(scope, receive, send))
    assert sent == []
    (line,) = gate.lines()
    assert (line["status"], line["problem"], line["caller"]) == (None, "client-gone", "ward")


def test_there_are_no_websockets(gate: Gate) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/models", "headers": []}
    asyncio.run(gate.guard(scope, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]
