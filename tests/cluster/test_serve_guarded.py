"""A service that trusts nobody: TLS, tokens, models that share a replica, one in the shadow."""

import datetime
import ipaddress
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import untrained
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from scans import scan
from service import Running

from medray import api, storage
from medray.client import Client
from medray.errors import ServiceError

pytestmark = pytest.mark.slow


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ward")])
    now = datetime.datetime.now(datetime.UTC)
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "ward.pem", folder / "ward.key"
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


@pytest.fixture(scope="module")
def guarded(
    tmp_path_factory: pytest.TempPathFactory, pseudonym_key: None
) -> Iterator[tuple[Running, str, str]]:
    """The service, a token, and the file of its certificate."""
    folder = tmp_path_factory.mktemp("guarded")
    certificate, key = _certificate(folder)
    tokens = str(folder / "tokens.json")
    token = api.token_new("reader", ["predict"], tokens).token
    running = Running(
        folder,
        models=[
            {"package": untrained.imaging(folder / "one")},
            {"package": untrained.imaging(folder / "two", version="2", seed=3), "shadow": True},
            {"package": untrained.imaging(folder / "a", name="a", seed=1), "pooled": True},
            {"package": untrained.imaging(folder / "b", name="b", seed=2), "pooled": True},
            {"package": untrained.imaging(folder / "c", name="c", seed=4), "pooled": True},
        ],
        pool={"resident": 2},
        access={"tokens": tokens},
        tls={"certificate": str(certificate), "key": str(key)},
    )
    try:
        running.wait(trust=ssl.create_default_context(cafile=certificate))
        yield running, token, str(certificate)
    finally:
        running.kill()


def test_without_a_token_there_is_no_answer(guarded: tuple[Running, str, str], tmp_path: Path):
    running, token, certificate = guarded
    assert running.url.startswith("https://")
    trust = ssl.create_default_context(cafile=certificate)
    answer = httpx.get(f"{running.url}/v1/models", verify=trust)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.headers["strict-transport-security"]
    file = tmp_path / "scan.dcm"
    file.write_bytes(scan(1))
    with Client(running.url, token=token, ca=certificate) as client:
        assert client.predict("scans", files=[str(file)]).predictions[0]["status"] == "ok"
        with pytest.raises(ServiceError) as refused:
            client.explain("scans", files=[str(file)])
    assert refused.value.status == 403


def test_models_of_a_pool_answer_each_as_itself(
    guarded: tuple[Running, str, str], tmp_path: Path
) -> None:
    running, token, certificate = guarded
    file = tmp_path / "scan.dcm"
    file.write_bytes(scan(2))
    with Client(running.url, token=token, ca=certificate, timeout_s=120) as client:
        for name in ("a", "b", "c", "a"):  # one more than a replica holds
            (expected,) = api.predict(str(running.folder / name / "package"), [str(file)])
            answer = client.predict(name, files=[str(file)])
            assert answer.packages == (expected.package,)
            assert answer.predictions[0]["scores"][0]["score"] == expected.rows[0].score


def test_the_shadow_is_written_down(guarded: tuple[Running, str, str], tmp_path: Path) -> None:
    running, token, certificate = guarded
    file = tmp_path / "scan.dcm"
    file.write_bytes(scan(3))
    with Client(running.url, token=token, ca=certificate) as client:
        answer = client.predict("scans", files=[str(file)])
    assert answer.packages[0].startswith("scans@1#")
    table = str(running.folder / "out" / "shadow")
    end = time.monotonic() + 60
    mine = []
    while time.monotonic() < end and not mine:
        rows = storage.read_table(table).to_pylist() if storage.table_exists(table) else []
        item = answer.predictions[0]["item_id"]
        mine = [row for row in rows if row["item_id"] == item]
        time.sleep(0.5)
    (expected,) = api.predict(str(running.folder / "two" / "package"), [str(file)])
    assert mine[0]["package"] == expected.package
    assert mine[0]["score"] == expected.rows[0].score
