"""The files of a ZIP that somebody sent, unpacked piece by piece within bounds.

Nothing that a ZIP says of itself is believed: bytes are counted as they come out. One bad member
refuses all, since an answer about the others would look whole. No message names a member.
"""

import zipfile
from collections.abc import Iterator
from http import HTTPStatus
from io import BytesIO
from typing import NoReturn

from medray.serve.problems import ProblemError

_ZIPPED = (b"PK\x03\x04", b"PK\x05\x06")  # a first file; none (APPNOTE 4.3.7, 4.3.16)
# zipfile bounds what deflate gives at once; a kilobyte of bzip2 or LZMA may become gigabytes
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CHUNK = 1 << 20
_ENTRY_BYTES = 1024  # of the directory, for each file that there may be: long names fit
_LOCAL_HEADER_BYTES = 30  # APPNOTE 4.3.7, without name and extra field


def is_zip(data: bytes) -> bool:
    """Whether bytes begin as a ZIP does; a DICOM file's preamble may, too (PS3.10 7.1)."""
    return data[:4] in _ZIPPED and data[128:132] != b"DICM"


def unpacked(data: bytes, files: int, most: int) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of a ZIP's files, in its order; folders are passed over.

    files  how many there may be. most: bytes of all together.

    Raises ProblemError: 413 past a limit, 400 for a ZIP that is damaged or refused: encrypted, one
    within another, packed otherwise than by deflate, with names that lead out of it, or with files
    that share bytes.
    """
    try:
        with zipfile.ZipFile(_Directory(data, files)) as archive:
            infos = _infos(archive, files)
            for info in infos:
                content = _unpack(archive, info, most)
                most -= len(content)
                if is_zip(content):
                    _unsafe("a ZIP in a ZIP is not read")
                yield info.filename, content
    except ProblemError:
        raise
    except Exception:  # zipfile and zlib have a dozen errors for bytes that are damaged
        detail = "the ZIP is damaged, or packed in another way"
        raise ProblemError(HTTPStatus.BAD_REQUEST, "not-zip", detail) from None


def count(files: int, most: int) -> None:
    """Raise ProblemError (413) for more files than there may be."""
    if files > most:
        raise ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too-many-parts",
            f"a request has {most} files at most",
        )


class _Directory(BytesIO):
    """A ZIP's bytes. Its directory is read at once: none longer than `files` could need.

    zipfile makes an object of every entry before anybody can ask how many there are.
    """

    def __init__(self, data: bytes, files: int) -> None:
        super().__init__(data)
        self._files = files

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > max(_CHUNK, self._files * _ENTRY_BYTES):
            count(self._files + 1, self._files)
        return super().read(size)


def _infos(archive: zipfile.ZipFile, files: int) -> list[zipfile.ZipInfo]:
    """What the directory names, if all of it may be unpacked."""
    infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
    count(len(infos), files)
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        name = info.filename.replace("\\", "/")
        if info.flag_bits & 1:
            _unsafe("an encrypted ZIP is not read")
        if info.compress_type not in _METHODS:
            _unsafe("a ZIP packed otherwise than by deflate is not read")
        if name.startswith("/") or ":" in name[:2] or ".." in name.split("/"):
            _unsafe("a name in the ZIP leads out of it")
        if info.header_offset < end:
            _unsafe("files of the ZIP overlap")
        end = info.header_offset + _LOCAL_HEADER_BYTES + info.compress_size
    if end > archive.start_dir:
        _unsafe("files of the ZIP overlap")
    return infos


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, room: int) -> bytes:
    content = BytesIO()
    with archive.open(info) as stream:
        while chunk := stream.read(min(_CHUNK, room + 1)):
            room -= len(chunk)
            if room < 0:
                raise ProblemError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    "unsafe-zip",
                    "the ZIP unpacks to more than is allowed",
                )
            content.write(chunk)
    return content.getvalue()


def _unsafe(detail: str) -> NoReturn:
    raise ProblemError(HTTPStatus.BAD_REQUEST, "unsafe-zip", detail)
