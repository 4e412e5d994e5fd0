"""Bodies become parts: however they are cut on their way, and never past the limits."""

import asyncio
import io
import json
import logging
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medray.serve.asked import Part, Request
from medray.serve.parts import read_request
from medray.serve.problems import ProblemError
from medray.spec.serve import LimitsSpec

DICOM = b"\0" * 128 + b"DICM" + b"what follows"
names = st.text("abcXYZ019 ._-()äß", min_size=1)
files = st.lists(st.tuples(names, st.binary(min_size=1, max_size=300)), min_size=1, max_size=5)


def _read(body: bytes, kind: str, cuts: Sequence[int] = (), **limits: float) -> Request:
    async def stream() -> AsyncIterator[bytes]:
        places = sorted({0, *(at % (len(body) + 1) for at in cuts), len(body)})
        for start, end in pairwise(places):
            yield body[start:end]

    return asyncio.run(read_request(stream(), kind, LimitsSpec.model_validate(limits)))


def _zip(members: Sequence[tuple[str, bytes]]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return made.getvalue()


def _problem(body: bytes, kind: str, **limits: float) -> tuple[int, str]:
    with pytest.raises(ProblemError) as problem:
        _read(body, kind, **limits)
    return problem.value.status, problem.value.kind


@pytest.mark.parametrize("kind", ["application/dicom", "image/png", "application/octet-stream"])
def test_one_file(kind: str):
    assert _read(DICOM, kind).parts == (Part("file", DICOM),)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("application/json; charset=utf-8", "json"),
        ("Application/JSON", "json"),
        ("application/fhir+json", "fhir"),
    ],
)
def test_documents(kind: str, told: str):
    assert [part.kind for part in _read(b"{}", kind).parts] == [told]


@given(files, st.lists(st.integers(0, 10_000), max_size=6))
def test_a_form_is_its_files_however_it_is_cut(sent: list[tuple[str, bytes]], cuts: list[int]):
    sent = [(name, data if data[:2] != b"PK" else b"x" + data) for name, data in sent]
    form = [("file", (name, data, "application/dicom")) for name, data in sent]
    request = httpx.Request("POST", "http://door", files=form, data={"note": "left out"})
    found = _read(request.read(), request.headers["content-type"], cuts)
    assert [(part.name, part.data) for part in found.parts] == sent


def test_multipart_related_keeps_the_order():
    body = b"".join(
        b"--B\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n" for data in (DICOM, b"x")
    )
    kind = 'multipart/related; type="application/dicom"; boundary=B'
    assert [part.data for part in _read(body + b"--B--\r\n", kind).parts] == [DICOM, b"x"]


@given(files)
def test_a_zip_is_its_files(sent: list[tuple[str, bytes]]):
    members = list({f"f/{at}": data for at, (_, data) in enumerate(sent)}.items())
    members = [(name, b"x" + data) for name, data in members]
    for kind in ("application/zip", "application/octet-stream"):
        found = _read(_zip([*members, ("folder/", b"")]), kind)
        assert [(part.name, part.data) for part in found.parts] == members


def test_a_zip_within_a_form_is_unpacked_too():
    form = {"file": ("series.zip", _zip([("a", b"1"), ("b", b"2")]), "application/zip")}
    request = httpx.Request("POST", "http://door", files=form)
    found = _read(request.read(), request.headers["content-type"])
    assert [part.data for part in found.parts] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"x", "text/csv", (415, "media-type")),
        (b"x", "", (415, "media-type")),
        (b"x", "multipart/form-data", (400, "no-boundary")),
        (b"x" * 20_000, "multipart/form-data; boundary=B", (400, "not-multipart")),
        (b"--B\r\n\r\nunfinished", "multipart/form-data; boundary=B", (400, "not-multipart")),
        (b"--B--\r\n", "multipart/form-data; boundary=B", (422, "no-parts")),
        (b"PK\3\4 no directory", "application/zip", (400, "not-zip")),
        (_zip([]), "application/zip", (422, "no-parts")),
        (_zip([("../a", b"x")]), "application/zip", (400, "unsafe-zip")),
        (_zip([("/etc/a", b"x")]), "application/zip", (400, "unsafe-zip")),
        (_zip([("c:\\a", b"x")]), "application/zip", (400, "unsafe-zip")),
        (_zip([("a", _zip([("b", b"x")]))]), "application/zip", (400, "unsafe-zip")),
    ],
)
def test_what_is_wrong_is_said(body: bytes, kind: str, expected: tuple[int, str]):
    assert _problem(body, kind) == expected


def test_limits():
    large = b"x" * ((1 << 20) + 1)
    form = [("file", (f"{at}", b"x", "image/png")) for at in range(4)]
    request = httpx.Request("POST", "http://door", files=form)
    several = (request.read(), request.headers["content-type"])
    assert _problem(large, "image/png", body_mib=1) == (413, "body-too-large")
    assert _problem(*several, parts=3) == (413, "too-many-parts")
    assert len(_read(*several, parts=4).parts) == 4
    packed = _zip([(f"{at}", b"x") for at in range(4)])
    assert _problem(packed, "application/zip", parts=3) == (413, "too-many-parts")


def test_a_bomb_goes_off_at_the_limit():
    bomb = _zip([("a", b"\0" * (8 << 20))])
    assert len(bomb) < 20_000
    assert _problem(bomb, "application/zip", ratio=100) == (413, "unsafe-zip")
    assert _problem(bomb, "application/zip", unzipped_mib=7, ratio=1e6) == (413, "unsafe-zip")
    assert len(_read(bomb, "application/zip", ratio=1e6).parts[0].data) == 8 << 20


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_zipfile_would_unpack_at_once_is_refused(method: int):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        archive.writestr("a", b"\0" * (64 << 20))
    assert _peak(made.getvalue(), (400, "unsafe-zip")) < 4 << 20


