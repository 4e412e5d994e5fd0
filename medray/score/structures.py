"""SMILES and files of molecules → scores, in this process: the verb `predict` of such a package."""

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from medray import storage
from medray.errors import Code, RejectError, UsageError
from medray.ingest import structures
from medray.ingest.parts import Row
from medray.molecules.text import as_bytes
from medray.score.molecules import Molecules
from medray.score.prediction import (
    ItemKey,
    MoleculeAnswer,
    MoleculesPrediction,
    Outcome,
    PredictionRow,
    rows_of,
)
from medray.score.predictor import Predictor
from medray.spec.molecules import MoleculeSource, MoleculesSpec
from medray.workload import AtomCredits

if TYPE_CHECKING:
    from medray.molecules.standard import Standard

_ROWS = 1000  # of a file, at once
_FILE = re.compile(r"\.(smi|smiles|csv|tsv|parquet|sdf|sd)(\.gz)?$", re.IGNORECASE)

Scores = Mapping[str, tuple[PredictionRow, ...]]
"""SMILES → its rows."""


class Given(NamedTuple):
    """A row in words, its structure or the code of why there is none; `block`: of an SDF file."""

    words: str
    structure: str | None
    problem: str | None = None
    block: bool = False


class StructureRow(NamedTuple):
    """A row, and what it is or why it is refused."""

    words: str
    standard: "Standard | None"
    reason: Code | None


def predict_molecules(
    predictor: Predictor,
    given: Sequence[str],
    *,
    explain: str | None,
    every: bool,
    source: int | None,
) -> MoleculesPrediction:
    """Score every row of some files, and SMILES themselves; `-`: lines of standard input.

    source  which of the package's `molecules.sources` tables have the form of, from 1; absent: told
            by their columns.
    Raises UsageError for a file that is not there, or that no source describes.
    """
    if every:
        raise UsageError(
            "--all is for tables of patients' records",
            remedy="leave it out: a molecule has no time",
        )
    molecules = Molecules(predictor)
    return answered(molecules, _rows(molecules.spec, given, source), explain)


def answered(
    molecules: Molecules, rows: Iterable[Given], explain: str | None = None
) -> MoleculesPrediction:
    """An answer for every row; `explain`: a folder for structures with what their atoms added."""
    read = [read_row(molecules.spec, one) for one in rows]
    scores = scored(molecules, read)
    drawn = {} if explain is None else _drawn(molecules.predictor, scores, explain)
    return prediction(molecules, read, scores, drawn)


def prediction(
    molecules: Molecules,
    read: Sequence[StructureRow],
    scores: Scores,
    drawn: Mapping[str, str] | None = None,
) -> MoleculesPrediction:
    """What is said of rows, from what is said of their molecules; drawn: SMILES → file."""
    return MoleculesPrediction(
        package=molecules.predictor.package.ref,
        answers=tuple(_answer(one, scores, drawn or {}) for one in read),
        near=frozenset(one.name for one in molecules.predictor.targets if one.kind == "domain"),
    )


def _rows(spec: MoleculesSpec, given: Sequence[str], source: int | None) -> Iterator[Given]:
    for one in given:
        if one == "-":
            lines = [line.split() for line in sys.stdin]
            yield from (Given(words[0], words[0]) for words in lines if words)
        elif _FILE.search(one) or storage.exists(storage.absolute(one)):
            yield from _of_file(spec, one, source)
        else:
            yield Given(one, one)


def _of_file(spec: MoleculesSpec, path: str, source: int | None) -> Iterator[Given]:
    form = _form(spec, path, source)
    alone = spec.model_copy(update={"sources": (form,)})
    for unit in structures.units_of(alone):
        name = unit["uri"].rpartition("/")[2]
        number = 0
        for table in structures.read(unit, form, None, _ROWS):
            columns = (table[column].to_pylist() for column in ("structure", "problem"))
            for structure, problem in zip(*columns, strict=True):
                number += 1
                yield Given(f"{name} row {number}", structure, problem, unit["kind"] == "sdf")


