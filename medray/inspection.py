"""What a path is, and what it holds: the `inspect` verb.

Reads metadata and counts only; never pixels, never a patient's value.
"""

import json
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import yaml
from deltalake import DeltaTable

from medray import storage
from medray.errors import UsageError

if TYPE_CHECKING:
    from medray.dataset import MoleculesDataset, RecordsDataset
    from medray.manifest import Manifest
    from medray.records.summary import CodeRow

_CODES = 12  # of a dataset of timelines that are shown, the most frequent first
_SAMPLE = 2000  # headers parsed of an archive; the rest is counted by kind only


@dataclass(frozen=True, slots=True)
class Inspection:
    """A path, what kind of thing it is, its facts, and the things inside it."""

    path: str
    kind: str
    facts: dict[str, Any]
    parts: list["Inspection"] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "path": self.path,
            "kind": self.kind,
            "facts": self.facts,
            "parts": [part.to_dict() for part in self.parts],
        }


def inspect(path: str) -> Inspection:
    """Say what stands at a path. Raises UsageError when nothing does."""
    if not storage.exists(path):
        raise UsageError(f"nothing stands at {path}", remedy="check the path; s3:// works too")
    for file, look in _MARKERS.items():
        if storage.exists(storage.join(path, file)):
            return look(path)
    if storage.table_exists(path):
        return _table(path)
    parts = [name for name in _RUN_PARTS if storage.exists(storage.join(path, name))]
    if parts:
        return _run(path, parts)
    return _archive(path)


def _run(path: str, names: list[str]) -> Inspection:
    parts: list[Inspection] = []
    for name in names:
        uri = storage.join(path, name)
        if name == "report":
            parts.append(_report(uri))
        elif name == "training":
            parts.append(_training(uri))
        elif name in ("inventory", "predictions") and not storage.table_exists(uri):
            refused = storage.join(uri, "refused")
            parts.extend([_table(refused)] if storage.table_exists(refused) else [])
        else:
            parts.append(inspect(uri))
    unfinished = storage.list_files(storage.join(path, ".staging"))
    return Inspection(path, "run", {"files_of_interrupted_work": len(unfinished)}, parts)


def _dataset(path: str) -> Inspection:
    from medray.dataset import MoleculesDataset, RecordsDataset, open_any

    dataset = open_any(path)
    if isinstance(dataset, RecordsDataset):
        return _timelines(path, dataset)
    if isinstance(dataset, MoleculesDataset):
        return _molecules(path, dataset)
    facts = {
        "name": dataset.meta.name,
        "splits": dataset.counts(),
        "pixels": dataset.meta.pixels.model_dump(mode="json"),
        "columns": list(dataset.labels().column_names),
        "fingerprint": dataset.fingerprint(),
    }
    images = _table(storage.join(path, "images"))
    return Inspection(path, "dataset", facts, [images])


def _timelines(path: str, dataset: "RecordsDataset") -> Inspection:
    """A dataset of patients' records: what its summary says, and who stands in which split."""
    from medray.records.summary import TimelineSummary

    told = json.loads(storage.read_bytes(storage.join(path, "summary.json")))
    held = TimelineSummary.model_validate(told["timelines"])
    facts = {
        "name": dataset.meta.name,
        "holds": "timelines",
        "formats": sorted({source.format for source in dataset.meta.records.sources}),
        "subjects": dataset.labels().num_rows,
        "subjects_without_events": told["without_events"],
        "subjects_over_several_files": held.split_over_files,
        "splits": {split: count["subjects"] for split, count in dataset.counts().items()},
        "subjects_without_split": told["without_split"],
        "events": held.events,
        "events_without_time": held.static_events,
        "events_per_subject": _spread(held.events_per_subject),
        "span_days": _spread(held.span_days),
        "codes": len(held.codes),
        "events_by_code": {row.code: row.events for row in held.codes[:_CODES]},
        "subjects_without_code": _missing(held.codes),
        "rows_refused": told["refused"],
        "columns": dataset.labels().column_names,
        "fingerprint": dataset.fingerprint(),
    }
    parts = [_table(storage.join(path, name)) for name in ("events", "subjects")]
    return Inspection(path, "dataset", facts, parts)


