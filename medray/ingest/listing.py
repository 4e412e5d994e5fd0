"""What lies in an archive: every file and ZIP member, without opening any but the ZIPs.

Owns walking (local folders, s3://, gs://), names that are unique across roots, and the limits
that make a ZIP safe. Paths may hold identifiers: they go into `files` and nowhere else.
"""

import hashlib
import os
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from medray import storage
from medray.errors import Code, DataError, UsageError

# A ZIP past the first two is refused whole; a member past the others alone.
MAX_MEMBERS = 500_000
MAX_EXPANDED_BYTES = 1 << 40
MAX_MEMBER_BYTES = 2 << 30
MAX_RATIO = 500  # of a member past RATIO_FREE_BYTES; deflate cannot do more than 1032
_RATIO_FREE_BYTES = 64 << 20  # highly compressible but small is harmless

_STAGING = ".staging"
_ZIP_UNIX = 3  # create_system: external_attr holds a Unix mode


@dataclass(frozen=True, slots=True)
class Found:
    """One file or ZIP member.

    path     unique in the archive: relative to its root, `zip!member`, and for all roots but
             the first with the root's name in front
    uri      where the file, or the ZIP it is in, can be opened
    member   its name in that ZIP
    problem  why it must not be opened, if so
    """

    path: str
    uri: str
    member: str | None
    size: int
    mtime_ns: int
    problem: tuple[Code, str] | None = None

    @property
    def file_id(self) -> str:
        """SHA-256 of the path, 32 hex characters: joins the tables."""
        return hashlib.sha256(self.path.encode()).hexdigest()[:32]

    @property
    def key(self) -> tuple[str, int, int]:
        """What changes when the file does."""
        return self.file_id, self.size, self.mtime_ns


def list_archive(roots: Sequence[str], *, exclude: str | None = None) -> list[Found]:
    """List all roots in order, sorted by path within each; `exclude` names a folder to pass by.

    Raises UsageError for a root that does not exist or two files of one name, DataError when
    there is no file at all.
    """
    found: list[Found] = []
    skipped = storage.absolute(exclude) if exclude else ""
    names: set[str] = set()
    for index, root in enumerate(roots):
        place = storage.absolute(root)
        # An archive that lies in the output folder is asked for by name.
        passed = "" if f"{place}/".startswith(f"{skipped}/") else skipped
        label = "" if index == 0 else _label(place, names)
        files = _walk_local(place, passed) if storage.is_local(place) else _walk(place, passed)
        for relative, each in files:
            named = f"{label}/{relative}" if label and relative else label or relative
            found.extend(_expand(_named(each, named or os.path.basename(place))))
    if not found:
        raise DataError(
            "the archive holds no file", remedy="check ingest.archive; it is read recursively"
        )
    if len({each.path for each in found}) < len(found):
        raise UsageError(
            "two files of the archive have the same path below their roots",
            remedy="list the folder that contains both roots instead, or rename one",
        )
    return sorted(found, key=lambda each: each.path)


def _label(place: str, taken: set[str]) -> str:
    base = os.path.basename(place) or "root"
    name, count = base, 2
    while name in taken:
        name, count = f"{base}-{count}", count + 1
    taken.add(name)
    return name


def _named(each: Found, path: str) -> Found:
    """Give a file its path; a name that is no UTF-8 cannot stand in a table nor be opened by it."""
    problem, uri = each.problem, each.uri
    if not path.isprintable() and path != path.encode("utf-8", "replace").decode():
        path = path.encode("utf-8", "backslashreplace").decode()
        problem, uri = (Code.UNREADABLE, "its name is not UTF-8"), ""
    return Found(path, uri, each.member, each.size, each.mtime_ns, problem)


def _missing(index_remedy: str = "") -> UsageError:
    return UsageError(
        "a root of the archive does not exist or cannot be read",
        remedy=index_remedy or "check every path under `archive` and that its disk is mounted",
    )


def _walk_local(root: str, skipped: str) -> Iterator[tuple[str, Found]]:
    """Yield (relative path, file) below a local root; "" stands for a root that is a file."""
    try:
        info = os.stat(root)
    except OSError as error:
        raise _missing() from error
    if not stat.S_ISDIR(info.st_mode):
        yield "", _local_file(root, info)
        return
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            if folder == root:
                raise _missing() from None
            problem = (Code.UNREADABLE, "a folder that cannot be listed")
            yield _relative(folder, root), Found("", folder, None, 0, 0, problem)
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != _STAGING and entry.path != skipped:
                    folders.append(entry.path)
                continue
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError:  # vanished while it was listed
                continue
            yield _relative(entry.path, root), _local_file(entry.path, info)


def _relative(path: str, root: str) -> str:
    return os.path.relpath(path, root).replace(os.sep, "/")


def _local_file(path: str, info: os.stat_result) -> Found:
    problem = None
    if not stat.S_ISREG(info.st_mode):
        kind = "a link" if stat.S_ISLNK(info.st_mode) else "a FIFO, socket or device"
        problem = (Code.NOT_REGULAR_FILE, kind)
    return Found("", path, None, info.st_size, info.st_mtime_ns, problem)


