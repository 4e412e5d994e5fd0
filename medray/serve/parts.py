"""The body of a request, in parts: one file, several (multipart, ZIP), or a document.

Everything stays in memory, as bytes that the limits bound; nothing is written to a disk. A part is
told by what the request says it is, and a ZIP by its first bytes, too.
"""

import asyncio
import zipfile
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from io import BytesIO
from typing import Any, NoReturn

from medray.serve.asked import Kind, Part, Request
from medray.serve.problems import ProblemError
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
_ZIPPED = (b"PK\x03\x04", b"PK\x05\x06")
_CHUNK = 1 << 20
_HEADERS, _HEADER_BYTES = 16, 8192  # of one part of a multipart body, at most
_PREAMBLE_BYTES = 8192


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
        found = [Part(_DOCUMENTS[kind], await _whole(body, limits))]
    elif kind in _FILES:
        found = [Part("file", await _whole(body, limits))]
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


async def _whole(body: AsyncIterator[bytes], limits: LimitsSpec) -> bytes:
    held = bytearray()
    async for chunk in body:
        held += chunk
        _bounded(len(held), limits)
    return bytes(held)


def _bounded(size: int, limits: LimitsSpec) -> None:
    if size > limits.body_mib << 20:
        _refuse(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "body-too-large",
            f"a body has {limits.body_mib} MiB at most; ask about fewer items at once",
        )


def _count(parts: int, limits: LimitsSpec) -> None:
    if parts > limits.parts:
        _refuse(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too-many-parts",
            f"a request has {limits.parts} files at most",
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
        self._field, self._value, self._data = bytearray(), bytearray(), bytearray()

    def callbacks(self) -> Any:
        """For `MultipartParser`."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, at, to: self._field.extend(data[at:to]),
            "on_header_value": lambda data, at, to: self._value.extend(data[at:to]),
            "on_header_end": self._header,
            "on_part_data": lambda data, at, to: self._data.extend(data[at:to]),
            "on_part_end": self._end,
            "on_end": self._close,
        }

    def _begin(self) -> None:
        self.begun = True
        self._headers = {}
        self._data = bytearray()
        self._seen += 1
        _count(self._seen, self._limits)

    def _header(self) -> None:
        self._headers[bytes(self._field).lower()] = bytes(self._value)
        self._field.clear()
        self._value.clear()

    def _end(self) -> None:
        kind, _ = _content_type(self._headers.get(b"content-type", b"").decode("latin-1"))
        name = self._name()
        if self._form and name is None and not kind:
            return  # a field of the form beside its files
        document = _DOCUMENTS.get(kind)
        self.parts.append(Part(document or "file", bytes(self._data), name or ""))

    def _name(self) -> str | None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"filename")
        return None if name is None else name.decode("utf-8", "replace")

    def _close(self) -> None:
        self.ended = True


# ---------------------------------------------------------------- ZIP


def _is_zip(part: Part) -> bool:
    return part.kind == "file" and part.data[:4] in _ZIPPED


def _unpacked(parts: list[Part], limits: LimitsSpec) -> list[Part]:
    """All parts, ZIPs replaced by what they hold."""
    room = limits.unzipped_mib << 20
    found: list[Part] = []
    for part in parts:
        if not _is_zip(part):
            found.append(part)
        else:
            for member in _members(part.data, room, limits):
                room -= len(member.data)
                found.append(member)
                _count(len(found), limits)
        _count(len(found), limits)
    return found


def _members(data: bytes, room: int, limits: LimitsSpec) -> Iterator[Part]:
    """Files of one ZIP, unpacked piece by piece: declared sizes are not believed."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            _count(len(infos), limits)
            _check(infos)
            room = min(room, int(limits.ratio * len(data)))
            for info in infos:
                content = _unpack(archive, info, room)
                room -= len(content)
                if content[:4] in _ZIPPED:
                    _unsafe("a ZIP in a ZIP is not read")
                yield Part("file", content, info.filename)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, OSError):
        _refuse(HTTPStatus.BAD_REQUEST, "not-zip", "the ZIP is damaged, or packed in another way")


def _check(infos: list[zipfile.ZipInfo]) -> None:
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = info.filename.replace("\\", "/")
        if info.flag_bits & 1:
            _unsafe("an encrypted ZIP is not read")
        if name.startswith("/") or ":" in name[:2] or ".." in name.split("/"):
            _unsafe("a name in the ZIP leads out of it")
        if info.header_offset < end:
            _unsafe("files of the ZIP overlap")
        end = info.header_offset + info.compress_size


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, room: int) -> bytes:
    content = bytearray()
    try:
        with archive.open(info) as stream:
            while chunk := stream.read(_CHUNK):
                content += chunk
                if len(content) > room:
                    _refuse(
                        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                        "unsafe-zip",
                        "the ZIP unpacks to more than is allowed",
                    )
    except Exception as error:
        if isinstance(error, ProblemError):
            raise
        raise zipfile.BadZipFile from None  # zlib's, lzma's and bz2's own errors
    return bytes(content)


def _unsafe(detail: str) -> NoReturn:
    _refuse(HTTPStatus.BAD_REQUEST, "unsafe-zip", detail)