def _molecules(path: str, dataset: "MoleculesDataset") -> Inspection:
    """A dataset of molecules: how many stand in which split, and what is known of them."""
    facts = {
        "name": dataset.meta.name,
        "holds": "molecules",
        "molecules": dataset.labels().num_rows,
        "splits": {split: count["items"] for split, count in dataset.counts().items()},
        "scaffolds": {split: count["studies"] for split, count in dataset.counts().items()},
        "standard": dataset.meta.molecules.standard.model_dump(mode="json"),
        "columns": dataset.labels().column_names,
        "fingerprint": dataset.fingerprint(),
    }
    return Inspection(path, "dataset", facts, [_table(storage.join(path, "molecules"))])


def _spread(quantiles: Sequence[float]) -> dict[str, float]:
    names = ("least", "quarter", "median", "three_quarters", "most")
    return dict(zip(names, quantiles, strict=False))


def _missing(codes: "Sequence[CodeRow]") -> dict[str, str]:
    """Share of subjects without a code, of the most frequent ones."""
    return {row.code: f"{row.missing:.0%}" for row in codes[:_CODES]}


def _package(path: str) -> Inspection:
    from medray.manifest import MANIFEST, read_manifest, verify_folder

    manifest = read_manifest(storage.read_bytes(storage.join(path, MANIFEST)), path)
    if storage.is_local(path):
        verify_folder(Path(storage.absolute(path)), manifest, path)
    metrics = json.loads(storage.read_bytes(storage.join(path, "metrics.json")))
    spec = yaml.safe_load(storage.read_bytes(storage.join(path, "spec.yaml")))
    facts = {
        "reference": f"{manifest.name}@{manifest.version}#{manifest.digest[:12]}",
        "workload": manifest.workload,
        "asked": spec["params"],
        "learned_from": _learned_from(manifest),
        "created": manifest.created,
        "evaluated": metrics["evaluation"] is not None,
        "lineage": manifest.lineage,
        "provenance": manifest.provenance,
        "files": len(manifest.files) + len(manifest.evaluation),
        "verified": storage.is_local(path),  # every file against its sha256
    }
    return Inspection(path, "package", facts)


def _learned_from(manifest: "Manifest") -> dict[str, Any]:
    """What its inputs are: pictures of a size, or records of a form with so many names."""
    if manifest.records is None:
        return {} if manifest.pixels is None else {"pixels": manifest.pixels.size}
    formats = sorted({source.format for source in manifest.records.sources})
    return {"records": formats, "codes_and_texts": len(manifest.names)}


def _report(path: str) -> Inspection:
    return Inspection(path, "report", {"page": storage.join(path, "report.html")})


def _generated(path: str) -> Inspection:
    """A folder of generated molecules: what its summary says."""
    told = json.loads(storage.read_bytes(storage.join(path, "summary.json")))
    names = ("package", "way", "kept", "wanted", "drawn", "valid", "novel", "means", "toxicity")
    facts = {name: told[name] for name in names} | {"page": storage.join(path, "gallery.html")}
    return Inspection(path, "molecules", facts, [_table(storage.join(path, "molecules"))])


def _training(path: str) -> Inspection:
    uri = storage.join(path, "history.jsonl")
    lines = storage.read_bytes(uri).decode().splitlines() if storage.exists(uri) else []
    last = json.loads(lines[-1]) if lines else {}
    return Inspection(path, "training", {"epochs": len(lines), "last": last})


def _table(path: str) -> Inspection:
    table = storage.open_table(path)
    names = set(storage.table_schema(path).names)
    facts: dict[str, Any] = {
        "version": table.version(),
        "changed": _changed(table.history(1)),
        "files": len(storage.table_files(path)),
    }
    if {"target", "score", "package"} <= names:
        return Inspection(path, "predictions", facts | _predictions(path))
    if {"path", "sop_instance_uid"} <= names:
        return Inspection(path, "inventory", facts | _inventory(path))
    if {"reason", "row", "file"} <= names:
        return Inspection(path, "refused rows", facts | _refused(path))
    kinds = {"pixels": "images", "numeric_value": "events", "record_sha256": "subjects"}
    kinds |= {"neighbour": "generated molecules"}
    kinds["scaffold"] = "molecules"
    kind = next((kind for name, kind in kinds.items() if name in names), "table")
    return Inspection(path, kind, facts | {"rows": _rows(table)})


def _rows(table: DeltaTable) -> int:
    """Rows, by what the table says of its files."""
    return sum(pa.table(table.get_add_actions(flatten=True))["num_records"].to_pylist())


def _refused(path: str) -> dict[str, Any]:
    rows = storage.read_table(path, ["reason", "code"])
    return {"rows": rows.num_rows, "reasons": _counts(rows, "reason")}


