"""Pass one: what changed since the last time, and the header of every file that did.

Used by ingest and by score. Reads the first 256 KiB of a file (more where the header is
longer), decides nothing that needs pixels, labels or other files.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from medray import items
from medray.errors import Code, RejectError
from medray.ingest import parts
from medray.ingest.listing import Found, Sources
from medray.ingest.parts import Row
from medray.schema import FILES

_FIRST_BYTES = (256 << 10, 4 << 20)  # enough for most headers, for long enhanced ones
_ROWS_PER_PART = 512  # a header takes about a millisecond, a task some ten
_RASTER = ("png", "jpeg")

_SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "tuning",
    "valid": "tuning",
    "validation": "tuning",
    "dev": "tuning",
    "tuning": "tuning",
    "test": "held_out",
    "testing": "held_out",
    "held_out": "held_out",
    "holdout": "held_out",
}


@dataclass(frozen=True, slots=True)
class Changes:
    """A listing against the inventory. `unchanged` and `vanished` are rows of FILES."""

    new: list[Found]
    changed: list[Found]
    unchanged: list[Row]
    vanished: list[Row]

    @property
    def todo(self) -> list[Found]:
        """Files whose header must be read, sorted by path."""
        return sorted([*self.new, *self.changed], key=lambda each: each.path)


def changes(found: Sequence[Found], known: Mapping[str, Row]) -> Changes:
    """Compare by path, size and modification time; `known`: file_id → row of FILES."""
    result = Changes([], [], [], [])
    for each in found:
        row = known.get(each.file_id)
        if row is None:
            result.new.append(each)
        elif (row["size"], row["mtime_ns"]) != (each.size, each.mtime_ns):
            result.changed.append(each)
        else:
            result.unchanged.append(row)
    listed = {each.file_id for each in found}
    result.vanished.extend(row for file_id, row in known.items() if file_id not in listed)
    return result


def split_of_folder(name: str) -> str | None:
    """Which split a folder's name, or a value of a split column, means."""
    return _SPLIT_FOLDERS.get(name.strip().lower().replace("-", "_"))


def scan_headers(
    todo: Sequence[Found],
    *,
    folder: str,
    run: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Row]:
    """Read headers; one row of FILES per file, `items` 0, status ok where it may become items.

    `folder` holds the parts until the caller has published and removes it.
    """
    rows = [_row_of(each) for each in todo]
    done = parts.finish(
        rows, _open, FILES, folder=folder, rows_per_part=_ROWS_PER_PART, progress=progress
    )
    scanned: list[Row] = done.receipts.to_pylist()
    return [row | {"run": run} for row in scanned]


def source_rows(found: Sequence[Found]) -> dict[str, Row]:
    """file_id → where the file can be opened, as plain values for a worker."""
    return {each.file_id: _row_of(each) for each in found}


def _row_of(each: Found) -> Row:
    return {
        "file_id": each.file_id,
        "path": each.path,
        "uri": each.uri,
        "member": each.member,
        "size": each.size,
        "mtime_ns": each.mtime_ns,
        "problem": list(each.problem) if each.problem else None,
    }


@contextmanager
def _open() -> Generator[parts.Work]:
    with Sources() as sources:

        def work(rows: list[Row], base: str) -> pa.Table:
            return pa.Table.from_pylist([_scan(row, sources) for row in rows], schema=FILES)

        yield work


def _scan(row: Row, sources: Sources) -> Row:
    """Read one file's header into a row of FILES; never raises for what the file is."""
    known = {name: row[name] for name in ("file_id", "path", "size", "mtime_ns")}
    try:
        if row["problem"] is not None:
            raise RejectError(Code(row["problem"][0]), row["problem"][1])
        header = _header(row, sources)
    except RejectError as fault:
        header = refusal(fault) | {"kind": "other"}
    if header["kind"] in _RASTER:
        header["class_folder"] = _class_folder(row["path"])
    return known | header | {"items": 0, "run": ""}


def refusal(fault: RejectError) -> Row:
    """Express a refusal in the columns that say how a file ended."""
    status = items.status_of(fault.code)
    return {"status": status, "reason": str(fault.code), "detail": fault.detail}


def _header(row: Row, sources: Sources) -> dict[str, Any]:
    for first in _FIRST_BYTES:
        if row["size"] <= first:
            break
        try:
            return items.header_row(read_source(sources, row, first), whole=False)
        except RejectError as fault:
            if fault.code == Code.UNREADABLE:
                raise
    return items.header_row(read_source(sources, row))


def read_source(sources: Sources, row: Row, limit: int | None = None) -> bytes:
    """Read a file or member. Raises RejectError: UNREADABLE, TOO_LARGE."""
    if limit is None and row["size"] > items.MAX_FILE_BYTES:
        raise RejectError(Code.TOO_LARGE, f"a file of {row['size']} bytes")
    try:
        return sources.read(row["uri"], row["member"], limit)
    except Exception as fault:  # OSError, and whatever a ZIP's decompressor raises
        raise RejectError(Code.UNREADABLE, type(fault).__name__) from None


def _class_folder(path: str) -> str | None:
    """Name the folder a picture lies in, unless that only names a split."""
    folders = path.replace("!", "/").split("/")[:-1]
    return folders[-1] if folders and split_of_folder(folders[-1]) is None else None


def folder_split(path: str) -> str | None:
    """Which split the outermost folder with such a name means."""
    folders = path.replace("!", "/").split("/")[:-1]
    return next((split for name in folders if (split := split_of_folder(name))), None)
