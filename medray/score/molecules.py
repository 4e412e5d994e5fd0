"""Molecules → scores: structures in the package's standard form, handed to the Predictor.

Predicts in this process for the verb `predict`, and in the night: tables are read anew into
staging, and a molecule that this package has scored is not scored again, in whatever row or file it
comes. A refused row is one of its file, and looked at again when that changes.

Shapes: N molecules.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from medray import storage
from medray.errors import PackageError, UsageError
from medray.extras import require
from medray.ingest import molecule_rounds as rounds
from medray.ingest import structures
from medray.ingest.parts import IN_PROCESS_ROWS, Key
from medray.molecules.text import as_bytes
from medray.provenance import canonical_sha256
from medray.schema import PREDICTIONS, REFUSED_ROWS
from medray.score import chunks
from medray.score.night import Found, Night, with_run
from medray.score.pool import rows_on_ray
from medray.score.prediction import ItemKey, PredictionRow, rows_of
from medray.score.predictor import Predictor
from medray.score.stages import SCORED, Job, chunk_name
from medray.spec.molecules import MoleculesSpec

_BATCHES = 32  # of molecules in one task


class Molecules:
    """What a package says of molecules. Raises PackageError for a package of something else.

    spec  how structures are read and brought into standard form: the package's own.
    """

    def __init__(self, predictor: Predictor) -> None:
        require("molecules")
        spec = predictor.package.molecules
        if spec is None or not predictor.targets:
            raise PackageError(
                f"{predictor.package.ref} predicts nothing of molecules",
                remedy="name a package of the workload `toxicity`",
            )
        self.predictor = predictor
        self.spec: MoleculesSpec = spec

    def predict(self, keys: Sequence[ItemKey], smiles: Sequence[str]) -> list[PredictionRow]:
        """Rows of molecules in standard form, in order: one per score, or a rejected one."""
        if not smiles:
            return []
        outcomes = self.predictor.predict_columns({"smiles": as_bytes(smiles)})
        pairs = zip(keys, outcomes, strict=True)
        return [row for key, outcome in pairs for row in rows_of(key, outcome)]


@dataclass(frozen=True, slots=True)
class Structure:
    """One molecule, or a row that is none (`reason`). Its key changes when its score may."""

    key: Key
    smiles: str = ""
    study_id: str = ""
    reason: str = ""


def find(night: Night) -> Found:
    """Read the files; every molecule in them once. Raises UsageError without files."""
    require("molecules")
    spec = _settings(night)
    units = structures.units_of(spec)
    for unit in units:
        structures.require_columns(unit, spec.sources[unit["source"]])
    files = [[unit[name] for name in ("file_id", "size", "mtime_ns")] for unit in units]
    identity = canonical_sha256([spec, files])[:24]
    folder = storage.join(night.places.staging, "read", identity)
    place, tell = storage.join(folder, "cut"), night.stage("read", "files")
    cut = rounds.cut(units, spec, None, place, tell).receipts.to_pylist()
    place, tell = storage.join(folder, "standardised"), night.stage("standardise", "chunks")
    done = rounds.standardise(cut, spec, 0, place, tell)
    versions = {(unit["source"], unit["file"]): unit for unit in units}
    found = [*_molecules(done.bases), *_refused(done.bases, versions)]
    return Found(found, {"unit": "molecules"})


def _settings(night: Night) -> MoleculesSpec:
    """The package's settings, over the files of this night; properties are not read."""
    own, asked = night.package.molecules, night.section.molecules
    if asked is None and night.spec.molecules is not None:
        asked = night.spec.molecules.sources
    if own is None or not asked:
        raise UsageError(
            "there is nothing to score", remedy="name the files as `score.molecules` in the spec"
        )
    plain = tuple(source.model_copy(update={"columns": ()}) for source in asked)
    return own.model_copy(update={"sources": plain})


def _molecules(bases: Sequence[str]) -> Iterator[Structure]:
    uris = [base + rounds.MOLECULES_SUFFIX for base in sorted(bases)]
    table = storage.read_parquet(uris, rounds.MADE)
    columns = (table[name].to_pylist() for name in ("item_id", "study_id", "smiles", "heavy_atoms"))
    seen: set[str] = set()
    for item_id, study_id, smiles, atoms in zip(*columns, strict=True):
        if item_id not in seen:
            seen.add(item_id)
            yield Structure((item_id, atoms, 0), smiles, study_id)