def _meds(path: str) -> Inspection:
    """A folder of the Medical Event Data Standard."""
    names = [uri.removeprefix(storage.absolute(path) + "/") for uri in storage.list_files(path)]
    shards = Counter(name.split("/")[1] for name in names if name.startswith("data/"))
    facts = json.loads(storage.read_bytes(storage.join(path, "metadata/dataset.json")))
    splits = storage.join(path, "metadata/subject_splits.parquet")
    if storage.exists(splits):
        schema = pa.schema([pa.field("split", pa.string())])
        facts["splits"] = _counts(storage.read_parquet([splits], schema), "split")
    labels = sum(name.startswith("labels/") for name in names)
    return Inspection(path, "MEDS", {**facts, "data_files": dict(shards), "label_files": labels})


def _changed(history: list[dict[str, Any]]) -> str | None:
    stamp = history[0].get("timestamp") if history else None
    if not isinstance(stamp, int):
        return None
    return datetime.fromtimestamp(stamp / 1000, UTC).isoformat(timespec="seconds")


def _predictions(path: str) -> dict[str, Any]:
    rows = storage.read_table(path, ["item_id", "study_id", "target", "status", "package", "run"])
    return {
        "rows": rows.num_rows,
        "items": _distinct(rows, "item_id"),
        "studies": _distinct(rows, "study_id"),
        "status": _counts(rows, "status"),
        "targets": _counts(rows, "target"),
        "packages": _counts(rows, "package"),
        "runs": _distinct(rows, "run"),
    }


def _inventory(path: str) -> dict[str, Any]:
    names = ["status", "reason", "kind", "modality", "transfer_syntax_uid", "study_instance_uid"]
    rows = storage.read_table(path, names)
    facts: dict[str, Any] = {"files_seen": rows.num_rows}
    facts |= {name: _counts(rows, name) for name in names[:-1]}
    return facts | {"studies": _distinct(rows, "study_instance_uid")}


def _counts(rows: pa.Table, column: str) -> dict[str, int]:
    found = Counter(v for v in rows[column].to_pylist() if v is not None)
    return dict(found.most_common())


def _distinct(rows: pa.Table, column: str) -> int:
    return len(rows[column].drop_null().unique())


def _archive(path: str) -> Inspection:
    """Count kinds of files; parse the first headers."""
    from medray.dicom.files import parse, sniff
    from medray.dicom.instance import instance_of
    from medray.errors import RejectError

    kinds: Counter[str] = Counter()
    modalities: Counter[str] = Counter()
    syntaxes: Counter[str] = Counter()
    patients: set[str | None] = set()
    studies: set[str | None] = set()
    unreadable = 0
    files = storage.list_files(path) or [path]
    for uri in files:
        data = storage.read_bytes(uri)
        kind = sniff(data[:256])
        kinds[kind] += 1
        if kind == "zip":
            kinds["files inside ZIPs"] += _members(uri)
        if not kind.startswith("dicom") or sum(modalities.values()) >= _SAMPLE:
            continue
        try:
            instance = instance_of(parse(data, stop_before_pixels=True))
        except RejectError:
            unreadable += 1
            continue
        modalities[instance.modality or "none"] += 1
        syntaxes[instance.transfer_syntax_uid or "none"] += 1
        patients.add(instance.patient_id)
        studies.add(instance.study_instance_uid)
    facts = {
        "files": len(files),
        "kinds": dict(kinds.most_common()),
        "headers_parsed": sum(modalities.values()),
        "headers_unreadable": unreadable,
        "modality": dict(modalities.most_common()),
        "transfer_syntax_uid": dict(syntaxes.most_common()),
        "patients": len(patients - {None}),
        "studies": len(studies - {None}),
    }
    return Inspection(path, "archive", facts)


def _members(uri: str) -> int:
    if not storage.is_local(uri):
        return 0
    try:
        with zipfile.ZipFile(storage.absolute(uri)) as archive:
            return sum(not info.is_dir() for info in archive.infolist())
    except zipfile.BadZipFile:
        return 0


_RUN_PARTS = ("inventory", "dataset", "training", "package", "report", "predictions")
_MARKERS: dict[str, Callable[[str], Inspection]] = {
    "dataset.json": _dataset,
    "metadata/dataset.json": _meds,
    "package.json": _package,
    "report.html": _report,
    "gallery.html": _generated,
    "history.jsonl": _training,
}
