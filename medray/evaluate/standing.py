"""What stands in every report, whatever was measured: openings, learning curves, provenance."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from medray import storage
from medray.package import Package
from medray.provenance import provenance
from medray.report.document import History, Opening, Provenance
from medray.spec.load import spec_sha256
from medray.spec.models import RunSpec


def record_opening(spec: RunSpec, package: Package) -> tuple[Opening, ...]:
    """Add this look at `held_out` to the list, and return all of it."""
    uri = storage.join(spec.output_uri, "report", "openings.jsonl")
    before = storage.read_bytes(uri) if storage.exists(uri) else b""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    opening = Opening(time=now, package=package.digest)
    after = before + opening.model_dump_json().encode() + b"\n"
    storage.write_atomic(uri, after)
    return tuple(Opening.model_validate_json(line) for line in after.splitlines() if line.strip())


def history_of(records: Sequence[Mapping[str, Any]]) -> History | None:
    """Learning curves of a training's history: its loss, and every metric measured on tuning.

    `records`: one per epoch with `epoch`, `loss`, `tuning_<metric>` and `best_epoch`.
    """
    if not records:
        return None
    names = dict.fromkeys(n for record in records for n in record if n.startswith("tuning_"))
    series = {"training loss": tuple(record.get("loss") for record in records)} | {
        name.replace("_", " "): tuple(record.get(name) for record in records) for name in names
    }
    return History(
        epochs=tuple(int(record["epoch"]) for record in records),
        best_epoch=records[-1].get("best_epoch"),
        series=series,
    )


def provenance_of(spec: RunSpec, package: Package, fingerprint: str) -> Provenance:
    """Package, data, spec and software behind a report, as of now."""
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        package=package.ref,
        package_digest=package.digest,
        data_fingerprint=fingerprint,
        spec_sha256=spec_sha256(spec),
        software=provenance(),
        lineage=package.lineage,
    )
