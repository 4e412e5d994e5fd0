"""The body of a request, in parts: one file, several (multipart, ZIP), or a document.

Everything stays in memory, as bytes that the limits bound; nothing is written to a disk. A part is
told by what the request says it is, and a ZIP by its first bytes, too.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus
from io import BytesIO
from typing import Any, NoReturn

from medray.serve.asked import Kind, Part, Request
from medray.serve.problems import ProblemError
from medray.serve.unzip import count, is_zip, unpacked
from medray.spec.serve import LimitsSpec

_FILES = frozenset(
    {
        "application/dicom",
        "application/octet-stream",
        "application/zip",
        "application/x-zip-compressed",
        "image/png",
        "image/jpeg",
    }
)
_DOCUMENTS: dict[str, Kind] = {
    "application/json": "json",
    "application/fhir+json": "fhir",
    "application/json+fhir": "fhir",
}
_HEADERS, _HEADER_BYTES = 16, 8192  # of one part of a multipart body, at most
_PREAMBLE_BYTES = 8192
_SILENT = logging.Logger("multipart", logging.CRITICAL + 1)  # the parser's own quotes bytes


async def read_request(
    body: AsyncIterator[bytes], content_type: str, limits: LimitsSpec
) -> Request:
    """Read a body whose kind a Content-Type states; parts in the order in which they were sent.

    Raises ProblemError: 400 for a body that is not what it says, 413 past `limits`, 415 for a
    kind that is not read, 422 for a body without a part.
    """
    kind, options = _content_type(content_type)
    if kind.startswith("multipart/"):
        found = await _multipart(body, kind, options, limits)
    elif kind in _DOCUMENTS:
        found = [Part(_DOCUMENTS[kind], await _whole(body, limits, _DOCUMENTS[kind]))]
    elif kind in _FILES:
        found = [Part("file", await _whole(body, limits, "file"))]
    else:
        _refuse(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            "send a scan (application/dicom, image/png, image/jpeg, application/zip), several as "
            "multipart/form-data, or a document (application/json, application/fhir+json)",
        )
    if any(_is_zip(part) for part in found):
        found = await asyncio.to_thread(_unpacked, found, limits)
    if not found:
        _refuse(HTTPStatus.UNPROCESSABLE_ENTITY, "no-parts", "the body holds no file")
    return Request(tuple(found))


def _content_type(header: str) -> tuple[str, dict[bytes, bytes]]:
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(header)
    return kind.decode("latin-1").strip().lower(), options


async def _whole(body: AsyncIterator[bytes], limits: LimitsSpec, kind: Kind) -> bytes:
    held = BytesIO()  # gives away what it holds without a copy
    async for chunk in body:
        held.write(chunk)
        _bounded(held.tell(), limits, kind)
    return held.getvalue()


def _bounded(size: int, limits: LimitsSpec, kind: Kind = "file") -> None:
    most = limits.body_mib if kind == "file" else min(limits.body_mib, limits.json_mib)
    if size > most << 20:
        what = "a body" if kind == "file" else "JSON"
        _refuse(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "body-too-large",
            f"{what} has {most} MiB at most; ask about fewer items at once",
        )


def _refuse(status: HTTPStatus, kind: str, detail: str) -> NoReturn:
    raise ProblemError(status, kind, detail)


# ---------------------------------------------------------------- multipart


async def _multipart(
    body: AsyncIterator[bytes], kind: str, options: dict[bytes, bytes], limits: LimitsSpec
) -> list[Part]:
    """Parts of RFC 7578 or RFC 2387. Fields of a form that are no file are left out."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    if not options.get(b"boundary"):
        _refuse(HTTPStatus.BAD_REQUEST, "no-boundary", "the Content-Type states no boundary")
    reader = _Reader(form=kind == "multipart/form-data", limits=limits)
    size = 0
    try:
        parser: Any = MultipartParser(
            options[b"boundary"],
            reader.callbacks(),
            max_header_count=_HEADERS,
            max_header_size=_HEADER_BYTES,
        )
        parser.logger = _SILENT
        async for chunk in body:
            size += len(chunk)
            _bounded(size, limits)
            parser.write(chunk)
            if not reader.begun and size > _PREAMBLE_BYTES:
                break
        parser.finalize()
    except FormParserError:
        reader.ended = False
    if not reader.ended:
        _refuse(HTTPStatus.BAD_REQUEST, "not-multipart", "the body is not whole as multipart")
    return reader.parts


class _Reader:
    """What the parser's callbacks gather."""

    def __init__(self, form: bool, limits: LimitsSpec) -> None:
        self.parts: list[Part] = []
        self.begun = self.ended = False
        self._form, self._limits = form, limits
        self._seen = 0
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value, self._data = bytearray(), bytearray(), BytesIO()

    def callbacks(self) -> Any:
        """For `MultipartParser`."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, at, to: self._field.extend(data[at:to]),
            "on_header_value": lambda data, at, to: self._value.extend(data[at:to]),
            "on_header_end": self._header,
            "on_part_data": lambda data, at, to: self._data.write(memoryview(data)[at:to]),
            "on_part_end": self._end,
            "on_end": self._close,
        }

    def _begin(self) -> None:
        self.begun = True
        self._headers = {}
        self._data = BytesIO()
        self._seen += 1
        count(self._seen, self._limits.parts)

    def _header(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _end(self) -> None:
        kind, _ = _content_type(self._headers.get(b"content-type", b"").decode("latin-1"))
        name = self._name()
        if self._form and name is None and not kind:
            return  # a field of the form beside its files
        part = Part(_DOCUMENTS.get(kind, "file"), self._data.getvalue(), name or "")
        _bounded(len(part.data), self._limits, part.kind)
        self.parts.append(part)

    def _name(self) -> str | None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"filename")
        return None if name is None else name.decode("utf-8", "replace")

    def _close(self) -> None:
        self.ended = True


# ---------------------------------------------------------------- ZIP


def _is_zip(part: Part) -> bool:
    return part.kind == "file" and is_zip(part.data)


def _unpacked(parts: list[Part], limits: LimitsSpec) -> list[Part]:
    """All parts, ZIPs replaced by what they hold."""
    room = limits.unzipped_mib << 20
    found: list[Part] = []
    for part in parts:
        if not _is_zip(part):
            found.append(part)
        else:
            most = min(room, int(limits.ratio * len(part.data)))
            for name, content in unpacked(part.data, limits.parts, most):
                room -= len(content)
                found.append(Part("file", content, name))
                count(len(found), limits.parts)
        count(len(found), limits.parts)
    return found
