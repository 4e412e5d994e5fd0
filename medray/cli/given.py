"""Files of a command line as questions to a service: MEDS rows, FHIR, SMILES."""

import csv
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from medray.errors import Code, UsageError

_MEDS = ("subject_id", "time", "code", "numeric_value", "text_value")  # MEDS 0.4
_FILE = re.compile(r"\.(smi|smiles|csv|tsv|parquet|sdf|sd)(\.gz)?$", re.IGNORECASE)
_ROWS = 1000


class Row(NamedTuple):
    """A molecule in words, its SMILES or the code of why there is none."""

    words: str
    structure: str | None
    problem: str | None = None


def molecules(given: Sequence[str]) -> list[Row]:
    """SMILES, files of them (.smi, .csv, .parquet), or `-`: lines of standard input.

    Raises UsageError for a file that is not there, or of a form that a service does not take.
    """
    rows: list[Row] = []
    for one in given:
        if one == "-":
            lines = [line.split() for line in sys.stdin]
            rows += [Row(words[0], words[0]) for words in lines if words]
        elif _FILE.search(one) or Path(one).exists():
            rows += _of_file(one)
        else:
            rows.append(Row(one, one))
    return rows


def _of_file(path: str) -> Iterator[Row]:
    from medray.ingest import structures
    from medray.spec.molecules import MoleculeSource, MoleculesSpec

    form = MoleculeSource(path=(path,), columns=())
    for unit in structures.units_of(MoleculesSpec(sources=(form,))):
        if unit["kind"] == "sdf":
            raise UsageError(
                f"{path}: a service takes SMILES", remedy="write the structures as a .smi file"
            )
        structures.require_columns(unit, form)
        name, number = unit["uri"].rpartition("/")[2], 0
        for table in structures.read(unit, form, None, _ROWS):
            for row in table.select(["structure", "problem"]).to_pylist():
                number += 1
                there = row["structure"] is not None or row["problem"] is not None
                problem = row["problem"] if there else str(Code.NO_STRUCTURE)
                structure = row["structure"] if row["problem"] is None else None
                yield Row(f"{name} row {number}", structure, problem)


def records(files: Sequence[str]) -> dict[str, Any]:
    """Arguments of `Client.predict`: tables of MEDS rows, or one JSON file (FHIR, or a question).

    Raises UsageError for other files.
    """
    if len(files) == 1 and files[0].lower().endswith(".json"):
        content = _json(files[0])
        if content.get("resourceType") == "Bundle":
            return {"bundle": content}
        if set(content) <= {"events", "prediction_times"} and "events" in content:
            return content
        raise UsageError(f"{files[0]} is neither a FHIR Bundle nor has `events`", remedy=_REMEDY)
    return {"events": [row for file in files for row in _meds(file)]}


_REMEDY = (
    "give CSV or Parquet tables of MEDS rows (subject_id, time, code, numeric_value, text_value), "
    "or one JSON file"
)


def _json(file: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(file).read_bytes())
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", remedy=_REMEDY) from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UsageError(f"{file} holds no JSON object", remedy=_REMEDY)
    return content


def _meds(file: str) -> Iterator[dict[str, Any]]:
    try:
        rows = _parquet(file) if file.lower().endswith(".parquet") else _csv(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", remedy=_REMEDY) from None
    for row in rows:
        kept = {name: row[name] for name in _MEDS if not _missing(row.get(name))}
        if "subject_id" not in kept or "code" not in kept:
            raise UsageError(f"{file} has a row without subject_id or code", remedy=_REMEDY)
        yield kept


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _parquet(file: str) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(file).to_pylist()
    except pa.ArrowInvalid:
        raise UsageError(f"{file} is no Parquet file", remedy=_REMEDY) from None


def _csv(file: str) -> list[dict[str, Any]]:
    with open(file, newline="", encoding="utf-8-sig") as lines:
        rows = list(csv.DictReader(lines))
    return [_typed({name: value or None for name, value in row.items()}, file) for row in rows]


def _typed(row: dict[str, Any], file: str) -> dict[str, Any]:
    """Numbers as numbers; a time that is one counts from the patient's own start."""
    try:
        if row.get("numeric_value") is not None:
            row["numeric_value"] = float(row["numeric_value"])
    except ValueError:
        raise UsageError(
            f"{file}: numeric_value is no number", remedy="texts stand in text_value"
        ) from None
    with suppress(ValueError):  # a date, which the service reads
        row["time"] = None if row.get("time") is None else float(row["time"])
    return row
