"""STOW-RS by its standard and by another's client: instances in, what became of each out."""

import asyncio
import email
import email.policy
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
import untrained
import uvicorn
from dicom_objects import errors, radiograph, real
from dicomweb_client import DICOMwebClient
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset
from serving import InProcess, ask, route

from medray.deliver.source import Algorithm
from medray.errors import Code
from medray.serve.asked import Part, Request
from medray.serve.dicomweb import offer, outcome, reason_of, related, response
from medray.serve.dicomweb_routes import dicomweb_router
from medray.serve.http import http_app
from medray.spec.serve import FrontSpec, LimitsSpec

STUDIES = "/dicomweb/studies"
REPORTS = 'multipart/related; type="application/dicom"'


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory, pseudonym_key: None) -> InProcess:
    return InProcess(route(untrained.imaging(tmp_path_factory.mktemp("scans"))))


@pytest.fixture(scope="module")
def address(scans: InProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The whole door, its guard too, behind a real server on this machine's own address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Serve's own use of pydantic
        from medray.serve.door import door_app
        from medray.serve.shadow import Shadows
    folder = tmp_path_factory.mktemp("door")
    front = FrontSpec.model_validate({"output": str(folder), "access": {"open": True}})
    app = door_app(front, scans, Shadows(str(folder / "shadow")))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def _multipart(*parts: bytes) -> tuple[bytes, str]:
    return related(parts)


def _store(
    backend: InProcess, *parts: bytes, path: str = STUDIES, accept: str = "*/*", kind: str = ""
) -> httpx.Response:
    body, content_type = _multipart(*parts)

    app = http_app(backend, LimitsSpec())
    app.include_router(dicomweb_router(app.state.door))

    async def sent() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://door") as door:
            headers = {"Content-Type": kind or content_type, "Accept": accept}
            return await door.post(path, content=body, headers=headers)

    return asyncio.run(sent())


def _document(answer: httpx.Response) -> Dataset:
    assert answer.headers["content-type"] == "application/dicom+json"
    return Dataset.from_json(answer.json())


def _parts(answer: httpx.Response) -> list[bytes]:
    """Parts of a multipart body, as Python's e-mail package sees them."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    assert message.get_param("type") == "application/dicom"
    parts: Any = list(message.iter_parts())
    assert {part.get_content_type() for part in parts} == {"application/dicom"}
    return [part.get_payload(decode=True) for part in parts]


def _scores(item: Dataset) -> list[float]:
    """Values of Probability (122157, DCM) in a Content Sequence."""
    return [
        float(one.MeasuredValueSequence[0].NumericValue)
        for group in item.ContentSequence
        for one in group.ContentSequence
        if one.ConceptNameCodeSequence[0].CodeValue == "122157"
    ]


# ---------------------------------------------------------------- another's client


def test_dicomweb_client_stores_and_reads_scores(address: str, scans: InProcess):
    sent = [radiograph(1), radiograph(2), radiograph(3)]
    stow = DICOMwebClient(f"{address}/dicomweb")
    datasets = [pydicom.dcmread(BytesIO(one)) for one in sent]
    told = stow.store_instances(datasets, study_instance_uid="2.25.881")
    assert "FailedSOPSequence" not in told
    found = {one.ReferencedSOPInstanceUID: _scores(one) for one in told.ReferencedSOPSequence}
    assert list(found) == ["2.25.771", "2.25.772", "2.25.773"]
    for data, scores in zip(sent, found.values(), strict=True):
        path = "/v1/models/scans/predict"
        said = asyncio.run(ask(scans, path, data, "application/dicom")).json()
        (score,) = said["predictions"][0]["scores"]
        assert scores == pytest.approx([score["score"]], abs=1e-13)


def test_dicomweb_client_is_told_of_a_study_that_is_not_the_addresss(address: str):
    stow = DICOMwebClient(f"{address}/dicomweb")
    sent = [pydicom.dcmread(BytesIO(radiograph(n, study))) for n, study in ((1, 1), (2, 2))]
    told = stow.store_instances(sent, study_instance_uid="2.25.881")
    (stored,), (failed,) = told.ReferencedSOPSequence, told.FailedSOPSequence
    assert stored.ReferencedSOPInstanceUID == "2.25.771"
    assert failed.ReferencedSOPInstanceUID == "2.25.772"
    assert failed.FailureReason == 0x0110


def test_the_audit_names_items_by_pseudonym(address: str, tmp_path_factory: Any):
    body, kind = _multipart(radiograph(5))
    answer = httpx.post(f"{address}{STUDIES}", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 200
    folder: Path = max(tmp_path_factory.getbasetemp().glob("door*"))
    lines = [line for file in folder.rglob("*.jsonl") for line in file.read_text().splitlines()]
    (line,) = [one for one in lines if answer.headers["x-request-id"] in one]
    assert "scans@1#" in line
    assert "2.25.775" not in line  # the instance
    assert "#0" in line  # its pseudonym


# ---------------------------------------------------------------- the standard's rules


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ((radiograph(1), radiograph(2)), 200),
        ((radiograph(1), b"no DICOM at all" * 20), 202),
        ((b"no DICOM at all" * 20,), 409),
        ((radiograph(1, study=2),), 409),
    ],
)
def test_the_status_is_that_of_table_10_5_3_1(
    scans: InProcess, parts: tuple[bytes, ...], status: int
):
    answer = _store(scans, *parts, path=f"{STUDIES}/2.25.881")
    assert answer.status_code == status
    told = _document(answer)
    assert ("ReferencedSOPSequence" in told) == (status != 409)
    assert told["RetrieveURL"].value in ("", None)


def test_what_has_no_name_is_among_other_failures(scans: InProcess):
    told = _document(_store(scans, b"\x89PNG\r\n\x1a\n" + bytes(300), radiograph(1)))
    assert [one.FailureReason for one in told.OtherFailuresSequence] == [0xC000]
    assert "FailedSOPSequence" not in told


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("test-SR.dcm", 0x0122),  # a report
        ("rtdose_1frame.dcm", 0x0122),  # no picture
        ("liver_1frame.dcm", 0x0122),  # a segmentation
    ],
)
def test_what_is_no_image_fails_by_its_class(scans: InProcess, name: str, reason: int):
    answer = _store(scans, real(name))
    assert answer.status_code == 409
    told = _document(answer)
    assert [one.FailureReason for one in told.FailedSOPSequence] == [reason]


def test_an_instance_that_is_sent_twice_is_scored_once(scans: InProcess):
    answer = _store(scans, radiograph(1), radiograph(1))
    assert answer.status_code == 202
    told = _document(answer)
    assert len(told.ReferencedSOPSequence) == 1
    assert [one.FailureReason for one in told.FailedSOPSequence] == [0x0111]


def test_every_frame_of_an_instance_has_its_scores(scans: InProcess):
    told = _document(_store(scans, real("examples_ybr_color.dcm")))
    (one,) = told.ReferencedSOPSequence
    assert len(_scores(one)) == 30
    frames = [
        int(item.ReferencedSOPSequence[0].ReferencedFrameNumber)
        for group in one.ContentSequence
        for item in group.ContentSequence
        if item.ValueType == "IMAGE"
    ]
    assert frames == list(range(1, 31))


def test_an_instance_that_was_scored_in_part_is_warned_of(pseudonym_key: None):
    offered = offer(Request((Part("file", real("examples_ybr_color.dcm")),)), None)
    scores = [
        {"target": "x", "text_value": None, "score": 0.5, "decision": None, "threshold": None}
    ]
    found = outcome(
        offered,
        [
            {"part": 0, "frame": 0, "status": "ok", "reason": None, "scores": scores},
            {"part": 0, "frame": 1, "status": "rejected", "reason": "not_finite", "scores": []},
        ],
    )
    assert found.status == 202
    told = Dataset.from_json(response(found, Algorithm("a", "1", "0" * 64), b"k" * 32).decode())
    assert [one.WarningReason for one in told.ReferencedSOPSequence] == [0xB006]


# PS3.18 table I.2-2, by its ranges
RANGES = {
    "out of resources": range(0xA700, 0xA800),
    "not of its class": range(0xA900, 0xAA00),
    "not understood": range(0xC000, 0xC100),
    "syntax": range(0xC122, 0xC123),
    "processing": range(0x0110, 0x0111),
    "class": range(0x0122, 0x0123),
}


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (Code.NOT_DICOM, "not understood"),
        (Code.TRUNCATED, "not understood"),
        (Code.DECODE_FAILED, "not understood"),
        (Code.MISSING_ATTRIBUTE, "not of its class"),
        (Code.FRAME_MISMATCH, "not of its class"),
        (Code.NOT_AN_IMAGE, "class"),
        (Code.UNSUPPORTED_TRANSFER_SYNTAX, "syntax"),
        (Code.TOO_LARGE, "out of resources"),
        (Code.UNEXPECTED_SHAPE, "processing"),
        (Code.NOT_FINITE, "processing"),
    ],
)
def test_reasons_are_those_of_table_i_2_2(code: Code, meaning: str):
    assert reason_of(code) in RANGES[meaning]


# ---------------------------------------------------------------- reports


def test_reports_are_valid_and_the_same_when_asked_again(scans: InProcess):
    sent = (radiograph(1), radiograph(2), radiograph(3, study=2))
    answer = _store(scans, *sent, accept=REPORTS)
    assert answer.status_code == 200
    reports = _parts(answer)
    assert len(reports) == 2  # one for each study
    assert not any(errors(one) for one in reports)
    read = [pydicom.dcmread(BytesIO(one)) for one in reports]
    assert [one.StudyInstanceUID for one in read] == ["2.25.881", "2.25.882"]
    again = [pydicom.dcmread(BytesIO(one)) for one in _parts(_store(scans, *sent, accept=REPORTS))]
    assert [one.SOPInstanceUID for one in again] == [one.SOPInstanceUID for one in read]


def test_reports_of_a_part_come_with_a_warning(scans: InProcess):
    answer = _store(scans, radiograph(1), b"no DICOM at all" * 20, accept=REPORTS)
    assert answer.status_code == 202
    assert answer.headers["warning"].startswith("299 ")
    assert len(_parts(answer)) == 1


def test_no_report_is_told_as_a_document(scans: InProcess):
    answer = _store(scans, b"no DICOM at all" * 20, accept=REPORTS)
    assert answer.status_code == 409
    assert "OtherFailuresSequence" in _document(answer)


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5))
def test_multipart_bodies_are_read_by_another_parser(objects: list[bytes]):
    body, kind = related(objects)
    request = httpx.Response(200, content=body, headers={"content-type": kind})
    boundary = kind.rpartition("boundary=")[2].encode()
    assert all(boundary not in one for one in objects)
    # the e-mail package takes line ends of binary parts for its own: count, and compare by length
    pieces = request.content.split(b"--" + boundary)
    assert pieces[-1] == b"--\r\n"
    head = b"\r\nContent-Type: application/dicom\r\n\r\n"
    assert [piece.removeprefix(head).removesuffix(b"\r\n") for piece in pieces[1:-1]] == objects


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("path", "kind", "accept", "status", "problem"),
    [
        (STUDIES, "application/json", "*/*", 415, "media-type"),
        (STUDIES, 'multipart/related; type="application/dicom+json"; boundary=x', "*/*", 415,
         "media-type"),
        (STUDIES, "multipart/form-data; boundary=x", "*/*", 415, "media-type"),
        (STUDIES, "", "text/html", 406, "not-acceptable"),
        (STUDIES, "", "application/dicom+xml", 406, "not-acceptable"),
        (f"{STUDIES}?model=other", "", "*/*", 404, "no-such-model"),
        (f"{STUDIES}?model=scans@9", "", "*/*", 404, "no-such-version"),
        (f"{STUDIES}?model=..%2Fx", "", "*/*", 422, "invalid-request"),
        (f"{STUDIES}/abc", "", "*/*", 422, "invalid-request"),
    ],
)  # fmt: skip
def test_refusals_are_problems(
    scans: InProcess, path: str, kind: str, accept: str, status: int, problem: str
):
    answer = _store(scans, radiograph(1), path=path, kind=kind, accept=accept)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:medray:problem:{problem}"


def test_of_two_models_one_must_be_named(
    scans: InProcess, tmp_path_factory: pytest.TempPathFactory
):
    other = untrained.imaging(tmp_path_factory.mktemp("other"), name="other", seed=2)
    both = InProcess(*scans.routes.every, route(other))
    answer = _store(both, radiograph(1))
    assert answer.status_code == 400
    assert "other" in answer.json()["detail"]
    assert _store(both, radiograph(1), path=f"{STUDIES}?model=other").status_code == 200


def test_a_model_of_records_is_no_model_of_images(tiny_records: tuple[Path, Any]):
    records = InProcess(route(str(tiny_records[0] / "run" / "package")))
    assert _store(records, radiograph(1)).status_code == 400
    answer = _store(records, radiograph(1), path=f"{STUDIES}?model=tiny_records")
    assert answer.status_code == 400


def test_the_routes_are_in_the_openapi_document(address: str):
    paths = httpx.get(f"{address}/openapi.json").json()["paths"]
    for path in (STUDIES, f"{STUDIES}/{{study}}"):
        told = paths[path]["post"]
        assert {"200", "202", "409", "400", "415"} <= set(told["responses"])
        assert "multipart/related" in told["requestBody"]["content"]
        assert "application/dicom+json" in told["responses"]["200"]["content"]
    explained = paths["/v1/models/{ref}/explain"]["post"]["responses"]["200"]["content"]
    assert set(explained) == {"application/json", "image/png", "application/dicom",
                              "multipart/related"}  # fmt: skip


# ---------------------------------------------------------------- explanations


EXPLAIN = "/v1/models/scans/explain"


def test_an_explanation_as_a_secondary_capture(scans: InProcess):
    accept = {"Accept": "application/dicom"}
    answer = asyncio.run(ask(scans, EXPLAIN, radiograph(1), "application/dicom", accept))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/dicom")
    assert not errors(answer.content)
    made = pydicom.dcmread(BytesIO(answer.content))
    assert made.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert made.StudyInstanceUID == "2.25.881"
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == "2.25.771"


def test_explanations_of_several_pictures_as_captures(scans: InProcess):
    body, kind = _multipart(radiograph(1), radiograph(2))
    one = {"Accept": "application/dicom"}
    assert asyncio.run(ask(scans, EXPLAIN, body, kind, one)).status_code == 406
    answer = asyncio.run(ask(scans, EXPLAIN, body, kind, {"Accept": REPORTS}))
    made = [pydicom.dcmread(BytesIO(part)) for part in _parts(answer)]
    assert [one.SourceImageSequence[0].ReferencedSOPInstanceUID for one in made] == [
        "2.25.771",
        "2.25.772",
    ]


def test_a_picture_without_a_study_has_no_capture(scans: InProcess):
    from PIL import Image

    buffer = BytesIO()
    Image.new("L", (40, 40), 90).save(buffer, "PNG")
    accept = {"Accept": "application/dicom"}
    answer = asyncio.run(ask(scans, EXPLAIN, buffer.getvalue(), "image/png", accept))
    assert answer.status_code == 406
    assert answer.json()["type"] == "urn:medray:problem:not-acceptable"
