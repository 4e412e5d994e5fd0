"""The verb `ingest` for molecules: files of structures → a dataset of molecules.

List, cut into chunks, bring into standard form, take duplicates out, split, check, publish. A
killed run goes on where it stopped; unchanged sources cost a listing.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import pyarrow as pa

import medray
from medray import storage
from medray.dataset.columns import Array
from medray.dataset.molecules import MoleculesMeta, read_molecules_meta
from medray.errors import DataError, MedrayError, UsageError
from medray.extras import require
from medray.ingest import molecule_rounds as rounds
from medray.ingest import molecule_splits as splits
from medray.ingest import structures
from medray.ingest.molecule_table import Grouped, duplicates, grouped, properties
from medray.ingest.molecules_summary import MoleculesSummary
from medray.ingest.output import (
    Output,
    attempt,
    clear_staging,
    locked,
    require_ours,
    stored_summary,
)
from medray.ingest.parts import Finished, Row
from medray.ingest.stages import Progress, Stages
from medray.ingest.structures import PROPERTY
from medray.provenance import canonical_sha256, provenance
from medray.schema import MOLECULES, REFUSED_ROWS
from medray.spec.models import RunSpec
from medray.spec.molecules import MoleculesSpec


@dataclass(slots=True)
class _Job:
    """One run: what was asked, where it goes, and what it counted so far."""

    spec: RunSpec
    molecules: MoleculesSpec
    output: Output
    units: list[Row]
    names: list[str]  # of the sources
    identity: str
    stage: Stages
    summary: MoleculesSummary


def ingest_molecules(spec: RunSpec, *, progress: Progress | None = None) -> MoleculesSummary:
    """Bring the dataset of `spec.output_uri` to the state of the sources.

    The summary says whether the rejected share passed its limit; that raises nothing. Raises
    UsageError, OutputConflictError, DataError and LeakError before anything is published.
    """
    started = time.monotonic()
    require("molecules")
    if spec.molecules is None:
        raise UsageError("the spec has no `molecules` section", remedy="add `molecules: …`")
    output = Output(storage.absolute(spec.output_uri))
    names = _source_names(spec.molecules)
    units = structures.units_of(spec.molecules)
    identity = _identity(spec, units)
    stored = _claim(spec.molecules, output)
    if stored is not None and stored.sources_sha256 == identity:
        told = _nothing_to_do(output, started)
        if told is not None:
            clear_staging(output)
            return told
    for unit in units:
        structures.require_columns(unit, spec.molecules.sources[unit["source"]])
    summary = MoleculesSummary()
    stage = Stages(progress, summary.stages_s)
    job = _Job(spec, spec.molecules, output, units, names, identity, stage, summary)
    with locked(output.staging, "ingest"):
        _bring_up(job, started)
        output.remove_staging()
    return summary


def _source_names(molecules: MoleculesSpec) -> list[str]:
    names = [source.name or _stem(source.path[0]) for source in molecules.sources]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UsageError(
            f"two sources are called {', '.join(twice)}", remedy="give each of them a `name`"
        )
    return names


def _stem(path: str) -> str:
    name = path.rstrip("/").rsplit("/", 1)[-1]
    return name.removesuffix(".gz").rsplit(".", 1)[0]


def _identity(spec: RunSpec, units: Sequence[Row]) -> str:
    """Hash of all that the dataset follows from; folds are drawn when it is read."""
    files = [[unit[name] for name in ("file_id", "size", "mtime_ns")] for unit in units]
    split = spec.split.model_dump(exclude={"folds", "fold"})
    versions = [medray.__version__, version("rdkit")]
    return canonical_sha256([*versions, spec.name, spec.molecules, split, files])


def _claim(molecules: MoleculesSpec, output: Output) -> MoleculesMeta | None:
    """Return the stored meta of an output that this spec may go on with; None for a new one."""
    stored = read_molecules_meta(output.dataset)
    if stored is None:
        inputs = [path for source in molecules.sources for path in source.path]
        require_ours(output.uri, inputs, holds="molecules")
    return stored


def _nothing_to_do(output: Output, started: float) -> MoleculesSummary | None:
    summary = stored_summary(output, MoleculesSummary)
    if summary is not None:
        summary.changed_dataset, summary.stages_s = False, {}
        summary.seconds, summary.rows_per_second = round(time.monotonic() - started, 3), 0.0
    return summary


def _bring_up(job: _Job, started: float) -> None:
    """Do the work; nothing is published before the checks."""
    folder = storage.join(job.output.staging, job.identity[:24])
    column = job.spec.split.column
    place = storage.join(folder, "cut")
    cut = rounds.cut(job.units, job.molecules, column, place, job.stage("read", "files"))
    files = sorted(cut.receipts.to_pylist(), key=lambda row: (row["source"], row["file"]))
    kept = _kept_columns(job, files)
    place = storage.join(folder, "standardised")
    tell = job.stage("standardise", "chunks")
    done = rounds.standardise(files, job.molecules, job.spec.split.seed, place, tell)
    job.summary.resumed = done.resumed
    groups = grouped(_made(done, [*kept, *([column] if column else [])]))
    refused = _refused(done, groups)
    _count_rows(job, files, groups, refused)
    table = _table(job, groups, kept)
    job.summary.count_molecules(table, kept)
    tell = job.stage("publish", "molecules")
    tell(0, table.num_rows)
    _publish(job, attempt(folder, job.identity), table, refused)
    job.summary.seconds = round(time.monotonic() - started, 3)
    rate = job.summary.rows / max(job.summary.seconds, 1e-9)
    job.summary.rows_per_second = round(rate, 1)
    _finish(job)
    tell(table.num_rows, table.num_rows)


def _kept_columns(job: _Job, files: Sequence[Row]) -> list[str]:
    """Properties of the dataset, in the order of the sources. Raises UsageError."""
    held: list[dict[str, None]] = [{} for _ in job.names]
    for file in files:
        held[file["source"]].update(dict.fromkeys(file["columns"]))
    column = job.spec.split.column
    for source, name, there in zip(job.molecules.sources, job.names, held, strict=True):
        wanted = [*(source.columns or ()), *([column] if column and not source.split else [])]
        absent = [each for each in wanted if each not in there]
        if absent:
            raise UsageError(
                f"the source {name} has no column {absent[0]!r}",
                remedy=f"it has {', '.join(list(there)[:12]) or 'structures alone'}",
            )
    kept = [name for name in dict.fromkeys(n for there in held for n in there) if name != column]
    clash = sorted(name for name in kept if name.lower() in MOLECULES.names)
    if clash:
        raise UsageError(
            f"the sources have columns that medray uses itself: {', '.join(clash)}",
            remedy="list the wanted `columns` without them, or rename them",
        )
    return kept


def _made(done: Finished, names: Sequence[str]) -> pa.Table:
    """Every row that is a molecule, with these properties as text."""
    extra = [pa.field(PROPERTY + name, pa.string()) for name in names]
    uris = [base + rounds.MOLECULES_SUFFIX for base in sorted(done.bases)]
    return storage.read_parquet(uris, pa.schema([*rounds.MADE, *extra]))


def _refused(done: Finished, groups: Grouped) -> pa.Table:
    """REFUSED_ROWS of all that became no molecule of its own, in the order of the sources."""
    uris = [base + rounds.REFUSED_SUFFIX for base in sorted(done.bases)]
    rows = pa.concat_tables([storage.read_parquet(uris, REFUSED_ROWS), duplicates(groups)])
    return rows.sort_by([(name, "ascending") for name in ("source", "file", "row")])


def _count_rows(job: _Job, files: Sequence[Row], groups: Grouped, refused: pa.Table) -> None:
    """Count; raise MedrayError when rows in are not rows out, DataError when none is a molecule."""
    read = dict.fromkeys(job.names, 0)
    for file in files:
        read[job.names[file["source"]]] += sum(file["chunks"])
    summary = job.summary
    summary.files = len(files)
    summary.count_rows(read, len(groups.starts_N), refused)
    out = summary.molecules + summary.duplicates + sum(summary.refused.values())
    if summary.rows != out:
        raise MedrayError(
            f"{summary.rows} rows went in, {out} came out: nothing was published",
            remedy="this is a defect of medray; use a new output and report it",
        )
    if not summary.molecules:
        named = ", ".join(f"{count} {reason}" for reason, count in summary.refused.items())
        raise DataError(
            f"no row of the sources became a molecule ({named or 'they are empty'})",
            remedy="check `smiles` of the sources, and `standard`",
        )
    summary.over_limit = summary.rejected_share > job.molecules.reject_limit


def _table(job: _Job, groups: Grouped, kept: Sequence[str]) -> pa.Table:
    """MOLECULES and properties, one row per molecule, sorted by item_id."""
    spec = job.spec.split
    fixed = [source.split for source in job.molecules.sources]
    given = splits.assign(groups.rows, groups.starts_N, _told(job, groups), spec)
    job.summary.put_into_several = given.put_into_several
    job.summary.split_by = splits.in_words(spec, job.names, fixed, given.carved)
    first = groups.rows.take(pa.array(groups.starts_N))
    source_N = groups.rows["source"].take(pa.array(given.teller_N)).combine_chunks()
    columns = {
        **{name: first[name] for name in MOLECULES.names if name in first.column_names},
        "subject_id": first["item_id"],
        "source": pa.array(job.names, pa.string()).take(source_N),
        "split": splits.names_of(given.split_N),
        "split_random": splits.names_of(given.random_N),
        "split_scaffold": splits.names_of(given.scaffold_N),
        **properties(groups, kept, job.molecules.duplicates),
    }
    schema = pa.schema([*MOLECULES, *(pa.field(name, columns[name].type) for name in kept)])
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def _told(job: _Job, groups: Grouped) -> Array:
    """What sources, and the split column of the others, say of each row (R,)."""
    fixed = np.array([splits.code(source.split) for source in job.molecules.sources], np.int8)
    told_R = fixed[groups.rows["source"].to_numpy()]
    column = job.spec.split.column
    if column is None or (fixed != splits.NONE).all():
        return told_R
    said_R = splits.told_by_column(groups.rows[PROPERTY + column], column)
    return np.where(told_R == splits.NONE, said_R, told_R)


def _publish(job: _Job, run: str, table: pa.Table, refused: pa.Table) -> None:
    """Make the new state visible; without the last word of `_finish` the folder is no dataset."""
    output = job.output
    storage.remove_tree(storage.join(output.dataset, "dataset.json"))
    storage.replace_table(output.molecules, table, run, 1)
    storage.replace_table(output.refused, refused, run, 1)


def _finish(job: _Job) -> None:
    text = json.dumps(job.summary.to_dict(), indent=2) + "\n"
    storage.write_atomic(job.output.summary, text.encode())
    meta = MoleculesMeta(
        name=job.spec.name,
        molecules=job.molecules,
        split_by=job.spec.split.by,
        sources_sha256=job.identity,
        provenance=provenance(),
    )
    data = (meta.model_dump_json(indent=2) + "\n").encode()
    storage.write_atomic(storage.join(job.output.dataset, "dataset.json"), data)
