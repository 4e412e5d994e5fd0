"""A spec for the user's own archive and label table, guessed from the table and shown to them."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medray.errors import UsageError
from medray.spec.models import RunSpec

_KEYS = (
    "sop_instance_uid",
    "series_instance_uid",
    "study_instance_uid",
    "accession_number",
    "patient_id",
)
_SPLIT_COLUMNS = ("split", "fold", "set")
_ENOUGH = 2  # classes


def own_spec(output: Path, archive: str, labels: str | None) -> RunSpec:
    """A run over `archive`, with what to join and to predict read off the header of `labels`.

    Raises UsageError when no key or no label column can be recognised.
    """
    tables: list[dict[str, Any]] = []
    params: dict[str, Any] = {"network": "conv3", "dropout": 0.2}
    split: dict[str, Any] = {}
    if labels is None:
        tree = {"task": "multiclass", "label": "class_folder"}
        params |= tree
    else:
        header, rows = _read(Path(labels))
        key = _key(header, labels)
        label, classes = _label(header, rows, key, labels)
        tables.append({"path": labels, "on": _normal(key), "key": key})
        params["label"] = label
        params["task"] = "binary" if set(classes) <= {"0", "1"} else "multiclass"
        if params["task"] == "multiclass":
            params["classes"] = sorted(classes)
        column = next((c for c in header if c.lower() in _SPLIT_COLUMNS), None)
        split = {"column": column} if column else {}
    return RunSpec.model_validate(
        {
            "name": "own",
            "output": str(output),
            "ingest": {
                "archive": archive,
                "pixels": {"size": (64, 64)},
                "tables": tables,
                "reject_limit": 0.2,
            },
            "split": split,
            "params": params,
            "train": {
                "epochs": 25,
                "batch_size": 32,
                "early_stopping": {"patience": 10},
                "schedule": {"warmup_epochs": 1},
            },
        }
    )


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    if not path.is_file():
        raise UsageError(f"there is no label table {path}", remedy="give a CSV file with a header")
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        rows = list(reader)
        return list(reader.fieldnames or []), rows


def _normal(column: str) -> str:
    """`StudyInstanceUID`, `study_instance_uid`, `Study Instance UID` → study_instance_uid."""
    plain = "".join(c for c in column.lower() if c.isalnum())
    return next((key for key in _KEYS if key.replace("_", "") == plain), "")


def _key(header: Sequence[str], labels: str) -> str:
    found = {_normal(column): column for column in header if _normal(column)}
    for key in _KEYS:  # the most specific one joins exactly
        if key in found:
            return found[key]
    raise UsageError(
        f"no column of {labels} names what a row belongs to",
        remedy=f"call one column {', '.join(_KEYS[:-1])} or {_KEYS[-1]}",
    )


def _label(
    header: Sequence[str], rows: list[dict[str, str]], key: str, labels: str
) -> tuple[str, set[str]]:
    """The first column with two to twenty values that is no key, split or hash."""
    for column in header:
        if column == key or _normal(column) or column.lower() in _SPLIT_COLUMNS:
            continue
        values = {row[column].strip() for row in rows} - {""}
        if _ENOUGH <= len(values) <= 20 < len(rows):
            return column, values
    raise UsageError(
        f"no column of {labels} looks like a label",
        remedy="a label column has 2 to 20 different values over more than 20 rows; "
        "otherwise write a spec (copy jobs/demo/spec.yaml)",
    )
