"""The verb `ingest` for molecules: files of structures → a dataset of molecules.

List, cut into chunks, bring into standard form, take duplicates out, split, check, publish. A killed
run goes on where it stopped; unchanged sources cost a listing.
"""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import medray
from medray import storage
from medray.dataset.columns import Array
from medray.dataset.molecules import MoleculesMeta, read_molecules_meta
from medray.errors import Code, DataError, LeakError, MedrayError, UsageError
from medray.ingest import molecule_rounds as rounds
from medray.ingest import molecule_splits, structures
from medray.ingest.molecule_table import Grouped, duplicates, grouped, properties
from medray.ingest.molecules_summary import MoleculesSummary, SourceCounts
from medray.ingest.output import (
    Output,
    attempt,
    clear_staging,
    locked,
    require_ours,
    stored_summary,
)
from medray.ingest.parts import Finished, Row
from medray.ingest.scan import split_of_folder
from medray.ingest.stages import Progress, Stages
from medray.ingest.structures import PROPERTY
from medray.molecules.extra import require
from medray.provenance import canonical_sha256, provenance
from medray.schema import MOLECULES, REFUSED_ROWS
from medray.spec.models import SPLITS, RunSpec
from medray.spec.molecules import MoleculesSpec

compute: Any = pc


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
    require()
    if spec.molecules is None:
        raise UsageError("the spec has no `molecules` section", remedy="add `molecules: …`")
    output = Output(storage.absolute(spec.output_uri))
    names = _source_names(spec.molecules)
    units = structures.units_of(spec.molecules)
    identity = _identity(spec, units)
    stored = read_molecules_meta(output.dataset)
    if stored is None:
        inputs = [path for source in spec.molecules.sources for path in source.path]
        require_ours(output.uri, inputs, holds="molecules")
    elif stored.sources_sha256 == identity:
        told = stored_summary(output, MoleculesSummary)
        if told is not None:
            clear_staging(output)
            told.changed_dataset, told.stages_s = False, {}
            told.seconds, told.molecules_per_second = round(time.monotonic() - started, 3), 0.0
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
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(
            f"two sources are called {twice[0]!r}", remedy="give each of them a `name`"
        )
    return names


def _stem(path: str) -> str:
    name = path.rstrip("/").rsplit("/", 1)[-1]
    return name.removesuffix(".gz").rsplit(".", 1)[0]


def _identity(spec: RunSpec, units: Sequence[Row]) -> str:
    files = [[unit[name] for name in ("file_id", "size", "mtime_ns")] for unit in units]
    split = spec.split.model_dump(exclude={"folds", "fold"})
    return canonical_sha256(
        [medray.__version__, version("rdkit"), spec.molecules, split, files]
    )


def _bring_up(job: _Job, started: float) -> None:
    """Do the work; nothing is published before the checks."""
    folder = storage.join(job.output.staging, job.identity[:24])
    column = job.spec.split.column
    cut = rounds.cut(
        job.units,
        job.molecules,
        column,
        storage.join(folder, "cut"),
        job.stage("read", "files"),
    )
    files = sorted(cut.receipts.to_pylist(), key=lambda row: (row["source"], row["file"]))
    kept = _kept_columns(job, files)
    done = rounds.standardise(
        files,
        job.molecules,
        job.spec.split.seed,
        storage.join(folder, "standardised"),
        job.stage("standardise", "chunks"),
    )
    tell = job.stage("publish", "molecules")
    tell(0, sum(done.receipts["molecules"].to_pylist()))
    groups = grouped(_read_made(done, [*kept, *([column] if column else [])]))
    refused = _refused(done, groups)
    _count_rows(job, files, done, groups, refused)
    table = _table(job, groups, kept)
    _count_molecules(job, table, kept)
    job.summary.sources = _count_sources(job, files, table, refused)
    _publish(job, attempt(folder, job.identity), table, refused)
    job.summary.resumed = done.resumed
    job.summary.seconds = round(time.monotonic() - started, 3)
    rate = job.summary.molecules / max(job.summary.seconds, 1e-9)
    job.summary.molecules_per_second = round(rate, 1)
    _finish(job)
    tell(table.num_rows, table.num_rows)


# ---------------------------------------------------------------- columns


def _kept_columns(job: _Job, files: Sequence[Row]) -> list[str]:
    """Properties of the dataset, in the order of the sources. Raises UsageError."""
    held: list[dict[str, None]] = [{} for _ in job.molecules.sources]
    for file in files:
        held[file["source"]].update(dict.fromkeys(file["columns"]))
    column = job.spec.split.column
    for source, name, there in zip(job.molecules.sources, job.names, held, strict=True):
        wanted = [*(source.columns or ()), *([column] if column and source.split is None else [])]
        for each in wanted:
            if each not in there:
                raise UsageError(
                    f"the source {name} has no column {each!r}",
                    remedy=f"it has {', '.join(list(there)[:12]) or 'none but the structures'}",
                )
    kept = [name for name in dict.fromkeys(n for there in held for n in there) if name != column]
    clash = sorted({*kept} & {*MOLECULES.names})
    if clash:
        raise UsageError(
            f"the sources have columns that medray uses itself: {', '.join(clash)}",
            remedy="list the wanted `columns` without them, or rename them",
        )
    return kept


