"""Whether an audit is whole: `medray audit verify`."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from medray.errors import UsageError
from medray.serve.access.audit import FILE_NAME, FIRST, FORMAT


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """What an audit holds.

    problems  where it is not as it was written: file, line, what.
    ends      door → hash of its last line: kept elsewhere, it proves later that none is missing.
    begins    doors whose first files are gone, as `audit.keep_days` lets them: door → file that
              is the first one now.
    """

    files: int
    lines: int
    problems: tuple[str, ...]
    ends: Mapping[str, str]
    begins: Mapping[str, str]

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


@dataclass(slots=True)
class _File:
    name: str
    door: str
    number: int
    first: str  # hash that the first line has for the line before
    last: str
    lines: int


def verify(folder: Path) -> AuditCheck:
    """Read every line and check the chains. Memory depends on the longest line.

    Raises UsageError where there is no audit.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if FILE_NAME.fullmatch(path.name))
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be read: {error.strerror}", remedy="name the folder of an audit"
        ) from None
    if not paths:
        raise UsageError(
            f"{folder} holds no audit", remedy="name a folder with <day>-<process>-<n>.jsonl files"
        )
    problems: list[str] = []
    doors: dict[str, list[_File]] = defaultdict(list)
    for path in paths:
        file = _read(path, problems)
        if file is not None:
            doors[file.door].append(file)
    begins: dict[str, str] = {}
    for door, files in doors.items():
        files.sort(key=lambda file: file.number)
        if files[0].number > 1:
            begins[door] = files[0].name
        problems += _links(files)
    every = [file for files in doors.values() for file in files]
    return AuditCheck(
        files=len(paths),
        lines=sum(file.lines for file in every),
        problems=tuple(problems),
        ends={door: files[-1].last for door, files in doors.items()},
        begins=begins,
    )


def _read(path: Path, problems: list[str]) -> _File | None:
    file: _File | None = None
    number = 0
    try:
        for number, (line, whole) in enumerate(_lines(path), start=1):
            place = f"{path.name}:{number}"
            content = _content(line)
            if content is None:
                problems.append(f"{place}: no line of an audit")
            elif file is None:
                file = _opened(path.name, content)
                if file is None:
                    problems.append(f"{place}: the first line is missing, or was changed")
                    return None
            elif content.get("before") != file.last:
                problems.append(f"{place}: the line before was changed or taken out")
            if not whole:
                problems.append(f"{place}: the line is cut off")
            if file is not None:
                file.last, file.lines = sha256(line).hexdigest(), number
    except OSError as error:
        problems.append(f"{path.name}: cannot be read: {error.strerror}")
    if file is None and not number:
        problems.append(f"{path.name}: the file is empty")
    return file


def _lines(path: Path) -> Iterator[tuple[bytes, bool]]:
    with path.open("rb") as opened:
        for line in opened:
            yield line.removesuffix(b"\n"), line.endswith(b"\n")


def _content(line: bytes) -> dict[str, Any] | None:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _opened(name: str, content: Mapping[str, Any]) -> _File | None:
    door, number, first = content.get("door"), content.get("file"), content.get("before")
    if content.get("medray_audit") != FORMAT or not isinstance(number, int):
        return None
    if not isinstance(door, str) or not isinstance(first, str):
        return None
    return _File(name, door, number, first, "", 0)


def _links(files: list[_File]) -> Iterator[str]:
    """Whether the files of a door, in order, follow on each other."""
    if files[0].number == 1 and files[0].first != FIRST:
        yield f"{files[0].name}:1: the first line was changed"
    for before, after in pairwise(files):
        if after.number != before.number + 1:
            yield f"{after.name}: a file between it and {before.name} is missing, or is here twice"
        elif after.first != before.last:
            yield f"{before.name}: its last lines were changed or taken out"
