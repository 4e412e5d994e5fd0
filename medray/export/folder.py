"""An export's folder: it appears whole, and replaces nothing but an earlier export.

A local folder is made beside its place and renamed. In an object store, RECEIPT comes first and
says whose the folder is; the last file that is written makes it whole.
"""

import json
import re
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medray import storage
from medray.errors import OutputConflictError, UsageError

RECEIPT = "medray-export.json"


@contextmanager
def replaced(
    out: str, own: re.Pattern[str], last: str, receipt: Mapping[str, Any]
) -> Generator[str]:
    """Give the folder to write into; what was written stands at `out` when the block ends well.

    own   names (relative) that an export may have made; anything else there is not ours.
    last  the file that is written last.
    Raises OutputConflictError when `out` holds what no export made.
    """
    target = storage.absolute(out)
    _require_ours(target, own)
    text = (json.dumps(receipt, indent=2) + "\n").encode()
    if not storage.is_local(target):
        storage.remove_tree(storage.join(target, last))
        for uri in storage.list_files(target):
            if not uri.endswith(f"/{RECEIPT}"):
                storage.remove_tree(uri)
        storage.write_atomic(storage.join(target, RECEIPT), text)
        yield target
        return
    staging = Path(target).parent / ".staging"
    new, old = (staging / f"{Path(target).name}.{kind}" for kind in ("partial", "before"))
    shutil.rmtree(new, ignore_errors=True)  # what a killed export left
    try:
        new.mkdir(parents=True)
        storage.write_atomic(str(new / RECEIPT), text)
        yield str(new)
        _swap(new, Path(target), old)
    except OSError as error:
        raise UsageError(
            f"the folder cannot be written: {error.strerror}", remedy="name another one"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):  # something else is at work there too
            staging.rmdir()


def _swap(new: Path, target: Path, old: Path) -> None:
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _require_ours(target: str, own: re.Pattern[str]) -> None:
    if storage.is_local(target) and Path(target).is_file():
        raise OutputConflictError("a file stands there", remedy="name a folder")
    prefix = target.rstrip("/") + "/"
    names = [uri.removeprefix(prefix) for uri in storage.list_files(target)]
    foreign = [name for name in names if name != RECEIPT and not own.fullmatch(name)]
    if foreign or (names and RECEIPT not in names):
        raise OutputConflictError(
            f"the folder already holds {len(foreign or names)} files that no export made",
            remedy="name a new or empty folder",
        )
