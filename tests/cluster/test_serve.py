"""A service as people run it: `medray serve` in a process of its own, asked over HTTP."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import untrained
from scans import scan
from service import Running

from medray import api
from medray.spec.models import RunSpec

pytestmark = pytest.mark.slow
DICOM = {"Content-Type": "application/dicom"}


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, tiny_records: tuple[Path, RunSpec]
) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("ward")
    scans = untrained.imaging(folder / "one")
    records = str(tiny_records[0] / "run" / "package")
    running = Running(folder, [{"package": scans}, {"package": records}])
    try:
        running.wait()
        yield running
    finally:
        running.kill()


def _ask(service: Running, data: bytes, ref: str = "scans") -> httpx.Response:
    url = f"{service.url}/v1/models/{ref}/predict"
    return httpx.post(url, content=data, headers=DICOM, timeout=60)


def _answer(service: Running, data: bytes) -> dict[str, Any]:
    answer = _ask(service, data)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_online_is_what_everywhere_is(service: Running, tmp_path: Path):
    for number in range(6):
        file = tmp_path / f"{number}.dcm"
        file.write_bytes(scan(number))
        (expected,) = api.predict(str(service.folder / "one" / "package"), [str(file)])
        (item,) = _answer(service, scan(number))["predictions"]
        assert item["scores"][0]["score"] == expected.rows[0].score  # to the bit


def test_records_of_a_patient_online(service: Running, tiny_records: tuple[Path, RunSpec]):
    lines = (tiny_records[0] / "events" / "part-0.csv").read_text().splitlines()[1:]
    mine = [line.split(",") for line in lines if line.startswith("p7,")]
    events = [
        {
            "subject_id": "p7",
            "time": float(hours) if hours else None,
            "code": code,
            "numeric_value": float(value) if value and hours else None,
            "text_value": None if hours else value,
        }
        for _, hours, code, value in mine
    ]
    answer = httpx.post(
        f"{service.url}/v1/models/tiny_records/predict", json={"events": events}, timeout=60
    )
    table = service.folder / "asked.csv"
    table.write_text("\n".join(["patient,hours,code,value", *map(",".join, mine)]))
    (expected,) = api.predict(str(tiny_records[0] / "run" / "package"), [str(table)])
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()["predictions"]
    assert item["scores"][0]["score"] == expected.rows[0].score
    assert "p7" not in answer.text


def test_what_was_asked_is_in_the_audit_by_pseudonym(service: Running):
    answer = _answer(service, scan(1))
    lines = [
        json.loads(line)
        for file in (service.folder / "out" / "audit").glob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    (mine,) = [one for one in lines if one.get("request_id") == answer["request_id"]]
    assert mine["package"] == answer["package"]
    assert mine["items"] == [[answer["predictions"][0]["item_id"], "ok"]]


def test_the_door_is_on_loopback_alone(service: Running):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        outward.connect(("192.0.2.1", 9))  # no packet is sent
        mine = outward.getsockname()[0]
    if mine.startswith("127."):
        return  # a machine without another address
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((mine, service.port), timeout=5).close()


def test_a_new_version_takes_over_without_a_failed_request(service: Running):
    first = _answer(service, scan(2))
    new = untrained.imaging(service.folder / "two", version="2", seed=5)
    seen: list[tuple[int, str]] = []
    done = threading.Event()

    def load() -> None:
        with httpx.Client(timeout=60) as door:
            while not done.is_set():
                answer = door.post(
                    f"{service.url}/v1/models/scans/predict", content=scan(2), headers=DICOM
                )
                said = answer.json().get("version", answer.text)
                seen.append((answer.status_code, said))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    spec = json.loads(service.file.read_text())
    spec["models"][0]["package"] = new
    service.file.write_text(json.dumps(spec))
    service.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 120
    while time.monotonic() < end and not any(version == "2" for _, version in seen[-4:]):
        time.sleep(0.2)
    time.sleep(4)  # until the old one has gone
    done.set()
    for thread in threads:
        thread.join()
    assert [one for one in seen if one[0] != 200] == []
    assert {version for _, version in seen} == {"1", "2"}
    second = _answer(service, scan(2))
    assert second["version"] == "2"
    assert second["predictions"][0]["scores"] != first["predictions"][0]["scores"]
    gone = _ask(service, scan(2), "scans@1")
    assert (gone.status_code, gone.json()["type"]) == (404, "urn:medray:problem:no-such-version")


def test_a_wrong_file_changes_nothing(service: Running):
    good = service.file.read_text()
    service.file.write_text(good.replace('"package"', '"pakage"', 1))
    service.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 30
    while time.monotonic() < end and "nothing was changed" not in service.log.read_text():
        time.sleep(0.1)
    assert "did you mean 'package'" in service.log.read_text()
    assert _ask(service, scan(2)).status_code == 200
    service.file.write_text(good)


def test_a_replica_that_dies_fails_no_request(service: Running):
    pids = _replicas("scans--2")
    assert len(pids) == 1
    statuses: list[int] = []
    done = threading.Event()

    def load() -> None:
        with httpx.Client(timeout=60) as door:
            while not done.is_set():
                url = f"{service.url}/v1/models/scans/predict"
                answer = door.post(url, content=scan(2), headers=DICOM)
                if answer.status_code == 503:  # what a client does that tries once more
                    time.sleep(float(answer.headers["Retry-After"]))
                    answer = door.post(url, content=scan(2), headers=DICOM)
                statuses.append(answer.status_code)

    thread = threading.Thread(target=load)
    thread.start()
    time.sleep(1)
    os.kill(pids[0], signal.SIGKILL)
    end = time.monotonic() + 90
    while time.monotonic() < end and not set(_replicas("scans--2")) - set(pids):
        time.sleep(0.2)
    time.sleep(5)
    done.set()
    thread.join()
    assert set(statuses) == {200}


def _replicas(name: str) -> list[int]:
    """Process ids of the replicas of a model."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if title.startswith(f"ray::ServeReplica:{name}--".encode()):
            found.append(int(folder.name))
    return found


def test_the_end_is_orderly(service: Running):
    assert service.end() == 0
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{service.url}/healthz")
    said = service.log.read_text()
    assert f"serving on {service.url}" in said
    assert "Traceback" not in said
