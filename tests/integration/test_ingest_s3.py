"""Archive, labels and output on an S3 server (moto's, on loopback, in a process of its own)."""

import gzip
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scans import scan, write_archive

from medray import storage
from medray.dataset import open_any, open_dataset
from medray.errors import OutputConflictError, UsageError
from medray.ingest import ingest, ingest_molecules
from medray.spec.models import RunSpec

BUCKET = "hospital"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Run in another process: deltalake holds the interpreter lock while it waits for answers."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for each in page.get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=each["Key"])
    return client


def upload(client: Any, folder: Path, prefix: str) -> None:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        key = f"{prefix}/{path.relative_to(folder).as_posix()}"
        client.upload_file(str(path), BUCKET, key)


def spec(archive: str, output: str, table: str | None = None) -> RunSpec:
    tables = [{"path": table, "on": "sop_instance_uid"}] if table else []
    section = {"archive": archive, "files_per_task": 4, "tables": tables}
    return RunSpec.model_validate({"name": "t", "output": output, "ingest": section})


@pytest.mark.slow
def test_archive_labels_and_output_on_s3(tmp_path: Path, s3: Any) -> None:
    archive = write_archive(tmp_path / "archive", 9)
    rows = "".join(f"2.25.1{n:06d},{n % 2}\n" for n in range(9))
    (tmp_path / "labels.csv").write_text(f"sop_instance_uid,y\n{rows}")
    upload(s3, archive, "pacs/archive")
    s3.upload_file(str(tmp_path / "labels.csv"), BUCKET, "tables/labels.csv")
    local = ingest(spec(str(archive), str(tmp_path / "out"), str(tmp_path / "labels.csv")))
    remote = spec(
        f"s3://{BUCKET}/pacs/archive", f"s3://{BUCKET}/out", "s3://hospital/tables/labels.csv"
    )
    assert remote.ingest is not None
    first = ingest(remote)
    assert (first.items, first.splits) == (local.items, local.splits)
    here, there = open_dataset(str(tmp_path / "out")), open_dataset(f"s3://{BUCKET}/out")
    assert there.fingerprint() == here.fingerprint()
    assert (there.read("train")["pixels"] == here.read("train")["pixels"]).all()
    assert storage.list_files(f"s3://{BUCKET}/out/.staging") == []

    assert ingest(remote).changed_dataset is False
    s3.put_object(Bucket=BUCKET, Key="pacs/archive/new.dcm", Body=scan(50))
    s3.delete_object(Bucket=BUCKET, Key="pacs/archive/ward0/scan00000.dcm")
    after = ingest(remote)
    assert (after.new, after.vanished, after.items, after.decoded) == (1, 1, 9, 1)


@pytest.mark.slow
def test_foreign_objects_and_missing_buckets_are_said(tmp_path: Path, s3: Any) -> None:
    s3.put_object(Bucket=BUCKET, Key="a/x.dcm", Body=scan(1))
    s3.put_object(Bucket=BUCKET, Key="o/thesis.docx", Body=b"x")
    with pytest.raises(OutputConflictError, match="no run of medray made"):
        ingest(spec(f"s3://{BUCKET}/a", f"s3://{BUCKET}/o"))
    with pytest.raises(UsageError, match="does not exist"):
        ingest(spec("s3://no-such-bucket/a", str(tmp_path / "out")))
    with pytest.raises(UsageError, match="does not exist"):
        ingest(spec(f"s3://{BUCKET}/nothing-here", str(tmp_path / "out")))


@pytest.mark.slow
def test_molecules_on_s3(tmp_path: Path, s3: Any) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/lines.smi.gz").write_bytes(gzip.compress(b"CCO ethanol\n\nOCC again\nC1 x\n"))
    (tmp_path / "in/table.csv").write_text("smiles,y\nc1ccccc1,1\n")
    pq.write_table(pa.table({"smiles": ["CCN"], "y": [2.0]}), tmp_path / "in/columns.parquet")
    upload(s3, tmp_path / "in", "molecules")
    places = {
        str(tmp_path / "in"): str(tmp_path / "out"),
        "s3://hospital/molecules": "s3://hospital/m",
    }
    prints: list[str] = []
    for source, output in places.items():
        molecules = {"sources": [{"path": source, "name": "in"}], "rows_per_task": 2}
        asked = RunSpec.model_validate({"name": "m", "output": output, "molecules": molecules})
        summary = ingest_molecules(asked)
        assert (summary.rows, summary.molecules, summary.duplicates) == (6, 3, 1)
        assert ingest_molecules(asked).changed_dataset is False
        assert storage.list_files(f"{output}/.staging") == []
        prints.append(open_any(output).fingerprint())
    assert prints[0] == prints[1]


@pytest.mark.slow
def test_on_ray_with_s3(tmp_path: Path, s3: Any) -> None:
    """In a process of its own, whose workers inherit the settings of S3."""
    upload(s3, write_archive(tmp_path / "archive", 9), "pacs")
    program = (
        "import sys; from medray.ingest import ingest, parts; parts.IN_PROCESS_ROWS = 0\n"
        "from medray.spec.models import RunSpec\n"
        "run = RunSpec.model_validate_json(sys.argv[1]); s = ingest(run)\n"
        "assert (s.items, s.rejected) == (9, 0), s\n"
    )
    run = spec(f"s3://{BUCKET}/pacs", f"s3://{BUCKET}/ray").model_dump_json()
    done = subprocess.run(
        [sys.executable, "-c", program, run],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert open_dataset(f"s3://{BUCKET}/ray").labels().num_rows == 9
