"""The client against real servers: what it sends, what it repeats, what it says when it fails."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services import Asked, Reply, Script, breaking, served

from medray.client import Client, batches
from medray.errors import ServiceError, UsageError

PACKAGE = "lung@1#0123456789ab"
MODELS = {"models": [{"name": "lung", "version": "1"}]}


def _problem(status: int, kind: str, **more: Any) -> Reply:
    headers = {"content-type": "application/problem+json", **more.pop("headers", {})}
    content = {"type": f"urn:medray:problem:{kind}", "title": "T", "status": status, **more}
    return Reply(status, content, headers)


def _parts(asked: Asked) -> list[tuple[str, bytes]]:
    """File names and contents of a form, read by the standard library."""
    kind = asked.headers["content-type"]
    found = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + asked.body)
    names = re.findall(rb'; filename="([^"]*)"', asked.body)
    parts = [part.get_payload(decode=True) for part in found.walk()][1:]
    return [(name.decode(), data) for name, data in zip(names, parts, strict=True)]


def _scores(asked: Asked, _: int) -> Reply:
    """A score per part: its length."""
    predictions = [
        {"part": place, "item_id": name, "status": "ok", "scores": [{"score": float(len(data))}]}
        for place, (name, data) in enumerate(_parts(asked))
    ]
    return Reply(200, {"package": PACKAGE, "predictions": predictions})


def _client(port: int, **settings: Any) -> Client:
    return Client(f"http://127.0.0.1:{port}", **settings)


def test_says_what_is_served_and_who_asks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MEDRAY_TOKEN", "from-the-environment")
    app = Script(lambda asked, _: Reply(200, MODELS if asked.path == "/v1/models" else {"a": 1}))
    with served(app) as port:
        with _client(port) as client:
            assert client.models() == MODELS["models"]
        with _client(port, token="given") as client:
            assert client.model("lung@stable") == {"a": 1}
    assert [one.path for one in app.asked] == ["/v1/models", "/v1/models/lung@stable"]
    assert [one.headers["authorization"] for one in app.asked] == [
        "Bearer from-the-environment",
        "Bearer given",
    ]
    assert len({one.headers["x-request-id"] for one in app.asked}) == 2


@pytest.mark.parametrize("ref", ["../admin", "a/b", "a?x=1", "a#b"])
def test_a_name_stays_one_segment_of_the_path(ref: str):
    app = Script(lambda *_: Reply(200, {}))
    with served(app) as port, _client(port) as client:
        client.model(ref)
    assert app.asked[0].path == f"/v1/models/{ref}"  # decoded; one segment on the wire
    assert app.asked[0].query == ""


# ---------------------------------------------------------------- repeating


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_busy_is_asked_again(status: int):
    app = Script(lambda _, n: _problem(status, "busy") if n == 0 else Reply(200, MODELS))
    with served(app) as port, _client(port) as client:
        assert client.models() == MODELS["models"]
    assert len(app.asked) == 2
    assert len({one.headers["x-request-id"] for one in app.asked}) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 415, 422, 500])
def test_refused_is_not_asked_again(status: int):
    errors = [{"pointer": "/events/0/time", "detail": "is wrong"}]
    app = Script(lambda *_: _problem(status, "no-good", detail="not like this", errors=errors))
    with (
        served(app) as port,
        _client(port) as client,
        pytest.raises(ServiceError, match="not like this") as refused,
    ):
        client.models()
    assert len(app.asked) == 1
    assert (refused.value.status, refused.value.kind) == (status, "no-good")
    assert "/events/0/time: is wrong" in str(refused.value)
    assert refused.value.request_id == app.asked[0].headers["x-request-id"]
    assert refused.value.request_id in str(refused.value)


def _in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("header", [lambda: "1", lambda: _in(2)])  # a date has whole seconds
def test_not_before_the_service_says(header: Any):
    def answer(_: Asked, number: int) -> Reply:
        if number:
            return Reply(200, MODELS)
        return _problem(429, "busy", headers={"retry-after": header()})

    with served(Script(answer)) as port, _client(port) as client:
        started = time.monotonic()
        client.models()
    assert 0.9 < time.monotonic() - started < 5


def test_gives_up_after_the_retries():
    app = Script(lambda *_: _problem(503, "not-ready", headers={"retry-after": "0"}))
    with (
        served(app) as port,
        _client(port, retries=1) as client,
        pytest.raises(ServiceError, match="503") as refused,
    ):
        client.models()
    assert len(app.asked) == 2
    assert refused.value.remedy


def test_a_reset_connection_is_made_again(tmp_path: Path):
    (tmp_path / "a.dcm").write_bytes(b"12345")
    app = Script(_scores)
    with served(app) as behind, breaking(behind, 2) as port, _client(port) as client:
        answer = client.predict("lung", files=[tmp_path / "a.dcm"])
    assert answer.predictions[0]["scores"] == [{"score": 5.0}]
    assert len(app.asked) == 1


def test_a_connection_that_is_always_reset_is_an_error():
    app = Script(lambda *_: Reply(200, MODELS))
    with (
        served(app) as behind,
        breaking(behind, 9) as port,
        _client(port, retries=1) as client,
        pytest.raises(ServiceError, match="cannot be reached") as broken,
    ):
        client.models()
    assert broken.value.status is None
    assert not app.asked


def test_slow_is_an_error_that_says_how_long():
    app = Script(lambda *_: Reply(200, MODELS, slow_s=0.6))
    with (
        served(app) as port,
        _client(port, timeout_s=0.2, retries=0) as client,
        pytest.raises(ServiceError, match=r"within 0\.2 s"),
    ):
        client.models()
    app = Script(lambda _, n: Reply(200, MODELS, slow_s=0.6 if n == 0 else 0))
    with served(app) as port, _client(port, timeout_s=0.2) as client:
        assert client.models() == MODELS["models"]


def test_ready_waits():
    ok = Reply(200, {"status": "ok"})
    app = Script(lambda _, n: ok if n == 2 else _problem(503, "not-ready"))
    with served(app) as port, _client(port) as client:
        with pytest.raises(ServiceError, match="503"):
            client.ready()
        client.ready(wait_s=5)
    assert len(app.asked) == 3


@pytest.mark.parametrize(
    "reply", [Reply(200, b"<html>"), Reply(200, [1]), Reply(500, b"oops"), Reply(404, b"")]
)
def test_no_service_of_ours_is_an_error(reply: Reply):
    with (
        served(Script(lambda *_: reply)) as port,
        _client(port) as client,
        pytest.raises(ServiceError),
    ):
        client.models()


# ---------------------------------------------------------------- what is sent


def test_files_go_in_pieces_and_come_back_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batches, "FILES", 3)
    monkeypatch.setattr(batches, "FILE_BYTES", 100)
    sizes = [10, 99, 5, 200, 1, 1, 1, 1]
    files = [tmp_path / f"späte {number}.dcm" for number in range(len(sizes))]
    for file, size in zip(files, sizes, strict=True):
        file.write_bytes(b"\r\n--" + b"x" * (size - 4) if size > 4 else b"x" * size)
    seen: list[dict[str, Any]] = []
    app = Script(_scores)
    with served(app) as port, _client(port) as client:
        answer = client.predict("lung", files=files, progress=seen.append)
    assert [one["part"] for one in answer.predictions] == list(range(len(sizes)))
    assert [one["scores"][0]["score"] for one in answer.predictions] == sizes
    assert [one["item_id"] for one in answer.predictions] == [str(file) for file in files]
    assert answer.packages == (PACKAGE,)
    assert [len(_parts(one)) for one in app.asked] == [1, 1, 1, 1, 3, 1]
    assert {one.headers["x-request-id"] for one in app.asked} == {answer.request_id}
    assert all(int(one.headers["content-length"]) == len(one.body) for one in app.asked)
    assert [one["done"] for one in seen] == [1, 2, 3, 4, 7, 8]
    assert {one["total"] for one in seen} == {8}


def test_what_is_too_much_goes_in_halves(tmp_path: Path):
    files = [tmp_path / f"{number}" for number in range(5)]
    for number, file in enumerate(files):
        file.write_bytes(b"x" * (number + 1))

    def answer(asked: Asked, number: int) -> Reply:
        return _scores(asked, 0) if len(_parts(asked)) < 3 else _problem(413, "body-too-large")

    with served(Script(answer)) as port, _client(port) as client:
        found = client.predict("lung", files=files)
        assert [one["scores"][0]["score"] for one in found.predictions] == [1, 2, 3, 4, 5]
        assert [one["part"] for one in found.predictions] == [0, 1, 2, 3, 4]
    app = Script(lambda *_: _problem(413, "body-too-large"))
    with (
        served(app) as port,
        _client(port) as client,
        pytest.raises(ServiceError, match="413"),
    ):
        client.predict("lung", files=files[:1])
    assert len(app.asked) == 1


def test_a_zip_goes_alone_and_all_in_it_is_its_own(tmp_path: Path):
    files = [tmp_path / name for name in ("a.dcm", "b.zip", "c.dcm")]
    for file, data in zip(files, (b"x", b"PK\x03\x04 two files", b"xx"), strict=True):
        file.write_bytes(data)

    def answer(asked: Asked, _: int) -> Reply:
        count = sum(2 if data.startswith(b"PK") else 1 for _, data in _parts(asked))
        return Reply(200, {"package": PACKAGE, "predictions": [{"part": n} for n in range(count)]})

    app = Script(answer)
    with served(app) as port, _client(port) as client:
        found = client.predict("lung", files=files).predictions
    assert [(one["part"], one["member"]) for one in found] == [(0, 0), (1, 0), (1, 1), (2, 0)]
    assert len(app.asked) == 3


def _records(asked: Asked, _: int) -> Reply:
    """A prediction per patient: the number of their events, and of their times."""
    body = json.loads(asked.body)
    times = body.get("prediction_times", [])
    names = list(dict.fromkeys(row["subject_id"] for row in body["events"] + times))
    predictions = [
        {
            "subject": place,
            "status": "ok",
            "events": sum(row["subject_id"] == name for row in body["events"]),
            "times": sum(row["subject_id"] == name for row in times),
        }
        for place, name in enumerate(names)
    ]
    counts = {"events": len(body["events"]), "refused": {"no_code": 1}, "unknown_codes": {"X": 2}}
    return Reply(200, {"package": PACKAGE, **counts, "predictions": predictions})


def test_patients_stay_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batches, "EVENTS", 3)
    events = [{"subject_id": name, "code": "c"} for name in "abacab"]
    times = [{"subject_id": name, "prediction_time": 1} for name in "dca"]
    app = Script(_records)
    with served(app) as port, _client(port) as client:
        answer = client.predict("icu", events=events, prediction_times=times)
    told = [(one["subject"], one["events"], one["times"]) for one in answer.predictions]
    assert told == [(0, 3, 1), (1, 2, 0), (2, 1, 1), (3, 0, 1)]
    assert len(app.asked) == 2
    assert {one.headers["content-type"] for one in app.asked} == {"application/json"}
    assert answer.counts == {"events": 6, "refused": {"no_code": 2}, "unknown_codes": {"X": 4}}


def test_molecules_and_bundles(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batches, "SMILES", 2)

    def answer(asked: Asked, _: int) -> Reply:
        body = json.loads(asked.body)
        told = [{"part": n, "smiles": one} for n, one in enumerate(body.get("smiles", [0]))]
        return Reply(200, {"package": PACKAGE, "predictions": told})

    app = Script(answer)
    with served(app) as port, _client(port) as client:
        found = client.predict("tox", smiles=["C", "CC", "CCC"]).predictions
        assert [(one["part"], one["smiles"]) for one in found] == [(0, "C"), (1, "CC"), (2, "CCC")]
        assert client.predict("icu", bundle={"resourceType": "Bundle"}).predictions
    assert app.asked[-1].headers["content-type"] == "application/fhir+json"


def test_explanations_are_of_a_target(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x")
    told = {"package": PACKAGE, "explanations": [{"part": 0}], "drawings": {"C": "<svg/>"}}
    app = Script(lambda *_: Reply(200, told))
    with served(app) as port, _client(port) as client:
        found = client.explain("lung", files=[tmp_path / "a"], target="a & b")
    assert found.explanations == ({"part": 0, "member": 0, "package": PACKAGE},)
    assert found.drawings == {"C": "<svg/>"}
    assert (app.asked[0].path, app.asked[0].query) == (
        "/v1/models/lung/explain",
        "target=a+%26+b",
    )


def test_display_gives_the_volume_and_what_it_is(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x")
    headers = {"content-type": "application/octet-stream", "x-display": '{"invert": false}'}
    with served(Script(lambda *_: Reply(200, b"NII", headers))) as port, _client(port) as client:
        assert client.display("lung", [tmp_path / "a"]) == (b"NII", {"invert": False})


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"smiles": ["C"], "events": []},
        {"files": [], "prediction_times": [{"subject_id": 1}]},
        {"files": ["/does/not/exist"]},
        {"events": [{"subject_id": 1, "code": "c", "numeric_value": float("nan")}]},
        {"events": [{"subject_id": 1, "code": b"c"}]},
    ],
)
def test_a_question_that_is_none_is_not_sent(given: dict[str, Any]):
    app = Script(_scores)
    with served(app) as port, _client(port) as client, pytest.raises(UsageError):
        client.predict("lung", **given)
    assert not app.asked


@given(
    sizes=st.lists(st.integers(0, 50), max_size=40),
    most=st.integers(1, 5),
    size=st.integers(1, 60),
)
def test_pieces_hold_everything_once_and_in_order(sizes: list[int], most: int, size: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "FILES", most)
        patch.setattr(batches, "FILE_BYTES", size)
        names = [str(number) for number in range(len(sizes))]
        pieces = list(batches._of_sizes(names, sizes))
    assert [place for piece in pieces for place in piece.places] == list(range(len(sizes)))
    for piece in pieces:
        assert piece.content == [names[place] for place in piece.places]
        total = sum(sizes[place] for place in piece.places)
        assert len(piece.places) <= most
        assert total <= size or len(piece.places) == 1, (sizes, piece)


# ---------------------------------------------------------------- safety


@pytest.mark.parametrize("host", ["ward.example", "10.0.0.7", "127.0.0.1.example", "[2001:db8::1]"])
def test_no_token_in_the_clear(host: str):
    with pytest.raises(UsageError, match="in the clear"):
        Client(f"http://{host}:8000", token="secret")
    Client(f"https://{host}:8000", token="secret").close()
    Client(f"http://{host}:8000").close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.1.2.3"])
def test_a_token_on_this_machine(host: str):
    Client(f"http://{host}:8000", token="secret").close()


@pytest.mark.parametrize("url", ["ward:8000", "ftp://ward", "http://", "", "http://a:b:c"])
def test_an_address_that_is_none(url: str):
    with pytest.raises(UsageError):
        Client(url)


def test_a_redirect_takes_no_token_along():
    other = Script(lambda *_: Reply(200, MODELS))
    with served(other) as away:
        there = {"location": f"http://127.0.0.1:{away}/v1/models"}
        with (
            served(Script(lambda *_: Reply(307, {}, there))) as port,
            _client(port, token="secret") as client,
            pytest.raises(ServiceError, match="307"),
        ):
            client.models()
    assert not other.asked


def test_only_a_certificate_to_trust(tmp_path: Path):
    certificate, key = _certificate(tmp_path)
    app = Script(lambda *_: Reply(200, MODELS))
    with served(app, ssl_certfile=certificate, ssl_keyfile=key) as port:
        url = f"https://127.0.0.1:{port}"
        with Client(url, ca=certificate, token="secret") as client:
            assert client.models() == MODELS["models"]
        with Client(url) as client, pytest.raises(ServiceError, match="not one to trust"):
            client.models()
    assert len(app.asked) == 1
    with pytest.raises(UsageError, match="no certificate"):
        Client(url, ca=str(tmp_path / "none.pem"))


def _certificate(folder: Path) -> tuple[str, str]:
    """PEM files of a self-signed certificate for 127.0.0.1, and of its key."""
    from ipaddress import ip_address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "medray test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")