def _refused(
    bases: Sequence[str], versions: Mapping[Any, Mapping[str, Any]]
) -> Iterator[Structure]:
    uris = [base + rounds.REFUSED_SUFFIX for base in sorted(bases)]
    for row in storage.read_parquet(uris, REFUSED_ROWS).to_pylist():
        unit = versions[row["source"], row["file"]]
        key = (f"{unit['file_id']}-{row['row']}", unit["size"], unit["mtime_ns"])
        yield Structure(key, reason=row["reason"])


def work(night: Night, todo: Sequence[Structure], run: str) -> tuple[pa.Table, int]:
    """All rows of this run, and the number of molecules that an interrupted one had finished."""
    molecules = [one for one in todo if not one.reason]
    wanted = {one.key for one in molecules}
    folder = storage.join(night.places.staging, "chunks")
    complete = chunks.clean(folder, wanted)
    done, tell = len(complete), night.stage("score", "molecules")
    tell(done, len(molecules))
    for written in _run([one for one in molecules if one.key not in complete], night, folder):
        done += written.num_rows
        tell(done, len(molecules))
    refused = [_refused_row(one, night.package.ref) for one in todo if one.reason]
    scored = chunks.collect(folder, wanted)
    table = pa.concat_tables([scored, pa.Table.from_pylist(refused, schema=PREDICTIONS)])
    return with_run(table, run), len(complete)


def _refused_row(one: Structure, ref: str) -> dict[str, Any]:
    name, size, mtime_ns = one.key
    return {
        "item_id": name,
        "file_id": name,
        "size": size,
        "mtime_ns": mtime_ns,
        "status": "rejected",
        "reason": one.reason,
        "package": ref,
        "run": "",
        "prediction_time": datetime.now(UTC),
    }


def _run(rest: Sequence[Structure], night: Night, folder: str) -> Iterator[pa.Table]:
    """Do the work: in this process when it is little, else on Ray."""
    if not rest:
        return
    size = night.section.batch_size
    share = -(-len(rest) // night.section.actors)  # every actor has work
    each = max(size, min(_BATCHES * size, share))
    tasks = [
        {
            "molecules": json.dumps([asdict(one) for one in rest[at : at + each]]),
            "batch_size": size,
        }
        for at in range(0, len(rest), each)
    ]
    job = Job(night.package.uri, night.package.ref, folder, night.device, night.task)
    if len(rest) > IN_PROCESS_ROWS or os.environ.get("RAY_ADDRESS"):
        yield from rows_on_ray(tasks, MoleculeScorer, job, night.section)
        return
    scorer = MoleculeScorer(job)
    for task in tasks:
        yield from scorer.chunks(task)


class MoleculeScorer:
    """A loaded model that turns molecules into chunk files."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._molecules = Molecules(Predictor(job.package_uri, job.device, job.task))

    def __call__(self, plan: pa.Table) -> Iterator[pa.Table]:
        """Score and write; gives file_id and file_items of the molecules, for progress."""
        for task in plan.to_pylist():
            yield from self.chunks(task)

    def chunks(self, task: Mapping[str, Any]) -> Iterator[pa.Table]:
        """Score the molecules of one task; every `batch_size` of them are a chunk."""
        every = [
            Structure(tuple(one["key"]), one["smiles"], one["study_id"])
            for one in json.loads(task["molecules"])
        ]
        for at in range(0, len(every), task["batch_size"]):
            some = every[at : at + task["batch_size"]]
            table = self._scored(some)
            storage.write_parquet(storage.join(self._job.folder, chunk_name(table)), table)
            names = pa.array([one.key[0] for one in some], pa.string())
            yield pa.table({"file_id": names, "file_items": pa.array([1] * len(some), pa.int32())})

    def _scored(self, some: Sequence[Structure]) -> pa.Table:
        """Rows of SCORED."""
        now = datetime.now(UTC)
        keys = [
            ItemKey(name, name, one.study_id, name, prediction_time=now)
            for one in some
            for name in [one.key[0]]
        ]
        found = self._molecules.predict(keys, [one.smiles for one in some])
        versions = {one.key[0]: {"size": one.key[1], "mtime_ns": one.key[2]} for one in some}
        # The run is named when it is published: another one may finish this one's work.
        ours = {"package": self._job.package, "run": "", "file_items": 1}
        rows = [asdict(row) | versions[row.file_id] | ours for row in found]
        return pa.Table.from_pylist(rows, schema=SCORED)