def _walk(root: str, skipped: str) -> Iterator[tuple[str, Found]]:
    """Yield (relative path, object) below an object store's prefix."""
    fs, path = storage.filesystem(root)
    scheme = root.partition("://")[0]
    try:
        info = fs.get_file_info(path)
        if info.type == pafs.FileType.File:
            yield "", Found("", root, None, info.size, info.mtime_ns or 0)
            return
        listed = fs.get_file_info(pafs.FileSelector(path, recursive=True))
    except OSError as error:
        raise _missing("check the bucket, the prefix, and the credentials") from error
    for each in listed:
        uri = f"{scheme}://{each.path}"
        inside = bool(skipped) and uri.startswith(skipped + "/")
        hidden = f"/{_STAGING}/" in each.path or inside
        if each.type == pafs.FileType.File and not hidden:
            relative = each.path.removeprefix(path).strip("/")
            yield relative, Found("", uri, None, each.size, each.mtime_ns or 0)


# ---------------------------------------------------------------- ZIPs


def _expand(each: Found) -> Iterator[Found]:
    """Yield a file as it is, or a ZIP's members; a ZIP that is refused stays one row."""
    if each.problem is not None or not each.uri.lower().endswith(".zip"):
        yield each
        return
    try:
        with open_source(each.uri) as stream, zipfile.ZipFile(stream) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
    except OSError:
        yield _refused(each, Code.UNREADABLE, "the ZIP cannot be opened")
        return
    except Exception:  # a corrupt directory can raise anything; the file becomes one reject
        yield _refused(each, Code.ARCHIVE_UNSAFE, "a corrupt ZIP")
        return
    unsafe = _unsafe_archive(members)
    if unsafe:
        yield _refused(each, Code.ARCHIVE_UNSAFE, unsafe)
        return
    for name, info in {info.filename: info for info in members}.items():  # the last one counts
        problem = _unsafe_member(info)
        path = f"{each.path}!{name}"
        yield Found(path, each.uri, name, info.file_size, each.mtime_ns, problem)


def _refused(each: Found, code: Code, detail: str) -> Found:
    return Found(each.path, each.uri, None, each.size, each.mtime_ns, (code, detail))


def _unsafe_archive(members: Sequence[zipfile.ZipInfo]) -> str:
    if len(members) > MAX_MEMBERS:
        return f"{len(members)} members, {MAX_MEMBERS} are the limit"
    if sum(info.file_size for info in members) > MAX_EXPANDED_BYTES:
        return f"expands past {MAX_EXPANDED_BYTES} bytes"
    return ""


def _unsafe_member(info: zipfile.ZipInfo) -> tuple[Code, str] | None:
    parts = info.filename.replace("\\", "/").split("/")
    mode = info.external_attr >> 16 if info.create_system == _ZIP_UNIX else 0
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return Code.NOT_REGULAR_FILE, "a link or special file in a ZIP"
    checks = (
        (".." in parts or info.filename.startswith(("/", "\\")), "a path that leaves the ZIP"),
        (bool(info.flag_bits & 1), "encrypted"),
        (info.filename.lower().endswith(".zip"), "a ZIP in a ZIP"),
        (info.file_size > MAX_MEMBER_BYTES, f"expands past {MAX_MEMBER_BYTES} bytes"),
        (
            info.file_size > _RATIO_FREE_BYTES
            and info.file_size > MAX_RATIO * max(info.compress_size, 1),
            f"expands more than {MAX_RATIO} times",
        ),
    )
    return next(((Code.ARCHIVE_UNSAFE, what) for unsafe, what in checks if unsafe), None)


# ---------------------------------------------------------------- reading


def open_source(uri: str) -> Any:
    """Open a file for reading and seeking. Raises OSError."""
    fs, path = storage.filesystem(uri)
    return open(path, "rb") if storage.is_local(uri) else fs.open_input_file(path)


class Sources:
    """Reads files and ZIP members; keeps the last ZIP open, since members come in a row."""

    def __init__(self) -> None:
        self._uri: str | None = None
        self._stream: Any = None
        self._archive: zipfile.ZipFile | None = None

    def __enter__(self) -> "Sources":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def read(self, uri: str, member: str | None, limit: int | None = None) -> bytes:
        """Read all bytes, or the first `limit`. Raises OSError or zipfile.BadZipFile."""
        size = -1 if limit is None else limit
        if member is None:
            with open_source(uri) as stream:
                return stream.read() if size < 0 else stream.read(size)
        with self._zip(uri).open(member) as stream:
            return stream.read(size)

    def _zip(self, uri: str) -> zipfile.ZipFile:
        if self._archive is None or self._uri != uri:
            self._close()
            self._stream = open_source(uri)
            self._archive, self._uri = zipfile.ZipFile(self._stream), uri
        return self._archive

    def _close(self) -> None:
        if self._archive is not None:
            self._archive.close()
        if self._stream is not None:
            self._stream.close()
        self._uri = self._stream = self._archive = None
