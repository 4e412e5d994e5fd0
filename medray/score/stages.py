"""The two stages of a night's work, without Ray: files → items, items → scored rows.

Stage one reads and decodes; its tables may be cut anywhere between rows. Stage two scores
whatever rows it is given and writes them as one chunk file, which is at once the data and the
receipt: every row says how many items its file has, so that whoever reads the chunks can tell
which files are complete, however their items were spread. Names of chunks are hashes of what is
in them, so that work done twice overwrites itself.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
import pyarrow as pa

from medray import items, storage
from medray.dicom.contained import ContainedDecoder
from medray.errors import Code, RejectError
from medray.ingest.listing import Sources
from medray.ingest.parts import KEY_FIELDS, Row
from medray.ingest.scan import read_source
from medray.package import Task
from medray.schema import PREDICTIONS
from medray.score.pictures import Pictures
from medray.score.prediction import ItemKey, Outcome, rows_of
from medray.score.predictor import Predictor
from medray.spec.pixels import PixelSpec

_KEY = [field.name for field in KEY_FIELDS]
_FILE_ITEMS = pa.field("file_items", pa.int32(), nullable=False)  # items that are made of it
_ITEM = ("item_id", "subject_id", "study_id", "frame")
ITEMS = pa.schema(
    [
        *KEY_FIELDS,
        _FILE_ITEMS,
        *(PREDICTIONS.field(name) for name in _ITEM),
        pa.field("reason", pa.string()),  # why there are no pixels
        pa.field("pixels", pa.large_binary()),
        pa.field("shape", pa.list_(pa.int32())),
        pa.field("dtype", pa.string()),
    ]
)
SCORED = pa.schema([*PREDICTIONS, _FILE_ITEMS])
_TABLE_BYTES = 16 << 20  # pixels per table that stage one hands on


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker must know; picklable.

    package  `name@version#sha256` of the package at package_uri.
    folder   where chunk files go.
    task     a workload of the caller's own; absent: the package's, from WORKLOADS.
    """

    package_uri: str
    package: str
    folder: str
    device: str
    task: Task | None = None


class Reader:
    """Stage one: reads and decodes files one by one; a context manager, as it holds a child.

    Faults of a file become its only row. Raises MedrayError only when no decoding is possible.
    """

    def __init__(self, pixels: PixelSpec) -> None:
        self._pixels = pixels
        self._stack = ExitStack()
        self._sources = self._stack.enter_context(Sources())
        self._decoder = self._stack.enter_context(ContainedDecoder())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child that decodes."""
        self._stack.close()

    def tables(self, files: Sequence[Row]) -> Iterator[pa.Table]:
        """Tables of ITEMS, cut where they grow large.

        files  as `scan.source_rows` gives them, with kind, sop_instance_uid and the pseudonyms
               item, subject_id, study_id.
        """
        rows: list[Row] = []
        size = 0
        for file in files:
            for row in self._items(file):
                rows.append(row)
                size += len(row["pixels"] or b"")
                if size > _TABLE_BYTES:
                    yield pa.Table.from_pylist(rows, schema=ITEMS)
                    rows, size = [], 0
        if rows:
            yield pa.Table.from_pylist(rows, schema=ITEMS)

    def _items(self, file: Row) -> list[Row]:
        common = {name: file[name] for name in (*_KEY, "subject_id", "study_id")}
        try:
            data = read_source(self._sources, file)
            uid = file["sop_instance_uid"]
            found = items.decode_items(
                data, file["kind"], self._pixels, (), self._decoder, sop_instance_uid=uid
            )
        except RejectError as fault:
            nothing = dict.fromkeys(("frame", "pixels", "shape", "dtype"))
            reason = {"item_id": file["file_id"], "file_items": 1, "reason": str(fault.code)}
            return [common | nothing | reason]
        return [
            common
            | {
                "item_id": f"{file['item']}#{item.frame}",
                "file_items": len(found),
                "frame": item.frame,
                "reason": None,
                "pixels": item.pixels.tobytes(),
                "shape": list(item.pixels.shape),
                "dtype": item.pixels.dtype.str,
            }
            for item in found
        ]


class Scorer:
    """Stage two: a loaded model that turns tables of ITEMS into chunk files."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._pictures = Pictures(Predictor(job.package_uri, job.device, job.task))

    def __call__(self, table: pa.Table) -> pa.Table:
        """Score and write; returns file_id and file_items of the rows, for progress."""
        if table.num_rows:
            scored = score_items(self._pictures, table, self._job)
            storage.write_parquet(storage.join(self._job.folder, chunk_name(table)), scored)
        return table.select(["file_id", _FILE_ITEMS.name])


def score_items(model: Pictures, table: pa.Table, job: Job) -> pa.Table:
    """Rows of SCORED for a table of ITEMS: one per item and target, or one rejected row."""
    shapes, dtypes = table["shape"].to_pylist(), table["dtype"].to_pylist()
    pictures = {
        at: np.frombuffer(pixels.as_buffer(), dtypes[at]).reshape(shapes[at])
        for at, pixels in enumerate(table["pixels"])
        if pixels.is_valid
    }
    answers = dict(zip(pictures, model.predict_arrays(list(pictures.values())), strict=True))
    # The run is named when it is published: another one may finish this one's work.
    ours = {"prediction_time": datetime.now(UTC), "package": job.package, "run": ""}
    rows: list[dict[str, Any]] = []
    for at, item in enumerate(table.drop_columns(["pixels", "shape", "dtype"]).to_pylist()):
        outcome = answers[at] if at in answers else Outcome((), Code(item["reason"]))
        ids = (item["item_id"], item["subject_id"], item["study_id"], item["file_id"])
        key = ItemKey(*ids, item["frame"])
        rows.extend(item | asdict(row) | ours for row in rows_of(key, outcome))
    return pa.Table.from_pylist(rows, schema=SCORED)


def chunk_name(table: pa.Table) -> str:
    """Name a chunk by the versions of the files, and the items, that are in it."""
    names = json.dumps([table[name].to_pylist() for name in (*_KEY, "item_id")])
    return f"{hashlib.sha256(names.encode()).hexdigest()[:24]}.parquet"
