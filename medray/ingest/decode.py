"""Pass two: the pixels of the files that are wanted, into unpublished parts of `images`.

Every file ends as a row of the receipt: ok with its number of items, or rejected with a code.
Pseudonyms arrive ready-made, so that the key never leaves the driver.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medray import items, storage
from medray.dicom.codecs import DecodeFrame
from medray.dicom.contained import ContainedDecoder
from medray.errors import RejectError
from medray.ingest import parts
from medray.ingest.listing import Sources
from medray.ingest.parts import Finished, Row
from medray.ingest.scan import read_source, refusal
from medray.items import ItemPixels
from medray.schema import IMAGES
from medray.spec.pixels import PixelSpec

SUFFIX = ".images.parquet"
RECEIPT = pa.schema(
    [
        *parts.KEY_FIELDS,
        pa.field("sha256", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("items", pa.int32(), nullable=False),
    ]
)
_ROW_GROUP_BYTES = 8 << 20
_PART_BYTES = 256 << 20  # of decoded pixels: bounds a part's time and memory


def images_schema(columns: Sequence[str]) -> pa.Schema:
    """IMAGES and the DICOM attributes asked for, as text."""
    return pa.schema([*IMAGES, *(pa.field(name, pa.string()) for name in columns)])


def decode_files(
    todo: Sequence[Row],
    pixels: PixelSpec,
    columns: Sequence[str],
    *,
    folder: str,
    files_per_task: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Finished:
    """Decode files into parts below `folder`; see `parts.finish`.

    Rows of `todo`: where the file is (`scan.source_rows`), kind, sop_instance_uid, rows, columns,
    frames, and the pseudonyms item, subject_id, study_id.
    """
    return parts.finish(
        todo,
        partial(_open, pixels, tuple(columns)),
        RECEIPT,
        folder=folder,
        rows_per_part=files_per_task,
        cost=_decoded_bytes,
        cost_per_part=_PART_BYTES,
        progress=progress,
    )


def _decoded_bytes(row: Row) -> int:
    """Estimate a file's decoded size: two bytes per pixel where the header says how many."""
    count = (row["rows"] or 0) * (row["columns"] or 0) * (row["frames"] or 1)
    return max(row["size"], 2 * count)


@contextmanager
def _open(pixels: PixelSpec, columns: tuple[str, ...]) -> Generator[parts.Work]:
    schema = images_schema(columns)
    with Sources() as sources, ContainedDecoder() as decoder:

        def work(rows: list[Row], base: str) -> pa.Table:
            receipts: list[Row] = []
            with _ImageWriter(base + SUFFIX, schema) as writer:
                for row in rows:
                    outcome, found = _decode(row, sources, decoder, pixels, columns)
                    writer.add(row, found)
                    receipts.append({name: row[name] for name in _KEYS} | outcome)
            return pa.Table.from_pylist(receipts, schema=RECEIPT)

        yield work


_KEYS = tuple(field.name for field in parts.KEY_FIELDS)


def _decode(
    row: Row, sources: Sources, decoder: DecodeFrame, pixels: PixelSpec, columns: Sequence[str]
) -> tuple[Row, list[ItemPixels]]:
    """Read and decode one file; all of its items or none."""
    outcome: Row = {"sha256": None, "status": "ok", "reason": None, "detail": None}
    found: list[ItemPixels] = []
    try:
        data = read_source(sources, row)
        outcome["sha256"] = items.sha256(data)
        uid = row["sop_instance_uid"]
        found = items.decode_items(
            data, row["kind"], pixels, columns, decoder, sop_instance_uid=uid
        )
    except RejectError as fault:
        outcome |= refusal(fault)
    return outcome | {"items": len(found)}, found


class _ImageWriter:
    """Rows of `images` into one Parquet file, in row groups of about 8 MiB.

    The file appears complete or not at all, and not at all when there is no row. Pixels have no
    dictionary (reads would be slow) and no statistics.
    """

    def __init__(self, uri: str, schema: pa.Schema) -> None:
        self._uri = uri
        self._schema = schema
        self._rows: list[Row] = []
        self._bytes = 0
        self._sink = pa.BufferOutputStream()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "_ImageWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        if self._writer is not None:
            self._writer.close()
        if kind is None and self._writer is not None:
            storage.write_atomic(self._uri, memoryview(self._sink.getvalue()))

    def add(self, row: Row, found: Sequence[ItemPixels]) -> None:
        """Add a file's items."""
        for item in found:
            array = np.ascontiguousarray(item.pixels)
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            self._rows.append(
                {
                    "item_id": f"{row['item']}#{item.frame}",
                    "subject_id": row["subject_id"],
                    "study_id": row["study_id"],
                    "file_id": row["file_id"],
                    "frame": item.frame,
                    "pixels": array.tobytes(),
                    "shape": list(array.shape),
                    "dtype": array.dtype.name,
                    "pixels_sha256": item.pixels_sha256,
                    "spacing_mm": list(item.spacing_mm) if item.spacing_mm else None,
                    **item.columns,
                }
            )
            self._bytes += array.nbytes
            if self._bytes >= _ROW_GROUP_BYTES:
                self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._sink, self._schema, **storage.parquet_options(self._schema, ("pixels",))
            )
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._bytes = [], 0
