"""What every metric stands on: the interval type, and the checks of what comes in.

Owns `Interval`, the Wilson interval of a proportion, a root finder, and the conversion of labels,
scores and identifiers into checked arrays. Knows no metric. Error messages never repeat a label,
score or identifier, since those belong to patients.

Shapes: N rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval; NaN where undefined, never 0.

    `level` is the coverage (0.95), `method` names how the bounds were found. For resampled
    intervals `replicates` counts what was drawn and `dropped` those where the statistic was
    undefined; both are 0 otherwise.
    """

    value: float
    low: float
    high: float
    level: float
    method: str
    replicates: int = 0
    dropped: int = 0


def critical_value(level: float) -> float:
    """Two-sided normal quantile of a coverage in (0, 1): 0.95 gives 1.959964.

    Raises ValueError for a coverage outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    return float(ndtri(0.5 + level / 2.0))


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Proportion with its score interval, which stays in [0, 1] (Wilson, JASA 1927;22:209).

    No trials is NaN throughout. The trials are taken as independent: rows of one patient are not,
    and need `patient_bootstrap`. Raises ValueError unless 0 <= successes <= trials.
    """
    z = critical_value(level)
    if not 0 <= successes <= trials:
        raise ValueError("wilson needs 0 <= successes <= trials")
    if trials == 0:
        return Interval(math.nan, math.nan, math.nan, level, "wilson")
    share = successes / trials
    shrink = 1.0 + z * z / trials
    centre = (share + z * z / (2.0 * trials)) / shrink
    half = z / shrink * math.sqrt(share * (1.0 - share) / trials + (z / (2.0 * trials)) ** 2)
    # At 0 and at 1 the bound equals the estimate exactly; rounding must not move it past.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(share, low, high, level, "wilson")


def find_root(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that changes sign between two bounds is 0; ValueError if it does not."""
    from scipy.optimize import brentq

    return float(cast("float", brentq(function, low, high, xtol=1e-12)))


def as_floats(values: ArrayLike, name: str, ndim: int = 1) -> Floats:
    """`values` as float64 of `ndim` dimensions; raises ValueError if not numeric or of that shape.

    NaN and infinity pass: see `finite`.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numeric") from None
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension(s), got shape {array.shape}")
    return array


def finite(values: ArrayLike, name: str, ndim: int = 1) -> Floats:
    """`values` as finite float64 of `ndim` dimensions; raises ValueError on NaN and infinity."""
    array = as_floats(values, name, ndim)
    bad = int(array.size - np.count_nonzero(np.isfinite(array)))
    if bad:
        raise ValueError(f"{name} has {bad} non-finite value(s); leave those rows out first")
    return array


def binary_pair(y: ArrayLike, score: ArrayLike, name: str = "score") -> tuple[Floats, Floats]:
    """Labels (N,) of exactly 0 and 1 and finite scores (N,), both float64.

    Raises ValueError for other labels (NaN included: mask missing labels first), non-finite scores
    and unequal lengths.
    """
    labels = finite(y, "y")
    scores = finite(score, name)
    if labels.shape != scores.shape:
        raise ValueError(f"y and {name} differ in length: {labels.size} and {scores.size}")
    if not np.all((labels == 0.0) | (labels == 1.0)):
        raise ValueError("y must hold only 0 and 1")
    return labels, scores


def probability_pair(y: ArrayLike, p: ArrayLike) -> tuple[Floats, Floats]:
    """Like `binary_pair`, with `p` (N,) in [0, 1]; raises ValueError otherwise."""
    labels, p_N = binary_pair(y, p, "p")
    if not np.all((p_N >= 0.0) & (p_N <= 1.0)):
        raise ValueError("p must lie in [0, 1]; apply the sigmoid to logits first")
    return labels, p_N


def identifier_codes(identifiers: Any, name: str) -> Ints:
    """Codes 0..G-1 (N,) of identifiers (N,), numbered in sorted order whatever the row order.

    Takes strings or integers, not both. Raises ValueError for a missing identifier (None, NaN,
    empty string), mixed types or another shape.
    """
    # A list goes through object: numpy would turn ["a", nan] into the two names "a" and "nan".
    is_list = isinstance(identifiers, list | tuple)
    array: NDArray[Any] = np.asarray(identifiers, dtype=object if is_list else None)
    if array.ndim != 1:
        raise ValueError(f"{name} must have 1 dimension, got shape {array.shape}")
    if array.dtype.kind not in "iuU":
        cells: list[object] = array.tolist()
        strings = all(isinstance(cell, str) and cell.strip() for cell in cells)
        integers = all(
            isinstance(cell, int | np.integer) and not isinstance(cell, bool) for cell in cells
        )
        if not (strings or integers):
            raise ValueError(f"{name} must be all strings or all integers, with none missing")
        array = np.asarray(cells, dtype=np.str_ if strings else np.int64)
    elif array.dtype.kind == "U" and np.any(np.char.strip(array) == ""):
        raise ValueError(f"{name} must be all strings or all integers, with none missing")
    return np.unique(array, return_inverse=True)[1].astype(np.int64)
