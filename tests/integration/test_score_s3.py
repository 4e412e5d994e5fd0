"""Archive, package and predictions in an S3 bucket, served on loopback."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from scans import write_archive
from tiny import SPEC, TINY, make_package

from medray import storage
from medray.errors import OutputConflictError, PackageError
from medray.package import add_evaluation, open_package
from medray.score.batch import score
from medray.score.pictures import Pictures
from medray.score.predictor import Predictor
from medray.spec.models import ScoreSpec


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    # A process of its own: deltalake keeps Python's lock while it waits for an answer.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", host.partition(":")[2]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait_for(host)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fs, _ = storage.filesystem("s3://nights")
    assert isinstance(fs, pafs.S3FileSystem)
    pafs.S3FileSystem(endpoint_override=host, scheme="http", allow_bucket_creation=True).create_dir(
        "nights"
    )
    yield "s3://nights"
    server.kill()
    server.wait()


def _wait_for(host: str) -> None:
    name, _, port = host.partition(":")
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection((name, int(port)), timeout=5):
            return
        time.sleep(0.2)
    pytest.fail("the S3 server did not start")


def test_a_package_in_a_bucket(bucket: str, tmp_path: Path):
    uri = f"{bucket}/model/package"
    package = make_package(uri)
    assert package.folder.is_relative_to(tmp_path / "cache")
    assert make_package(uri).digest == package.digest
    with pytest.raises(OutputConflictError):
        make_package(uri, seed=1)
    evaluated = add_evaluation(package, {"auroc": 0.9}, "# card\n")
    assert open_package(uri).metrics["evaluation"] == {"auroc": 0.9}
    assert evaluated.digest == package.digest
    storage.write_atomic(f"{uri}/notes.txt", b"x")
    storage.write_atomic(f"{uri}/package.json", package.manifest.to_bytes())
    with pytest.raises(PackageError, match=r"metrics\.json: altered"):
        _without_cache(uri, tmp_path)
    with pytest.raises(PackageError, match=r"notes\.txt: unexpected"):
        _without_cache(uri, tmp_path)


def _without_cache(uri: str, tmp_path: Path) -> None:
    import shutil

    shutil.rmtree(tmp_path / "cache")
    open_package(uri)


def test_a_night_in_a_bucket(bucket: str, tmp_path: Path):
    write_archive(tmp_path / "archive", 5)
    for path in (tmp_path / "archive").rglob("*.dcm"):
        storage.write_atomic(f"{bucket}/archive/{path.parent.name}/{path.name}", path.read_bytes())
    package = make_package(f"{bucket}/run/package")
    section = ScoreSpec(archive=(f"{bucket}/archive",))
    spec = SPEC.model_copy(update={"output": f"{bucket}/run", "score": section})
    summary = score(spec, task=TINY)
    assert (summary.files_new, summary.items, summary.files_rejected) == (5, 5, 0)
    assert score(spec, task=TINY).files_new == 0
    rows = storage.read_table(f"{bucket}/run/predictions").to_pylist()
    assert len(rows) == 5 * 4
    scored = {(r["item_id"], r["target"], r["text_value"]): r["score"] for r in rows}
    pictures = Pictures(Predictor(package.uri, workload=TINY))
    for path in (tmp_path / "archive").rglob("*.dcm"):
        for row in pictures.predict_bytes(path.name, path.read_bytes()):
            key = (row.item_id, row.target, row.text_value)
            assert scored[key] == pytest.approx(row.score, abs=1e-6)
    assert not any("/.staging/" in uri for uri in storage.list_files(f"{bucket}/run"))
