"""Bodies become parts: however they are cut on their way, and never past the limits."""

import asyncio
import io
import json
import struct
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


def test_a_size_that_is_declared_bounds_what_is_unpacked():
    packed = bytearray(_zip([("a", b"\0" * (4 << 20))]))
    place = packed.index(b"PK\1\2")
    struct.pack_into("<L", packed, place + 24, 10)  # the uncompressed size in the directory
    assert _problem(bytes(packed), "application/zip", ratio=1e6) == (400, "not-zip")
    struct.pack_into("<L", packed, place + 16, zlib.crc32(b"\0" * 10))
    assert _read(bytes(packed), "application/zip", ratio=1e6).parts[0].data == b"\0" * 10


def test_files_that_overlap_are_refused():
    packed = bytearray(_zip([("a", b"1" * 50), ("b", b"2" * 50)]))
    second = packed.index(b"PK\1\2", packed.index(b"PK\1\2") + 4)
    struct.pack_into("<L", packed, second + 42, 0)  # where the second file begins
    assert _problem(bytes(packed), "application/zip") == (400, "unsafe-zip")


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
