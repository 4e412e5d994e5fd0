"""A dataset of timelines: events of patients (MEDS 0.4), and a row of facts per patient.

    dataset/dataset.json   what it was made from; written last, so that it is whole when it is there
    dataset/events/        Delta table EVENTS; a patient stands in one file, sorted by time
    dataset/subjects/      Delta table: subject_id, split, what the record spans, joined columns
    dataset/summary.json   what it holds

Shapes: N subjects of a split, E events of one of them.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from medray import storage
from medray.dataset.columns import Array, ColumnArrays, count_rows, folded, label_arrays, split_rows
from medray.errors import DataError, UsageError
from medray.provenance import canonical_sha256
from medray.records.steps import NO_TIME
from medray.records.tasks import TIMELINE
from medray.records.tokens import token, tokens
from medray.schema import EVENTS
from medray.spec.models import SPLITS
from medray.spec.records import RecordsSpec

_TELLING = 10  # events from which a record is nobody else's by chance


class RecordsMeta(BaseModel):
    """dataset.json of a dataset of timelines.

    sources_sha256  of all that it was made from.
    levels          every code with its texts: what the 64-bit names of TIMELINE stand for. Texts
                    that hardly any event has are left out: they may tell of one patient.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["timelines"] = "timelines"
    format: Literal[1] = 1
    name: str
    records: RecordsSpec
    key_check: str
    sources_sha256: str
    levels: dict[str, tuple[str, ...]]
    provenance: dict[str, Any] = {}


