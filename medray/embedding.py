"""The verb `embed`: what an imaging package sees in scans, as events of patients' records.

A scan becomes events at its own time, one per dimension; a timeline that reads them knows the
latest scan up to a prediction and nothing later, by the same rules as any other event. The
embedding, what the last layer of the package's networks reads, is brought to few dimensions by a
fixed random projection, which keeps distances and learns from nobody (Johnson & Lindenstrauss
1984).

Shapes: B items, D units of the last layer, K dimensions kept.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medray import storage
from medray.dataset import Dataset, open_dataset, to_columns
from medray.errors import DataError, OutputConflictError, RejectError, UsageError
from medray.ingest.scans import KEY_CHECK, SPLIT, key_check_of
from medray.privacy.pseudonyms import load_key, pseudonym
from medray.records.events import timestamps
from medray.score.predictor import Predictor

Array = NDArray[Any]
Progress = Callable[[dict[str, Any]], None]

EVENTS: Final = pa.schema(
    [
        pa.field("subject_id", pa.string(), nullable=False),  # pseudonym, as in the images
        pa.field("time", pa.timestamp("us"), nullable=False),
        pa.field("code", pa.string(), nullable=False),  # SCAN//package//dimension
        pa.field("numeric_value", pa.float32(), nullable=False),
        pa.field(SPLIT, pa.string()),  # of the patient among the images: who was learned from
    ]
)
_ROWS = 256
_SEED = 1984


@dataclass(frozen=True, slots=True)
class EmbedSummary:
    """What was written: `scans` became `events`; those without a time became none."""

    out: str
    package: str
    scans: int
    without_time: int
    patients: int
    dimensions: int
    events: int

    def headline(self) -> str:
        """One line for a terminal."""
        return (
            f"{self.scans:,} scans of {self.patients:,} patients by {self.package}: "
            f"{self.events:,} events of {self.dimensions} codes; {self.without_time:,} scans "
            "without a time left out"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def embed(
    package: str,
    dataset: str,
    time: str,
    out: str,
    dimensions: int = 16,
    *,
    progress: Progress | None = None,
) -> EmbedSummary:
    """Write events of every scan of a dataset of images to the Parquet file `out`.

    time  column of the dataset that holds the date (and time) of the scan: DICOM's YYYYMMDD, or
          ISO 8601. Scans without one are left out: without a time they would be known too early.
          A date alone is the start of its day.
    Raises UsageError for a column that is absent, PackageError for a package not of images,
    DataError for scans that the package does not take, OutputConflictError for a file at `out`
    that is none of these, or a dataset of another pseudonym key.
    """
    tell = progress or (lambda _: None)
    images = open_dataset(dataset)
    check = pseudonym(load_key(), "check", "medray")
    if images.meta.key_check != check:
        raise OutputConflictError(
            "the dataset of images was made with another pseudonym key",
            remedy="let MEDRAY_KEY_FILE name the key it was made with",
        )
    target = storage.absolute(out)
    _require_ours(target)
    predictor = Predictor(package, device="auto")
    if predictor.package.pixels != images.meta.pixels:
        raise UsageError(
            "the scans were not decoded as the package's own were",
            remedy="ingest them with the same `ingest.pixels`: see spec.yaml of the package",
        )
    moments = _moments(images, time)
    tables: list[pa.Table] = []
    done = 0
    for ids, vectors_BD in _vectors(images, predictor):
        tables.append(_events(ids, projected(vectors_BD, dimensions), moments, predictor))
        done += len(ids)
        tell({"stage": "embed", "done": done, "total": len(moments), "unit": "scans"})
    whole = pa.concat_tables([EVENTS.empty_table(), *tables])
    whole = whole.sort_by([(name, "ascending") for name in ("subject_id", "time", "code")])
    note = {KEY_CHECK: check, "medray.package": predictor.package.ref}
    storage.write_parquet(target, whole.replace_schema_metadata(note))
    untimed = sum(one.time is None for one in moments.values())
    return EmbedSummary(
        out=target,
        package=predictor.package.ref,
        scans=len(moments) - untimed,
        without_time=untimed,
        patients=len(set(whole["subject_id"].to_pylist())),
        dimensions=len(set(whole["code"].to_pylist())),
        events=whole.num_rows,
    )


def projected(vectors_BD: Array, dimensions: int) -> Array:
    """Vectors (B, D) in at most `dimensions` dimensions (B, K), their distances kept on average.

    The same projection for every D at every time; vectors that are short enough stay as they are.
    """
    units = vectors_BD.shape[1]
    if units <= dimensions:
        return np.asarray(vectors_BD, np.float32)
    drawn_DK = np.random.default_rng(_SEED).normal(size=(units, dimensions))
    basis_DK, _ = np.linalg.qr(drawn_DK)
    return (vectors_BD.astype(np.float64) @ basis_DK * np.sqrt(units / dimensions)).astype("f4")


def _require_ours(target: str) -> None:
    if not storage.exists(target):
        return
    if key_check_of(target) is None:
        raise OutputConflictError(
            "the file at `--out` is not one that `medray embed` made",
            remedy="name another file",
        )


class _Moment(NamedTuple):
    """Whose scan it is, when it was made (None: not known), and the split it stands in."""

    subject: str
    time: datetime | None
    split: str | None


def _moments(images: Dataset, time: str) -> dict[str, _Moment]:
    labels = images.labels()
    if time not in labels.column_names:
        known = sorted(set(labels.column_names) - {"item_id", "subject_id", "study_id", "split"})
        raise UsageError(
            f"the dataset of images has no column {time!r}",
            remedy=f"it has {', '.join(known) or 'none'}; ask for one in `ingest.columns`, "
            "e.g. StudyDate, and ingest again",
        )
    when = timestamps(labels[time].cast(pa.string())).astype(object)  # None: no time
    columns = (labels[name].to_pylist() for name in ("item_id", "subject_id", "split"))
    return {
        item: _Moment(who, at, split) for item, who, split, at in zip(*columns, when, strict=True)
    }


def _vectors(images: Dataset, predictor: Predictor) -> Iterator[tuple[list[str], Array]]:
    """Items of the dataset, some at a time, and what the last layer reads of them (B, D)."""
    for rows in images.blocks(_ROWS):
        columns = to_columns(rows)
        try:
            vectors_BD = predictor.embed({"pixels": columns["pixels"]})
        except RejectError as reject:
            raise DataError(
                f"the package does not take the scans of this dataset: {reject.detail}",
                remedy="ingest them with the pixels of the package's own dataset",
            ) from reject
        yield columns["item_id"].tolist(), vectors_BD


def _events(
    ids: list[str],
    values_BK: Array,
    moments: Mapping[str, _Moment],
    predictor: Predictor,
) -> pa.Table:
    found = {row: moments[one] for row, one in enumerate(ids) if one in moments}
    timed = {row: one for row, one in found.items() if one.time is not None}
    width = values_BK.shape[1]
    codes = [f"SCAN//{predictor.package.ref}//{place:02d}" for place in range(width)]
    columns: dict[str, Any] = {
        "subject_id": [one.subject for one in timed.values() for _ in codes],
        "time": [one.time for one in timed.values() for _ in codes],
        "code": codes * len(timed),
        "numeric_value": values_BK[list(timed)].ravel(),
        SPLIT: [one.split for one in timed.values() for _ in codes],
    }
    return pa.table(columns, schema=EVENTS)