def _read_made(done: Finished, properties: Sequence[str]) -> pa.Table:
    extra = [pa.field(PROPERTY + name, pa.string()) for name in properties]
    uris = [base + rounds.MOLECULES_SUFFIX for base in sorted(done.bases)]
    return storage.read_parquet(uris, pa.schema([*rounds.MADE, *extra]))


def _table(job: _Job, groups: Grouped, kept: Sequence[str]) -> pa.Table:
    """MOLECULES and properties, one row per molecule, sorted by item_id."""
    spec = job.spec.split
    first = groups.rows.take(pa.array(groups.starts_N))
    draw_N = first["draw"].to_numpy()
    random_N = molecule_splits.by_draw(draw_N, spec.fractions)
    scaffold_N = molecule_splits.by_scaffold(first["scaffold"], spec.fractions, spec.seed)
    drawn_N = scaffold_N if spec.by == "scaffold" else random_N
    split_N, teller_N = _splits(job, groups, draw_N, drawn_N)
    source_N = groups.rows["source"].take(pa.array(teller_N)).combine_chunks()
    columns = {
        **{name: first[name] for name in MOLECULES.names if name in first.column_names},
        "subject_id": first["item_id"],
        "source": pa.array(job.names, pa.string()).take(source_N),
        "split": molecule_splits.names_of(split_N),
        "split_random": molecule_splits.names_of(random_N),
        "split_scaffold": molecule_splits.names_of(scaffold_N),
        **properties(groups, kept, job.molecules.duplicates),
    }
    types = [pa.field(name, columns[name].type) for name in kept]
    schema = pa.schema([*MOLECULES, *types])
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


# ---------------------------------------------------------------- splits


def _splits(job: _Job, groups: Grouped, draw_N: Array, drawn_N: Array) -> tuple[Array, Array]:
    """Index into SPLITS of every molecule (N,): what sources or the column say, else the draw.

    And the row (N,) that it has this from.
    """
    spec = job.spec.split
    fixed = np.array([_code(source.split) for source in job.molecules.sources], np.int8)
    declared_R = fixed[groups.rows["source"].to_numpy()]
    carved = False
    if spec.column is not None:
        said_R = _of_column(groups.rows[PROPERTY + spec.column], spec.column)
        declared_R = np.where(declared_R == molecule_splits.NONE, said_R, declared_R)
    found_N, torn_N = molecule_splits.declared(declared_R, groups.starts_N)
    job.summary.two_splits = int(torn_N.sum())
    if torn_N.any() and spec.identical_images == "fail":
        raise LeakError(
            f"{int(torn_N.sum())} of {len(torn_N)} molecules stand in more than one split",
            remedy="set split.identical_images: drop to leave them in the first of held_out, "
            "tuning and train alone, or correct the sources",
        )
    teller_N = molecule_splits.tellers(declared_R, found_N, groups.starts_N)
    nowhere_N = found_N == molecule_splits.NONE
    if spec.column is None:
        found_N[nowhere_N] = drawn_N[nowhere_N]
    elif not (declared_R == _code("tuning")).any() and spec.tuning_share > 0:
        carved = True
        found_N[(found_N == _code("train")) & (draw_N < spec.tuning_share)] = _code("tuning")
    job.summary.split_by = _how(job, carved=carved)
    return found_N, teller_N


def _code(split: str | None) -> int:
    return molecule_splits.NONE if split is None else SPLITS.index(split)


def _of_column(column: pa.ChunkedArray, name: str) -> Array:
    """Index into SPLITS of every row (R,). Raises DataError for values that name no split."""
    coded = compute.dictionary_encode(pa.concat_arrays(column.chunks))
    names = [split_of_folder(value) for value in coded.dictionary.to_pylist()]
    if None in names or not names:
        raise DataError(
            f"the split column {name!r} holds {names.count(None)} values that name no split"
            if names
            else f"the split column {name!r} is empty for every molecule",
            remedy="it must hold train, tuning (or val, validation) and held_out (or test)",
        )
    codes = np.array([_code(each) for each in names], np.int8)
    index_R = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.where(index_R < 0, np.int8(molecule_splits.NONE), codes[index_R])


def _how(job: _Job, *, carved: bool) -> str:
    spec = job.spec.split
    fixed = [n for n, s in zip(job.names, job.molecules.sources, strict=True) if s.split]
    said = [f"{', '.join(fixed)} by source"] if fixed else []
    if len(fixed) == len(job.names):
        return said[0]
    if spec.column is not None:
        said.append(f"by the column {spec.column}")
        if carved:
            said.append(f"it names no tuning, so {spec.tuning_share:.0%} of train became it")
        return "; ".join(said)
    fractions: dict[str, float] = {**spec.fractions}
    shares = ", ".join(f"{name} {fractions.get(name, 0):g}" for name in SPLITS)
    way = "whole scaffolds" if spec.by == "scaffold" else "molecules"
    return "; ".join([*said, f"{way} drawn by seed {spec.seed} ({shares})"])