def read_records_meta(uri: str) -> RecordsMeta | None:
    """dataset.json of a dataset's folder; None where there is none, or one of images."""
    try:
        data = storage.read_bytes(storage.join(uri, "dataset.json"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if json.loads(data).get("kind") != "timelines":
            return None
        return RecordsMeta.model_validate_json(data)
    except (ValueError, AttributeError, ValidationError) as error:
        raise DataError(
            "dataset.json cannot be read",
            remedy="it was changed or made by another version of medray; ingest into a new output",
        ) from error


class RecordsDataset:
    """An opened dataset, pinned to what is published when its tables are first read.

    It answers what a dataset of images does; an item of it is a patient, until the task cuts
    timelines into items at its prediction times.
    """

    def __init__(self, uri: str, meta: RecordsMeta) -> None:
        self.uri = uri
        self.meta = meta
        self._fold: tuple[int, int, float] | None = None

    @property
    def events_uri(self) -> str:
        """Where the Delta table of events lies."""
        return storage.join(self.uri, "events")

    def fold(self, number: int, folds: int, tuning: float) -> "RecordsDataset":
        """Another split of the same patients; see `columns.folded`."""
        view = RecordsDataset(self.uri, self.meta)
        view._fold = (number, folds, tuning)
        return view

    @cached_property
    def _labels(self) -> pa.Table:
        table = storage.read_table(storage.join(self.uri, "subjects")).sort_by("item_id")
        if self._fold is None:
            return table
        return folded(table, *self._fold)

    @cached_property
    def _files(self) -> list[str]:
        return storage.table_files(self.events_uri)

    def labels(self) -> pa.Table:
        """One row per patient, sorted by item_id; `split` is null for patients in none."""
        return self._labels

    def event_files(self) -> list[str]:
        """URIs of the Parquet files of `events`: shards of whole patients."""
        return self._files

    def counts(self) -> dict[str, dict[str, int]]:
        """Items, subjects and studies of every split."""
        return {split: count_rows(split_rows(self._labels, split)) for split in SPLITS}

    def nbytes(self, split: str) -> int:
        """Size of a split's timelines in memory, bytes."""
        return 28 * sum(split_rows(self._labels, split)["events"].to_pylist())

    def hashes(self) -> dict[str, str]:
        """See `record_hashes`."""
        return record_hashes(self._labels)

    def fingerprint(self) -> str:
        """SHA-256 over all records and all facts about their patients."""
        digest = hashlib.sha256(canonical_sha256([self.meta.records.codes]).encode())
        for name in sorted(self._labels.column_names):
            digest.update(json.dumps([name, self._labels[name].to_pylist()], default=str).encode())
        return digest.hexdigest()

    def columns(self, split: str) -> ColumnArrays:
        """Facts about the patients of a split, sorted by item_id; see `label_arrays`.

        Times are int64 microseconds since 1970, NO_TIME where there is none.
        """
        return _facts(split_rows(self._labels, split))

    def read(self, split: str) -> ColumnArrays:
        """All patients of a split, sorted by item_id: facts, and TIMELINE columns.

        Each of these is an object array (N,) of arrays (E,): microseconds since 1970 (NO_TIME: a
        fact without time), 64-bit names of code and text (0: none), and the number or NaN.
        """
        columns = self.columns(split)
        wanted = columns["subject_id"]
        place = {one: index for index, one in enumerate(wanted)}
        for name in TIMELINE:
            columns[name] = _empty(len(wanted), name)
        for part in self.timelines():
            rows = [place.get(one, -1) for one in part["subject_id"]]
            for name in TIMELINE:
                for row, events in zip(rows, part[name], strict=True):
                    if row >= 0:
                        columns[name][row] = events
        return columns

    def read_subject(self, subject_id: str) -> ColumnArrays:
        """One patient, of whatever split, as `read` gives those of a split.

        Raises UsageError when there is no such patient.
        """
        rows = self._labels.filter(pc.field("subject_id") == subject_id)
        if not rows.num_rows:
            raise UsageError(
                "there is no such patient in this dataset",
                remedy="give the pseudonym: `subject_id` of dataset/subjects or of predictions",
            )
        where = pc.field("subject_id") == int(subject_id)
        found = to_timelines(storage.read_parquet(self._files, EVENTS, where=where))
        columns = _facts(rows)
        for name in TIMELINE:
            columns[name] = found[name] if len(found[name]) else _empty(1, name)
        return columns

    def names(self) -> dict[str, str]:
        """64-bit name (as text) → the code or text it stands for."""
        texts = [text for levels in self.meta.levels.values() for text in levels]
        return {str(token(text)): text for text in [*self.meta.levels, *texts]}

    def timelines(self) -> Iterator[ColumnArrays]:
        """Every shard: subject_id (text) and TIMELINE columns of its patients."""
        for uri in self._files:
            yield to_timelines(storage.read_parquet([uri], EVENTS))


def record_hashes(subjects: pa.Table) -> dict[str, str]:
    """item_id → SHA-256 of what the record says, times relative to its first.

    A record of few events has a name of its own instead: two patients with one visit each say the
    same by chance, and are no copy of each other.
    """
    names = ("item_id", "events", "record_sha256")
    rows = zip(*(subjects[name].to_pylist() for name in names), strict=True)
    return {one: sha if events >= _TELLING else f"of {one}" for one, events, sha in rows}


def to_timelines(events: pa.Table) -> ColumnArrays:
    """EVENTS, sorted by subject and time → subject_id (N,) as text and TIMELINE columns (N,)."""
    subject = events["subject_id"].to_numpy()
    ids, starts = np.unique(subject, return_index=True)
    flat = {
        "event_time": _micros(events["time"]),
        "event_code": _tokens(events["code"]),
        "event_text": _tokens(events["text_value"]),
        "event_value": events["numeric_value"].to_numpy(zero_copy_only=False).astype(np.float32),
    }
    columns: ColumnArrays = {"subject_id": _objects([str(one) for one in ids.tolist()])}
    for name, values in flat.items():
        columns[name] = _objects(np.split(values, starts[1:]) if len(ids) else [])
    return columns


def _facts(rows: pa.Table) -> ColumnArrays:
    """What is known of patients beside their events; times as int64 microseconds."""
    times = [name for name in ("start", "first", "last") if name in rows.column_names]
    columns = label_arrays(rows.drop_columns(times))
    return columns | {name: _micros(rows[name]) for name in times}


def _objects(values: Any) -> Array:
    array = np.empty(len(values), object)
    for index, value in enumerate(values):
        array[index] = value
    return array


def _empty(count: int, name: str) -> Array:
    kind = np.float32 if name == "event_value" else np.int64
    return _objects([np.empty(0, kind)] * count)


def _micros(column: pa.ChunkedArray) -> Array:
    whole = column.cast(pa.int64())
    filled = pc.fill_null(whole, int(NO_TIME))  # pyright: ignore[reportAttributeAccessIssue]
    return filled.to_numpy()


def _tokens(column: pa.ChunkedArray) -> Array:
    coded = column.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    names = np.append(tokens(coded.dictionary.to_pylist()), 0)  # the last: no text
    filled = pc.fill_null(coded.indices, len(names) - 1)  # pyright: ignore[reportAttributeAccessIssue]
    return names[filled.to_numpy(zero_copy_only=False)]
