"""Where a package's files lie: one folder that appears whole, here or in an object store.

Owns the atomic appearance of the folder and the local copy of a remote one. Knows nothing of what
is in the files. medray.storage, which brings the table libraries with it, is imported only for
object stores: a prediction on one file must not wait for it.
"""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4


def local_folder(uri: str) -> Path | None:
    """Return the folder of a local URI; None for an object store."""
    if "://" not in uri or uri.startswith("file://"):
        return Path(uri.removeprefix("file://")).expanduser().absolute()
    return None


def read_file(uri: str, name: str) -> bytes | None:
    """Return the bytes of one file, None where it does not exist."""
    local = local_folder(uri)
    try:
        if local is not None:
            return (local / name).read_bytes()
        from medray import storage

        return storage.read_bytes(storage.join(uri, name))
    except (FileNotFoundError, NotADirectoryError):
        return None


def commit(uri: str, files: Mapping[str, bytes], last: str, last_bytes: bytes) -> None:
    """Make all files visible at once: a folder is renamed, a store gets the file `last` last.

    Raises OSError when a folder that is not empty stands there.
    """
    target = local_folder(uri)
    if target is None:
        from medray import storage

        for name, data in {**files, last: last_bytes}.items():
            storage.write_atomic(storage.join(uri, name), data)
        return
    # Always the same name, so that what a killed run left is cleared by the next one.
    staging = target.parent / ".staging"
    partial = staging / f"{target.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for name, data in {**files, last: last_bytes}.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # something else is at work there too
            staging.rmdir()


def fetch(uri: str, manifest_bytes: bytes) -> Path:
    """Copy a remote package to this machine, kept under the hash of its package.json."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medray" / "packages"
    folder = cache / sha256(manifest_bytes).hexdigest()[:32]
    if folder.exists():
        return folder
    from medray import storage

    partial = cache / f".{folder.name}.{uuid4().hex[:8]}.partial"
    try:
        prefix = storage.absolute(uri) + "/"
        for file in storage.list_files(uri):
            path = partial / file.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(storage.read_bytes(file))
        partial.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
