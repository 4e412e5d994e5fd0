"""Label columns → numbers; missing is NaN. Shapes: B molecules, L targets."""

from typing import Any

import numpy as np

from medray.errors import DataError
from medray.workload import Columns
from medray.workloads.toxicity.params import ToxicityParams

Array = np.ndarray[Any, Any]


def truth_of(columns: Columns, params: ToxicityParams) -> dict[str, Array]:
    """Column → (B,) float64. Raises DataError for an absent column, and for what is no number.

    Of a yes/no column other numbers than 0 and 1 are refused, too.
    """
    found: dict[str, Array] = {}
    for name in params.targets:
        if name not in columns:
            raise DataError(
                f"the dataset has no column {name!r}",
                remedy="name it in `params.targets`, and keep it in `molecules.sources`",
            )
        values = _numbers(name, np.asarray(columns[name]))
        if params.task == "binary" and not np.isin(values[~np.isnan(values)], (0, 1)).all():
            raise DataError(
                f"the column {name!r} holds other values than 0 and 1",
                remedy="use `task: regression` for numbers",
            )
        if np.isinf(values).any():
            raise DataError(f"the column {name!r} holds values that are not finite")
        found[name] = values
    return found


def _numbers(name: str, values: Array) -> Array:
    if values.dtype.kind in "bif":
        return values.astype(np.float64)
    texts = [None if value in (None, "") else value for value in values.tolist()]
    try:
        return np.array([np.nan if one is None else float(one) for one in texts], np.float64)
    except (TypeError, ValueError):
        raise DataError(
            f"the column {name!r} holds text that is no number",
            remedy="correct the source's column, or leave it out of `params.targets`",
        ) from None


def matrix_of(columns: Columns, params: ToxicityParams) -> Array:
    """All targets beside each other (B, L)."""
    return np.stack(list(truth_of(columns, params).values()), axis=1)


def present(columns: Columns, params: ToxicityParams) -> bool:
    """Whether a batch carries every label column (training does, scoring does not)."""
    return all(name in columns for name in params.targets)
