"""Does it work as well for everyone: one row per group of patients, small groups suppressed.

Owns the table of subgroups and the bands of age. Suppression is decided here, so that no writer of
reports can forget it.

Shapes: N rows (items); several may belong to one patient.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medray.metrics.discrimination import auroc_delong
from medray.metrics.interval import Floats, Interval, Ints, identifier_codes, probability_pair
from medray.metrics.operating import at_threshold

UNKNOWN = "unknown"

# Upper bound in years (exclusive) and name. The last band is open: HIPAA asks that ages over 89
# are not told apart (45 CFR 164.514(b)(2)(i)(C)).
AGE_BANDS = ((18.0, "0-17"), (40.0, "18-39"), (65.0, "40-64"), (80.0, "65-79"), (math.inf, "80+"))


@dataclass(frozen=True, slots=True)
class SubgroupRow:
    """One group of one attribute; a suppressed row has its names and nothing else.

    `prevalence` is the observed share of positives, to be read against `mean_predicted`.
    `sensitivity` and `specificity` are those at the table's threshold.
    """

    attribute: str
    group: str
    status: Literal["reported", "suppressed"]
    patients: int | None = None
    items: int | None = None
    positives: int | None = None
    prevalence: float | None = None
    mean_predicted: float | None = None
    auroc: Interval | None = None
    sensitivity: Interval | None = None
    specificity: Interval | None = None


def subgroup_table(
    groups: Mapping[str, Any],
    y: ArrayLike,
    p: ArrayLike,
    subject_ids: Any,
    threshold: float,
    min_patients: int = 10,
) -> list[SubgroupRow]:
    """Measure every group of every attribute, sorted by name within the attribute.

    `groups`: attribute → (N,) of str or None; None, NaN and blank strings form the group
    "unknown". `y` (N,) of 0/1, `p` (N,) in [0, 1], `subject_ids` (N,) strings or integers. A group
    of fewer than `min_patients` patients is suppressed: names only, no counts. Where just one group
    of an attribute is suppressed, a reader who has the total can still subtract. Intervals
    take rows as independent. A metric that a group does not define is NaN.

    Raises ValueError for other labels or probabilities, missing subject ids, group values that
    are not strings, unequal lengths, a NaN threshold or `min_patients` below 1.
    """
    y_N, p_N = probability_pair(y, p)
    subject_N = identifier_codes(subject_ids, "subject_ids")
    if subject_N.shape != y_N.shape:
        raise ValueError(f"y and subject_ids differ in length: {y_N.size} and {subject_N.size}")
    if min_patients < 1:
        raise ValueError(f"min_patients must be at least 1, got {min_patients}")
    if math.isnan(threshold):
        raise ValueError("threshold must not be NaN")
    rows: list[SubgroupRow] = []
    for attribute, values in groups.items():
        name_N = _names(values, attribute)
        if name_N.shape != y_N.shape:
            raise ValueError(f"group {attribute!r} has {name_N.size} values for {y_N.size} rows")
        for group in sorted(set(name_N.tolist())):
            member_N = name_N == group
            if np.unique(subject_N[member_N]).size < min_patients:
                rows.append(SubgroupRow(attribute, group, "suppressed"))
            else:
                members = (y_N[member_N], p_N[member_N], subject_N[member_N])
                rows.append(_reported(attribute, group, *members, threshold))
    return rows


def age_band(years: float | None) -> str | None:
    """Band of an age in years: "0-17", "18-39", "40-64", "65-79" or "80+"; None or NaN is None.

    Raises ValueError for an age below 0 or an infinite one.
    """
    if years is None or math.isnan(years):
        return None
    if years < 0.0 or math.isinf(years):
        raise ValueError("an age must be a finite number of years, 0 or more")
    return next(name for bound, name in AGE_BANDS if years < bound)


def _names(values: Any, attribute: str) -> NDArray[np.object_]:
    """Group names (N,), the missing ones as "unknown"."""
    cells: list[object] = np.asarray(values, dtype=object).tolist()
    names: list[str] = []
    for cell in cells:
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            names.append(UNKNOWN)
        elif isinstance(cell, str):
            names.append(cell.strip() or UNKNOWN)
        else:
            raise ValueError(f"group {attribute!r} must hold strings or None")
    return np.array(names, dtype=object)


def _reported(
    attribute: str, group: str, y_N: Floats, p_N: Floats, subject_N: Ints, threshold: float
) -> SubgroupRow:
    point = at_threshold(y_N, p_N, threshold)
    return SubgroupRow(
        attribute=attribute,
        group=group,
        status="reported",
        patients=int(np.unique(subject_N).size),
        items=y_N.size,
        positives=point.tp + point.fn,
        prevalence=float(y_N.mean()),
        mean_predicted=float(p_N.mean()),
        auroc=auroc_delong(y_N, p_N),
        sensitivity=point.sensitivity,
        specificity=point.specificity,
    )
