"""Confidence intervals of any statistic by resampling patients, not rows.

Rows of one patient resemble each other; resampling them one by one gives intervals that are too
narrow. Owns the resampling only; knows which statistics have a weighted form that is faster.

Shapes: N rows, G patients, R replicates, K values of a statistic.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medray.metrics.discrimination import (
    auroc,
    average_precision,
    weighted_auroc,
    weighted_average_precision,
)
from medray.metrics.interval import Floats, Interval, Ints, critical_value, identifier_codes

METHOD = "patient-bootstrap-percentile"

# Statistics that take "this row k times" as a weight: sorted once per batch, not per replicate.
_WEIGHTED: dict[Callable[..., float], Callable[..., Floats]] = {
    auroc: weighted_auroc,
    average_precision: weighted_average_precision,
}

# Weights of a batch: 2**21 float64 are 16 MiB, and a few such arrays live at a time.
_BATCH_CELLS = 2**21


def patient_bootstrap(
    statistic: Callable[..., float],
    groups: Any,
    arrays: Sequence[ArrayLike],
    *,
    replicates: int = 1000,
    seed: int,
    level: float = 0.95,
    stratify: Any = None,
) -> Interval:
    """Percentile interval of `statistic(*arrays)` when whole patients are drawn with replacement.

    `groups` (N,): the patient of each row, strings or integers. `arrays`: each (N, ...), handed to
    the statistic with the drawn patients' rows repeated. `stratify` (N,): a stratum that is the
    same in all rows of a patient (site, ever-positive); patients are then drawn within strata, and
    each keeps its number of patients.

    The statistic must answer NaN where it is undefined, as every metric here does; such replicates
    are dropped and counted in `dropped`. The bounds are NaN with fewer than two patients or fewer
    than two replicates left. The same seed gives the same interval, whatever the row order.

    Raises ValueError for unequal lengths, missing identifiers, a stratum that differs within a
    patient, or `replicates` below 1. Source: Field & Welsh, J. R. Stat. Soc. B 2007;69:369
    (cluster bootstrap); Efron & Tibshirani 1993, ch. 13 (percentile interval).
    """
    values, patient_N = _checked(groups, arrays, replicates, level)
    strata = _strata(patient_N, stratify)
    point = float(statistic(*values))
    drawn_R = np.empty(0)
    if math.isfinite(point) and sum(stratum.size for stratum in strata) > 1:
        counts = _counts(strata, replicates, np.random.default_rng(seed))
        drawn_R = _replicates(statistic, values, patient_N, counts, replicates)
    return _percentiles(point, drawn_R, level)


def patient_bootstrap_vector(
    statistic: Callable[..., Floats],
    groups: Any,
    arrays: Sequence[ArrayLike],
    *,
    replicates: int = 1000,
    seed: int,
    level: float = 0.95,
    stratify: Any = None,
) -> list[Interval]:
    """Intervals of the K values of `statistic(*arrays)`, (K,), all from the same drawn patients.

    For a metric at several times, or several metrics of one model. Each value is what
    `patient_bootstrap` gives it alone with the same seed; its undefined replicates are dropped for
    it only. Arguments and errors as there.
    """
    values, patient_N = _checked(groups, arrays, replicates, level)
    strata = _strata(patient_N, stratify)
    point_K = np.asarray(statistic(*values), dtype=np.float64)
    drawn_RK = np.empty((0, point_K.size))
    if np.isfinite(point_K).any() and sum(stratum.size for stratum in strata) > 1:
        counts = _counts(strata, replicates, np.random.default_rng(seed))
        drawn_RK = np.array([statistic(*rows) for rows in _drawn(values, patient_N, counts)])
    return [
        _percentiles(float(point), drawn_R if math.isfinite(point) else np.empty(0), level)
        for point, drawn_R in zip(point_K, drawn_RK.T, strict=True)
    ]


def _checked(
    groups: Any, arrays: Sequence[ArrayLike], replicates: int, level: float
) -> tuple[list[NDArray[Any]], Ints]:
    """Arrays and patients (N,) of a bootstrap."""
    critical_value(level)
    if replicates < 1:
        raise ValueError(f"replicates must be at least 1, got {replicates}")
    patient_N = identifier_codes(groups, "groups")
    values = [np.asarray(array) for array in arrays]
    if not values or any(len(np.atleast_1d(value)) != patient_N.size for value in values):
        raise ValueError("arrays must be given, each as long as groups")
    return values, patient_N


def _percentiles(point: float, drawn_R: Floats, level: float) -> Interval:
    """Interval of the replicates that are defined."""
    kept = drawn_R[np.isfinite(drawn_R)]
    low = high = math.nan
    if kept.size > 1:
        tail = (1.0 - level) / 2.0
        low, high = (float(bound) for bound in np.quantile(kept, [tail, 1.0 - tail]))
    return Interval(point, low, high, level, METHOD, drawn_R.size, drawn_R.size - kept.size)


def _strata(patient_N: Ints, stratify: Any) -> list[Ints]:
    """Patients of each stratum; all in one where none is asked for."""
    patients = np.unique(patient_N).astype(np.int64)
    if stratify is None:
        return [patients]
    stratum_N = identifier_codes(stratify, "stratify")
    if stratum_N.shape != patient_N.shape:
        raise ValueError("stratify must be as long as groups")
    stratum_G = np.zeros(patients.size, dtype=np.int64)
    stratum_G[patient_N] = stratum_N
    if np.any(stratum_G[patient_N] != stratum_N):
        raise ValueError("stratify must be the same in all rows of a patient")
    return [patients[stratum_G == code] for code in np.unique(stratum_G)]


def _counts(strata: list[Ints], replicates: int, rng: np.random.Generator) -> Iterator[Ints]:
    """How often each patient was drawn (G,), once per replicate."""
    patients = sum(stratum.size for stratum in strata)
    for _ in range(replicates):
        drawn = [stratum[rng.integers(stratum.size, size=stratum.size)] for stratum in strata]
        yield np.bincount(np.concatenate(drawn), minlength=patients).astype(np.int64)


def _drawn(
    values: list[NDArray[Any]], patient_N: Ints, counts: Iterator[Ints]
) -> Iterator[list[NDArray[Any]]]:
    """The arrays with each patient's rows as often as drawn, once per replicate."""
    rows_N = np.arange(patient_N.size)
    for count_G in counts:
        rows = np.repeat(rows_N, count_G[patient_N])
        yield [value[rows] for value in values]


def _replicates(
    statistic: Callable[..., float],
    values: list[NDArray[Any]],
    patient_N: Ints,
    counts: Iterator[Ints],
    replicates: int,
) -> Floats:
    """Value (R,) of the statistic in every replicate, by weights where it has such a form."""
    weighted = _WEIGHTED.get(statistic)
    if weighted is None:
        return np.array([float(statistic(*rows)) for rows in _drawn(values, patient_N, counts)])
    batch = max(1, _BATCH_CELLS // patient_N.size)
    parts: list[Floats] = []
    for start in range(0, replicates, batch):
        size = min(batch, replicates - start)
        weights_RN = np.stack([next(counts)[patient_N] for _ in range(size)])
        parts.append(weighted(*values, weights_RN))
    return np.concatenate(parts)
