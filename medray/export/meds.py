"""A dataset of timelines → a MEDS 0.4 folder, shard by shard, checked with the `meds` package.

    data/<split>/<n>.parquet      events; patients in no split stand under data/no_split
    metadata/codes.parquet        every code, with its unit where the spec names one
    metadata/subject_splits.parquet
    metadata/dataset.json         written last
    labels/<split>/<n>.parquet    outcomes, where the spec asks for one that is yes or no
    medray-export.json            what it was made from

Memory depends on the size of a shard, and on the number of patients.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import meds
import numpy as np
import pyarrow as pa

import medray
from medray import storage
from medray.dataset import RecordsDataset, open_any
from medray.errors import DataError
from medray.export.folder import replaced
from medray.export.labels import Labels, asked
from medray.provenance import provenance
from medray.records.fhir import SYSTEMS
from medray.schema import EVENTS
from medray.spec.load import spec_sha256
from medray.spec.models import SPLITS, RunSpec

Progress = Callable[[dict[str, Any]], None]

NO_SPLIT = "no_split"
_SHARD = rf"(?:{'|'.join((*SPLITS, NO_SPLIT))})/\d+\.parquet"
_OWN = re.compile(
    rf"data/{_SHARD}|labels/{_SHARD}|metadata/(?:codes\.parquet|subject_splits\.parquet|dataset\.json)"
)
_CODES = pa.schema(
    [
        pa.field("code", pa.string(), nullable=False),
        pa.field("description", pa.string()),
        pa.field("parent_codes", pa.list_(pa.string())),
        pa.field("unit", pa.string()),
    ]
)
_VOCABULARIES = frozenset(SYSTEMS.values())  # they have the same names in OMOP's vocabularies


@dataclass(slots=True)
class MedsSummary:
    """What was exported.

    subjects   by split; `no_split`: patients that the dataset gives to none.
    task       whose outcomes `labels` holds, in words; empty: the spec asks for none that is
               yes or no.
    labels, positives   rows of `labels` by split, and those where the outcome happens.
    unknown    prediction times whose outcome is not known: no label.
    """

    folder: str
    files: int = 0
    events: int = 0
    codes: int = 0
    subjects: dict[str, int] = field(default_factory=dict[str, int])
    task: str = ""
    labels: dict[str, int] = field(default_factory=dict[str, int])
    positives: int = 0
    unknown: int = 0
    seconds: float = 0.0

    def headline(self) -> str:
        """One line for a terminal."""
        subjects = sum(self.subjects.values())
        return f"{self.events:,} events of {subjects:,} patients → MEDS in {self.folder}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def export_meds(
    dataset_uri: str, out: str, spec: RunSpec | None = None, progress: Progress | None = None
) -> MedsSummary:
    """Write a dataset (its folder, or its run's) as a MEDS folder; `spec` asks for labels.

    Raises DataError for a dataset of another kind, OutputConflictError when `out` holds anything
    but an earlier export.
    """
    started = time.monotonic()
    dataset = open_any(dataset_uri)
    if not isinstance(dataset, RecordsDataset):
        raise DataError(
            "this is a dataset of images; MEDS is for patients' records",
            remedy="name a dataset that was made with `records:`",
        )
    params = asked(spec)
    labels = None if params is None else Labels(dataset, params)
    summary = MedsSummary(folder=storage.absolute(out))
    summary.task = "" if params is None else params.target
    with replaced(out, _OWN, meds.dataset_metadata_filepath, _lineage(dataset, spec)) as folder:
        splits = _splits(dataset)
        codes = _write_shards(dataset, splits, folder, labels, summary, progress or _silent)
        _write(folder, meds.subject_splits_filepath, splits, meds.SubjectSplitSchema)
        table = _codes(codes, dataset)
        _write(folder, meds.code_metadata_filepath, table, meds.CodeMetadataSchema)
        summary.codes = table.num_rows
        _write_metadata(dataset, folder)
    summary.unknown = 0 if labels is None else labels.unknown
    summary.seconds = round(time.monotonic() - started, 3)
    return summary


def _silent(_: dict[str, Any]) -> None:
    """Tell nobody."""


def _lineage(dataset: RecordsDataset, spec: RunSpec | None) -> dict[str, Any]:
    return {
        "format": "meds",
        "dataset": dataset.fingerprint(),
        "sources_sha256": dataset.meta.sources_sha256,
        "spec_sha256": None if spec is None else spec_sha256(spec),
        "provenance": provenance(),
    }


def _splits(dataset: RecordsDataset) -> pa.Table:
    """subject_id, split of every patient that stands in one, sorted by subject_id."""
    rows = dataset.labels().select(["subject_id", "split"])
    pairs = zip(rows["subject_id"].to_pylist(), rows["split"].to_pylist(), strict=True)
    known = sorted((int(one), split) for one, split in pairs if split is not None)
    columns: Mapping[str, Any] = {
        "subject_id": pa.array([one for one, _ in known], pa.int64()),
        "split": pa.array([split for _, split in known], pa.string()),
    }
    return pa.table(columns)


def _write_shards(
    dataset: RecordsDataset,
    splits: pa.Table,
    folder: str,
    labels: Labels | None,
    summary: MedsSummary,
    tell: Progress,
) -> Counter[str]:
    """Events and labels; gives how many events each code has."""
    codes: Counter[str] = Counter()
    uris = dataset.event_files()
    for number, uri in enumerate(uris):
        for split, events in _by_split(storage.read_parquet([uri], EVENTS), splits):
            name = f"{split}/{number}.parquet"
            _write(folder, f"{meds.data_subdirectory}/{name}", events, meds.DataSchema)
            for pair in events["code"].value_counts().to_pylist():
                codes[pair["values"]] += pair["counts"]
            summary.files += 1
            summary.events += events.num_rows
            subjects = len(events["subject_id"].unique())
            summary.subjects[split] = summary.subjects.get(split, 0) + subjects
            if labels is not None and split != NO_SPLIT:
                _write_labels(labels.of(split, events), folder, split, name, summary)
        tell({"stage": "export", "done": number + 1, "total": len(uris), "unit": "shards"})
    return codes


def _by_split(events: pa.Table, splits: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Events of each split that has any, in the order they have."""
    known = splits["subject_id"].to_numpy()
    names = np.array([*splits["split"].to_pylist(), NO_SPLIT])
    subject_N = events["subject_id"].to_numpy()
    place_N = np.searchsorted(known, subject_N)
    found_N = np.isin(subject_N, known)
    split_N = names[np.where(found_N, place_N, len(known))]
    for split in (*SPLITS, NO_SPLIT):
        mask_N = split_N == split
        if mask_N.any():
            yield split, events.filter(pa.array(mask_N))


def _write_labels(rows: pa.Table, folder: str, split: str, name: str, summary: MedsSummary) -> None:
    if not rows.num_rows:
        return
    _write(folder, f"labels/{name}", rows, meds.LabelSchema)
    summary.labels[split] = summary.labels.get(split, 0) + rows.num_rows
    summary.positives += sum(rows["boolean_value"].to_pylist())


def _codes(counts: Mapping[str, int], dataset: RecordsDataset) -> pa.Table:
    """Every code of the data. Parents are named as OMOP's vocabularies name them."""
    known = dataset.meta.records.codes
    rows: list[dict[str, Any]] = []
    for code in sorted(counts):
        system, _, rest = code.partition("//")
        parents = [f"{system}/{rest}"] if system in _VOCABULARIES and rest else None
        unit = known[code].unit if code in known else None
        rows.append({"code": code, "description": None, "parent_codes": parents, "unit": unit})
    return pa.Table.from_pylist(rows, schema=_CODES)


def _write(folder: str, name: str, table: pa.Table, schema: Any) -> None:
    """Check a table against its schema of MEDS and write it. Raises DataError."""
    from flexible_schema import SchemaValidationError, TableValidationError

    try:
        schema.validate(table)
    except (SchemaValidationError, TableValidationError) as error:
        raise DataError(
            f"{name} does not keep the schema of MEDS {meds.__version__}: {error}",
            remedy="the dataset was changed after its ingest; ingest into a new output",
        ) from error
    storage.write_parquet(storage.join(folder, name), table)


def _write_metadata(dataset: RecordsDataset, folder: str) -> None:
    metadata = {
        "dataset_name": dataset.meta.name,
        "dataset_version": dataset.meta.sources_sha256[:12],
        "etl_name": "medray",
        "etl_version": medray.__version__,
        "meds_version": meds.__version__,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    meds.DatasetMetadataSchema.validate(metadata)
    text = (json.dumps(metadata, indent=2) + "\n").encode()
    storage.write_atomic(storage.join(folder, meds.dataset_metadata_filepath), text)
