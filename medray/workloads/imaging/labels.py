"""Label columns → numbers. Missing is NaN (binary) or -1 (multi-class); nothing else is.

Shapes: B items, L label columns.
"""

from typing import Any

import numpy as np

from medray.errors import DataError
from medray.workload import Columns
from medray.workloads.imaging.params import ImagingParams

Array = np.ndarray[Any, Any]


def truth_of(columns: Columns, params: ImagingParams) -> dict[str, Array]:
    """Column → (B,) float64 of 0, 1, NaN (binary) or int64 of class index, -1 (multi-class).

    Raises DataError for an absent column and for values that the task does not know.
    """
    found: dict[str, Array] = {}
    for name in params.columns:
        if name not in columns:
            raise DataError(
                f"the dataset has no label column {name!r}",
                remedy="name it in `params`, or join the table that holds it in `ingest.tables`",
            )
        values = np.asarray(columns[name])
        found[name] = (
            _classes(name, values, params.classes)
            if params.task == "multiclass"
            else _binary(name, values, params.positive)
        )
    return found


def _binary(name: str, values: Array, positive: str | None) -> Array:
    if values.dtype != object and values.dtype.kind in "bif" and positive is None:
        numbers = values.astype(np.float64)
    else:
        numbers = np.array([_binary_value(value, positive) for value in values], dtype=np.float64)
    wrong = ~(np.isnan(numbers) | (numbers == 0) | (numbers == 1))
    if wrong.any():
        raise DataError(
            f"the label column {name!r} holds other values than 0 and 1",
            remedy="say which text means yes in `params.positive`, or use task: multiclass",
        )
    return numbers


def _binary_value(value: object, positive: str | None) -> float:
    if _missing(value):
        return np.nan
    if positive is not None:
        return float(_text(value) == positive)
    try:
        return float(_text(value))
    except ValueError:
        return np.inf  # refused by the caller


def _classes(name: str, values: Array, classes: tuple[str, ...]) -> Array:
    index = {text: number for number, text in enumerate(classes)}
    texts = [None if _missing(value) else _text(value) for value in values]
    unknown = sorted({text for text in texts if text is not None and text not in index})
    if unknown:
        raise DataError(
            f"{len(unknown)} values of the label column {name!r} are not in `params.classes`, "
            f"among them {unknown[:5]}",
            remedy="add them to `params.classes`",
        )
    return np.array([-1 if text is None else index[text] for text in texts], dtype=np.int64)


def _missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and np.isnan(value))


def _text(value: object) -> str:
    """Whole numbers without a decimal point: a column of 1.0 and None was 1 and empty."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def counts_of(truth: dict[str, Array], params: ImagingParams) -> list[list[int]]:
    """Per column: (negatives, positives), or items per class; missing labels are not counted."""
    if params.task == "multiclass":
        (classes,) = truth.values()
        return [np.bincount(classes[classes >= 0], minlength=len(params.classes)).tolist()]
    return [[int((v == 0).sum()), int((v == 1).sum())] for v in truth.values()]


def labels_present(columns: Columns, params: ImagingParams) -> bool:
    """Whether a batch carries every label column (training does, scoring does not)."""
    return all(name in columns for name in params.columns)