def _form(spec: MoleculesSpec, path: str, source: int | None) -> MoleculeSource:
    """The form of a file: the source that is named, or the first whose column it has."""
    if source is not None and source > len(spec.sources):
        raise UsageError(f"the package has {len(spec.sources)} sources, no number {source}")
    names = dict.fromkeys(one.smiles for one in spec.sources)
    wanted = [spec.sources[source - 1].smiles] if source is not None else [*names]
    forms = [MoleculeSource(path=(path,), smiles=name, columns=()) for name in wanted]
    refused: UsageError | None = None
    for form in forms:
        units: list[Row] = structures.units_of(spec.model_copy(update={"sources": (form,)}))
        try:
            for unit in units:
                structures.require_columns(unit, form)
        except UsageError as error:
            refused = refused or error
            continue
        return form
    raise UsageError(
        f"{path} has none of the columns {', '.join(map(repr, wanted))} that hold SMILES",
        remedy="name the column as in the package's sources, or give a .smi file",
    ) from refused


def read_row(spec: MoleculesSpec, row: Given) -> StructureRow:
    """A row in standard form, or why it has none."""
    from rdkit.rdBase import BlockLogs

    from medray.molecules import standard

    form = standard.from_block if row.block else standard.standardise
    try:
        if row.problem is not None or row.structure is None:
            raise RejectError(Code(row.problem or Code.NO_STRUCTURE))
        with BlockLogs():  # RDKit says of each refused structure what it is
            return StructureRow(row.words, form(row.structure, spec.standard), None)
    except RejectError as reject:
        return StructureRow(row.words, None, reject.code)


def scored(molecules: Molecules, rows: Iterable[StructureRow]) -> Scores:
    """Rows of every different molecule, by its SMILES."""
    found = [one.standard for one in rows if one.standard is not None]
    distinct = {one.smiles: one for one in found}
    keys = {
        smiles: ItemKey(name, name, _short_hash(one.scaffold), name)
        for smiles, one in distinct.items()
        for name in [_short_hash(smiles)]
    }
    names = {key.item_id: smiles for smiles, key in keys.items()}
    told: dict[str, list[PredictionRow]] = {smiles: [] for smiles in distinct}
    for row in molecules.predict(list(keys.values()), list(distinct)):
        told[names[row.item_id]].append(row)
    return {smiles: tuple(each) for smiles, each in told.items()}


def _answer(row: StructureRow, scores: Scores, drawn: Mapping[str, str]) -> MoleculeAnswer:
    if row.standard is None:
        name = _short_hash(row.words)
        key, outcome = ItemKey(name, None, None, name), Outcome((), row.reason)
        return MoleculeAnswer(row.words, None, tuple(rows_of(key, outcome)))
    smiles = row.standard.smiles
    return MoleculeAnswer(row.words, smiles, scores[smiles], drawn.get(smiles))


def _drawn(predictor: Predictor, scores: Scores, folder: str) -> dict[str, str]:
    """SMILES → the file with the structure, atoms coloured by what they added to the answer."""
    from medray.molecules.drawing import svg

    found: dict[str, str] = {}
    for smiles, rows in scores.items():
        if any(row.status != "ok" for row in rows):
            continue
        target, credits = predictor.explain_columns({"smiles": as_bytes([smiles])})
        if not isinstance(credits, AtomCredits):
            raise UsageError(f"{predictor.package.ref} does not explain molecules")
        name = re.sub(r"[^A-Za-z0-9]+", "-", target).strip("-")
        path = Path(folder) / f"{_short_hash(smiles)[:12]}-{name}.svg"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(svg(smiles, credits.atoms[0]), encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{folder} cannot be written: {type(error).__name__}", remedy="name another folder"
            ) from error
        found[smiles] = str(path)
    return found


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
