"""The output folder of a run: whose it is, where its tables lie, and who may write now."""

import os
import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from medray import storage
from medray.dataset import DatasetMeta, read_meta
from medray.errors import OutputConflictError, UsageError

# What verbs make in an output folder; anything else there was not made by medray.
_OWN = frozenset(
    {"inventory", "dataset", "training", "package", "report", "predictions", "crossval"}
    | {".staging"}
)
_Summary = TypeVar("_Summary")
_OWN_FILES = frozenset({"score-summary.json", "spec.yaml"})


@dataclass(frozen=True, slots=True)
class Output:
    """Absolute places of an output folder that ingest writes."""

    uri: str

    @property
    def dataset(self) -> str:
        """The dataset's folder."""
        return storage.join(self.uri, "dataset")

    @property
    def images(self) -> str:
        """Delta table IMAGES."""
        return storage.join(self.dataset, "images")

    @property
    def labels(self) -> str:
        """Delta table of labels."""
        return storage.join(self.dataset, "labels")

    @property
    def molecules(self) -> str:
        """Delta table MOLECULES."""
        return storage.join(self.dataset, "molecules")

    @property
    def summary(self) -> str:
        """The last ingest's summary."""
        return storage.join(self.dataset, "summary.json")

    @property
    def inventory(self) -> str:
        """Delta table FILES."""
        return storage.join(self.uri, "inventory")

    @property
    def refused(self) -> str:
        """Delta table REFUSED_ROWS."""
        return storage.join(self.inventory, "refused")

    @property
    def staging(self) -> str:
        """Unpublished work."""
        return storage.join(self.uri, ".staging", "ingest")

    def remove_staging(self) -> None:
        """Remove what this verb left unpublished, and folders that are empty then."""
        storage.remove_tree(self.staging)
        if storage.is_local(self.uri):
            for folder in (Path(self.uri, ".staging"), Path(self.uri)):
                with suppress(OSError):
                    folder.rmdir()  # fails, as it should, where something is in it


def claim(output: Output, wanted: DatasetMeta, inputs: Sequence[str]) -> DatasetMeta | None:
    """Return the stored meta of an output that this spec may go on with; None for a new one.

    `inputs`: what the run reads; it may lie in the output folder too.
    Raises OutputConflictError when the folder holds something else, or a dataset of other
    settings or of another pseudonym key. Writes nothing.
    """
    storage.table_exists(output.inventory)  # refuses a place where no table can be
    stored = read_meta(output.dataset)
    if stored is None:
        require_ours(output.uri, inputs)
        return None
    if stored.key_check != wanted.key_check:
        raise OutputConflictError(
            "this dataset was made with another pseudonym key",
            remedy="let MEDRAY_KEY_FILE name the key it was made with, or use a new output",
        )
    if stored.ingest_sha256 != wanted.ingest_sha256:
        fields = ("pixels", "columns", "subject")
        differ = [name for name in fields if getattr(stored, name) != getattr(wanted, name)]
        raise OutputConflictError(
            f"the output holds a dataset with other settings: {', '.join(differ) or 'format'}",
            remedy="name another `output`, or restore ingest.pixels, columns and subject",
        )
    return stored


def require_ours(uri: str, inputs: Sequence[str], *, holds: str = "images") -> None:
    """Raise OutputConflictError when the folder holds what no run of medray made.

    holds  `timelines`, `molecules`: a dataset folder without its dataset.json is an interrupted
           ingest.
    """
    root = storage.absolute(uri) + "/"
    if storage.is_local(uri):
        if os.path.exists(uri) and not os.path.isdir(uri):
            raise OutputConflictError("the output is a file", remedy="name a folder as `output`")
        names = set(os.listdir(uri)) if os.path.isdir(uri) else set[str]()
    else:
        below = [each.removeprefix(root) for each in storage.list_files(uri)]
        names = {each.split("/", 1)[0] for each in below if each}
    places = [storage.absolute(each).removeprefix(root).split("/", 1)[0] for each in inputs]
    foreign = names - _OWN - _OWN_FILES - set(places) | names & _taken(uri, holds)
    if foreign:
        raise OutputConflictError(
            f"the output folder already holds {len(foreign)} things that no run of medray made",
            remedy="name a new or empty folder as `output`",
        )


def _taken(uri: str, holds: str) -> set[str]:
    """Folders whose presence means that another kind of ingest was here."""
    if holds == "images":
        return {"inventory", "dataset"}
    dataset = storage.join(uri, "dataset")
    whole = storage.exists(storage.join(dataset, "dataset.json"))
    images = whole or storage.exists(storage.join(dataset, "images"))
    return {"dataset"} if images else set()


def stored_summary(output: Output, kind: type[_Summary]) -> _Summary | None:
    """What the last ingest said; None where none came to its end, or one of another version."""
    try:
        return TypeAdapter(kind).validate_json(storage.read_bytes(output.summary))
    except (FileNotFoundError, ValidationError):
        return None


def clear_staging(output: Output) -> None:
    """Remove what a run left that was killed after its last word."""
    if storage.exists(output.staging):
        with locked(output.staging, "ingest"):
            output.remove_staging()


def attempt(folder: str, identity: str) -> str:
    """Name this publication: the same when a killed run goes on, another at the next change.

    The sources may return to what they were: their identity alone was published before, then.
    """
    uri = storage.join(folder, "attempt")
    if not storage.exists(uri):
        storage.write_atomic(uri, f"{identity[:16]}-{secrets.token_hex(4)}".encode())
    return storage.read_bytes(uri).decode()


@contextmanager
def locked(staging: str, verb: str) -> Generator[None]:
    """Keep a second run of `verb` out of a local output; the lock ends with the process, however.

    staging  the verb's folder of unpublished work, which is left alone but for the lock.
    Raises OutputConflictError while another process holds it.
    """
    if not storage.is_local(staging):
        yield
        return
    import fcntl

    folder = Path(staging)
    lock = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = lock.open("w")
    except OSError as error:
        raise UsageError(
            f"the output cannot be written: {error.strerror}", remedy="check `output`"
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = os.path.samestat(os.fstat(handle.fileno()), lock.stat())
        except OSError:
            mine = False
        if not mine:  # held, or just given back by a run whose file this was
            raise OutputConflictError(
                f"another {verb} is writing this output", remedy="wait for it, or end it first"
            )
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()