# ---------------------------------------------------------------- counting


def _refused(done: Finished, groups: Grouped) -> pa.Table:
    """REFUSED_ROWS of all that became no molecule of its own, in the order of the sources."""
    uris = [base + rounds.REFUSED_SUFFIX for base in sorted(done.bases)]
    rows = pa.concat_tables([storage.read_parquet(uris, REFUSED_ROWS), duplicates(groups)])
    return rows.sort_by([(name, "ascending") for name in ("source", "file", "row")])


def _count_rows(
    job: _Job, files: Sequence[Row], done: Finished, groups: Grouped, refused: pa.Table
) -> None:
    """Fill what is about rows. Raises MedrayError when rows in are not rows out."""
    summary = job.summary
    counted = compute.value_counts(refused["reason"].combine_chunks()).to_pylist()
    reasons = {one["values"]: one["counts"] for one in counted}
    summary.duplicates = reasons.pop(str(Code.DUPLICATE_MOLECULE), 0)
    summary.refused = dict(sorted(reasons.items()))
    summary.rows = sum(sum(file["chunks"]) for file in files)
    summary.files = len(files)
    summary.molecules = len(groups.starts_N)
    out = summary.molecules + refused.num_rows
    if summary.rows != out:
        raise MedrayError(
            f"{summary.rows} rows went in, {out} came out: nothing was published",
            remedy="this is a defect of medray; use a new output and report it",
        )
    if not summary.molecules:
        named = ", ".join(f"{count} {reason}" for reason, count in summary.refused.items())
        raise DataError(
            f"no row of the sources became a molecule ({named or 'they are empty'})",
            remedy="check `smiles` of the sources and `standard`",
        )
    strict = sum(summary.refused.values())
    summary.rejected_share = strict / (summary.rows - summary.duplicates)
    summary.over_limit = summary.rejected_share > job.molecules.reject_limit


def _count_molecules(job: _Job, table: pa.Table, kept: Sequence[str]) -> None:
    summary = job.summary
    summary.scaffolds = compute.count_distinct(table["study_id"]).as_py()
    for split in SPLITS:
        rows = table.filter(compute.equal(table["split"], split))
        scaffolds = compute.count_distinct(rows["study_id"]).as_py()
        summary.splits[split] = {"items": rows.num_rows, "scaffolds": scaffolds}
    summary.without_split = table["split"].null_count
    summary.known = {name: table.num_rows - table[name].null_count for name in kept}
    summary.text = tuple(name for name in kept if pa.types.is_string(table[name].type))
    spread = np.quantile(table["heavy_atoms"].to_numpy(), [0, 0.25, 0.5, 0.75, 1])
    summary.heavy_atoms = tuple(spread.tolist())


def _count_sources(
    job: _Job, files: Sequence[Row], table: pa.Table, refused: pa.Table
) -> dict[str, SourceCounts]:
    rows = Counter[str]()
    for file in files:
        rows[job.names[file["source"]]] += sum(file["chunks"])
    again = refused.filter(compute.equal(refused["reason"], str(Code.DUPLICATE_MOLECULE)))
    twice = np.bincount(again["source"].to_numpy(), minlength=len(job.names))
    out = np.bincount(refused["source"].to_numpy(), minlength=len(job.names))
    counted = compute.value_counts(table["source"].combine_chunks()).to_pylist()
    made = {one["values"]: one["counts"] for one in counted}
    return {
        name: SourceCounts(rows[name], made.get(name, 0), int(twice[i]), int(out[i] - twice[i]))
        for i, name in enumerate(job.names)
    }


# ---------------------------------------------------------------- publishing


def _publish(job: _Job, run: str, table: pa.Table, refused: pa.Table) -> None:
    """Make the new state visible; `_finish` says the last word, without which there is none."""
    output = job.output
    storage.remove_tree(storage.join(output.dataset, "dataset.json"))
    storage.replace_table(storage.join(output.dataset, "molecules"), table, run, 1)
    storage.replace_table(storage.join(output.inventory, "refused"), refused, run, 1)


def _finish(job: _Job) -> None:
    text = json.dumps(job.summary.to_dict(), indent=2) + "\n"
    storage.write_atomic(job.output.summary, text.encode())
    meta = MoleculesMeta(
        name=job.spec.name,
        molecules=job.molecules,
        sources_sha256=job.identity,
        provenance=provenance(),
    )
    data = (meta.model_dump_json(indent=2) + "\n").encode()
    storage.write_atomic(storage.join(job.output.dataset, "dataset.json"), data)