def test_a_long_directory_is_not_read():
    """Of folders, which are no files: zipfile would make an object of each."""
    entry = struct.pack("<4s4B4H3L5H2L", b"PK\1\2", 20, 3, 20, *(0,) * 8, 2, *(0,) * 6) + b"a/"
    directory = entry * 100_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, len(directory), 30, 0)
    packed = b"PK\3\4" + bytes(26) + directory + end
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert len(archive.infolist()) == 100_000
    assert _peak(packed, (413, "too-many-parts")) < 4 << 20


def _peak(body: bytes, expected: tuple[int, str]) -> int:
    """Bytes that a refusal took, at most."""
    tracemalloc.start()
    try:
        assert _problem(body, "application/zip") == expected
        return tracemalloc.get_traced_memory()[1] - len(body)
    finally:
        tracemalloc.stop()


def test_a_member_without_a_name_is_damage():
    nameless = bytearray(_zip([("a", b"x")]))
    central = nameless.index(b"PK\1\2")
    struct.pack_into("<H", nameless, central + 28, 0)  # length of the name, here and below
    del nameless[central + 46]
    struct.pack_into("<L", nameless, nameless.index(b"PK\5\6") + 12, 46)
    assert _problem(bytes(nameless), "application/zip") == (400, "not-zip")


def test_a_preamble_may_be_that_of_a_zip():
    dual = b"PK\3\4" + DICOM[4:]
    assert _read(dual, "application/dicom").parts == (Part("file", dual),)
    assert _read(_zip([("a", dual)]), "application/zip").parts[0].data == dual


def test_json_has_its_own_limit():
    long = b" " * ((1 << 20) + 1)
    for kind in ("application/json", "application/fhir+json"):
        assert _problem(long, kind, json_mib=1) == (413, "body-too-large")
        form = {"a": ("a", long, kind)}
        request = httpx.Request("POST", "http://door", files=form)
        sent = request.read(), request.headers["content-type"]
        assert _problem(*sent, json_mib=1) == (413, "body-too-large")
    assert _read(long, "application/dicom", json_mib=1).parts[0].data == long


def test_a_file_is_held_once():
    chunk = b"x" * (1 << 16)

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(16 * 16):
            yield chunk

    async def size() -> int:
        found = await read_request(stream(), "application/dicom", LimitsSpec())
        return len(found.parts[0].data)

    tracemalloc.start()
    try:
        assert asyncio.run(size()) == 16 << 20
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


def test_no_byte_of_a_body_is_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    for body in (b"--BX", b"--B\r\nName\xff: x\r\n\r\n", b"Patient"):
        assert _problem(body, "multipart/form-data; boundary=B") == (400, "not-multipart")
    assert "boundary" not in caplog.text
    assert "character" not in caplog.text


def test_a_size_that_is_declared_bounds_what_is_unpacked():
    packed = bytearray(_zip([("a", b"\0" * (4 << 20))]))
    place = packed.index(b"PK\1\2")
    struct.pack_into("<L", packed, place + 24, 10)  # the uncompressed size in the directory
    assert _problem(bytes(packed), "application/zip", ratio=1e6) == (400, "not-zip")
    struct.pack_into("<L", packed, place + 16, zlib.crc32(b"\0" * 10))
    assert _read(bytes(packed), "application/zip", ratio=1e6).parts[0].data == b"\0" * 10


@pytest.mark.parametrize("begins", [0, 31, 62])
def test_files_that_overlap_are_refused(begins: int):
    packed = bytearray(_zip([("a", bytes(range(50))), ("b", bytes(range(50)))]))
    second = packed.index(b"PK\1\2", packed.index(b"PK\1\2") + 4)
    struct.pack_into("<L", packed, second + 42, begins)  # where the second file begins
    assert _problem(bytes(packed), "application/zip") == (400, "unsafe-zip")


def test_a_file_that_reaches_into_the_directory_is_refused():
    packed = bytearray(_zip([("a", b"1" * 50)]))
    central = packed.index(b"PK\1\2")
    struct.pack_into("<L", packed, central + 20, 100)  # the compressed size
    assert _problem(bytes(packed), "application/zip") == (400, "unsafe-zip")


@given(st.data())
def test_a_damaged_zip_is_a_problem_or_parts(data: st.DataObject):
    packed = bytearray(_zip([("a/b", b"abc" * 100), ("ü", b"xyz")]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, len(packed) - 1))
        packed[at] = data.draw(st.integers(0, 255))
    try:
        status = 200 if _read(bytes(packed), "application/zip").parts else 500
    except ProblemError as problem:
        status = problem.status
    assert status in (200, 400, 413, 422)


def test_an_encrypted_zip_is_refused():
    packed = bytearray(_zip([("a", b"x")]))
    place = packed.index(b"PK\1\2")
    packed[place + 8] |= 1
    assert _problem(bytes(packed), "application/zip") == (400, "unsafe-zip")


@given(st.binary(max_size=400), st.sampled_from(["zip", "form", "related"]))
def test_noise_is_a_problem_or_parts(noise: bytes, form: str):
    kinds = {
        "zip": "application/zip",
        "form": "multipart/form-data; boundary=B",
        "related": "multipart/related; boundary=B",
    }
    body = noise if form != "zip" else b"PK\3\4" + noise
    try:
        found: Request | ProblemError = _read(body, kinds[form])
    except ProblemError as problem:
        found = problem
    if isinstance(found, ProblemError):
        assert found.status in (400, 413, 422)
        assert json.dumps(found.document())
    else:
        assert found.parts
