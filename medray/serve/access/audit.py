"""The record of who asked what: JSON lines that are only ever appended.

Files are `<day>-<process>-<n>.jsonl`, days in UTC. The first line of each says which door wrote it
and the how-manieth of its files it is. Every line, also that one, carries the SHA-256 of the line
before it, over files of the same door: `verify` finds what was changed or taken out. What it cannot
find is that the last lines are changed or missing, or a chain that was made anew as a whole; for
that, keep the hashes that `medray audit verify` prints somewhere else.

Lines are handed to the operating system before the answer leaves: they outlive the process. They
reach the disk when a file is closed, and else when the system writes them back.
"""

import json
import os
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

from medray.errors import UsageError

FIRST = "0" * 64  # what the first line of a door has for the line before
FORMAT = 1
FILE_NAME = re.compile(r"(?P<day>\d{4}-\d{2}-\d{2})-\d+-\d+\.jsonl")
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class AuditError(Exception):
    """A line cannot be written."""


class Audit:
    """The record of one door. Holds one open file."""

    def __init__(
        self,
        folder: Path,
        *,
        keep_days: int = 0,
        file_bytes: int = 64 << 20,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Open it. Raises UsageError where nothing can be written there."""
        self._folder = folder
        self._keep_days = keep_days
        self._file_bytes = file_bytes
        self._now = now
        self._door = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._files = 0
        self._before = FIRST
        self._descriptor: int | None = None
        self._size = 0
        self._day = date.min
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._lock:
                self._open(now())
        except (OSError, AuditError) as error:
            raise UsageError(
                f"nothing can be recorded in {folder}: {error}",
                remedy="let `audit.folder` name a folder of this machine that you can write to",
            ) from None

    def write(self, content: Mapping[str, Any]) -> None:
        """Append one line, with time and the hash of the line before. Raises AuditError."""
        with self._lock:
            try:
                now = self._now()
                if self._must_change(now.date()):
                    self._open(now)
                self._append({"time": _said(now), **content})
            except OSError as error:
                raise AuditError(error.strerror or type(error).__name__) from None
            except (TypeError, ValueError):  # from an app that stated what it must not
                raise AuditError("what is to be recorded is no JSON") from None

    def close(self) -> None:
        """Write through to the disk, and end."""
        with self._lock:
            self._close()

    def _must_change(self, today: date) -> bool:
        descriptor = self._descriptor
        if descriptor is None or today != self._day or self._size >= self._file_bytes:
            return True
        return os.fstat(descriptor).st_nlink == 0  # deleted: what follows would be lost

    def _open(self, now: datetime) -> None:
        self._close()
        day = now.date()
        path, self._descriptor = self._create(day)
        self._size, self._day = 0, day
        head = {"medray_audit": FORMAT, "door": self._door, "file": self._files + 1}
        try:
            self._append({"time": _said(now), **head})
        except OSError:
            os.close(self._descriptor)
            self._descriptor = None
            path.unlink(missing_ok=True)  # without its first line it is none; it holds nothing
            raise
        self._files += 1
        self._forget(day)

    def _create(self, day: date) -> tuple[Path, int]:
        for number in count():  # an earlier process of the same number may have been here
            path = self._folder / f"{day.isoformat()}-{os.getpid()}-{number}.jsonl"
            with suppress(FileExistsError):
                return path, os.open(path, _FLAGS, 0o600)
        raise AuditError("no name is left")

    def _append(self, content: Mapping[str, Any]) -> None:
        descriptor = self._descriptor
        if descriptor is None:
            raise AuditError("the record is closed")
        text = json.dumps({"before": self._before, **content}, ensure_ascii=False)
        line = text.encode(errors="backslashreplace")  # half a surrogate pair, as JSON escapes it
        try:
            left = memoryview(line + b"\n")
            while left:  # a disk that is getting full takes a part, and says so at the next
                left = left[os.write(descriptor, left) :]
        except OSError:
            os.ftruncate(descriptor, self._size)  # no half lines
            raise
        self._size += len(line) + 1
        self._before = sha256(line).hexdigest()

    def _close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _forget(self, today: date) -> None:
        if not self._keep_days:
            return
        oldest = (today - timedelta(days=self._keep_days)).isoformat()
        for path in self._folder.iterdir():
            found = FILE_NAME.fullmatch(path.name)
            if found and found["day"] < oldest and path.is_file() and not path.is_symlink():
                path.unlink(missing_ok=True)


def _said(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
