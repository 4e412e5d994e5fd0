"""Columns of the dataset as groups of patients, and what may be told about each group.

Owns the reading of group columns (ages become bands, numbers thirds) and the rule that keeps the
counts of a suppressed group from being subtracted out. The measures themselves are medray.metrics.

Shapes: N items.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medray.report.document import Estimate, Subgroup, SubgroupTable

Array = NDArray[Any]

UNKNOWN = "unknown"

# Upper bound in years (exclusive) and name. The last band is open: HIPAA asks that ages over 89
# are not told apart (45 CFR 164.514(b)(2)(i)(C)).
AGE_BANDS = ((18.0, "0-17"), (40.0, "18-39"), (65.0, "40-64"), (80.0, "65-79"), (math.inf, "80+"))

_AGE_STRING = re.compile(r"(\d{3})([DWMY])")  # PS3.5 6.2, value representation AS
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}
_AGE_NAME = re.compile(r"(^|[^a-z])age([^a-z]|$)|^PatientAge$", re.IGNORECASE)

# A number with more values than this is no code; a column with more groups is no grouping.
_MOST_CODES = 8
_MOST_GROUPS = 20


def group_names(attribute: str, values: Array) -> NDArray[np.object_]:
    """Name of the group of each item (N,); what is missing or unreadable is "unknown".

    Ages (DICOM age strings such as 045Y, or numbers in a column named age) become bands in years;
    other numbers keep their values when they are few, else become thirds of these items.
    """
    cells = values.tolist()
    numeric = values.dtype.kind in "fiub"
    if _AGE_NAME.search(attribute) or (not numeric and _all_age_strings(cells)):
        names = [_band(_years(cell)) for cell in cells]
    elif numeric:
        names = _number_names(values.astype(np.float64))
    else:
        names = [_text(cell) for cell in cells]
    return np.array(names, dtype=object)


def subgroup_table(
    attribute: str,
    names: NDArray[np.object_],
    subject_ids: Array,
    min_patients: int,
    row: Callable[[NDArray[np.bool_]], Subgroup],
) -> SubgroupTable:
    """One row per group of `names` (N,), `row(members)` being asked only for groups large enough.

    A group of fewer than `min_patients` patients is named and nothing more. Where the suppressed
    patients are so few that the others' counts would give them away by subtraction, those counts
    are rounded to the nearest 5 and the measures to two decimals.
    """
    ordered = sorted({str(name) for name in names})
    patients = {name: len(set(subject_ids[names == name].tolist())) for name in ordered}
    small = [name for name in ordered if patients[name] < min_patients]
    large = [name for name in ordered if patients[name] >= min_patients]
    note = ""
    if len(large) > _MOST_GROUPS:
        large = sorted(sorted(large, key=lambda name: -patients[name])[:_MOST_GROUPS])
        note = f"Only the {_MOST_GROUPS} largest groups are shown. "
    hidden = len(set(subject_ids[np.isin(names, small)].tolist()))
    rounded = bool(large) and 0 < hidden < min_patients
    rows = [row(names == name).model_copy(update={"group": name}) for name in large]
    if rounded:
        rows = [_rounded(entry) for entry in rows]
        note += "Counts are rounded to the nearest 5, so that no suppressed group can be derived."
    if len(small) > _MOST_GROUPS:
        rows.append(Subgroup(group=f"{len(small)} small groups", suppressed=True))
    else:
        rows += [Subgroup(group=name, suppressed=True) for name in small]
    rows.sort(key=lambda entry: (entry.group == UNKNOWN, entry.group))
    return SubgroupTable(attribute=attribute, rounded=rounded, note=note.strip(), rows=tuple(rows))


def age_band(years: float | None) -> str | None:
    """Band of an age in years: "0-17", "18-39", "40-64", "65-79" or "80+"; None or NaN is None.

    Raises ValueError for an age below 0 or an infinite one.
    """
    if years is None or math.isnan(years):
        return None
    if years < 0.0 or math.isinf(years):
        raise ValueError("an age must be a finite number of years, 0 or more")
    return next(name for bound, name in AGE_BANDS if years < bound)


def _rounded(row: Subgroup) -> Subgroup:
    return row.model_copy(
        update={
            "patients": _nearest_5(row.patients),
            "items": _nearest_5(row.items),
            "positives": _nearest_5(row.positives),
            "mean_predicted": None if row.mean_predicted is None else round(row.mean_predicted, 2),
            "measures": {name: _two_decimals(value) for name, value in row.measures.items()},
        }
    )


def _two_decimals(estimate: Estimate) -> Estimate:
    update = {
        name: None if number is None else round(number, 2)
        for name, number in (
            ("value", estimate.value),
            ("low", estimate.low),
            ("high", estimate.high),
        )
    }
    return estimate.model_copy(update=update)


def _nearest_5(count: int | None) -> int | None:
    return None if count is None else 5 * round(count / 5)


def _all_age_strings(cells: Sequence[object]) -> bool:
    texts = [str(cell).strip() for cell in cells if cell is not None and str(cell).strip()]
    return bool(texts) and all(_AGE_STRING.fullmatch(text) for text in texts)


def _years(cell: object) -> float | None:
    """Age in years of an age string or a number; None when it is neither, or impossible."""
    if isinstance(cell, int | float):
        years = float(cell)
    else:
        match = _AGE_STRING.fullmatch(str(cell).strip()) if cell is not None else None
        try:
            years = int(match[1]) / _PER_YEAR[match[2]] if match else float(str(cell))
        except ValueError:
            return None
    return years if 0 <= years < 150 else None


def _band(years: float | None) -> str:
    return age_band(years) or UNKNOWN


def _text(cell: object) -> str:
    return UNKNOWN if cell is None or cell != cell else str(cell).strip() or UNKNOWN


def _number_names(values: NDArray[np.float64]) -> list[str]:
    present = values[np.isfinite(values)]
    if np.unique(present).size <= _MOST_CODES:
        return [f"{value:g}" if np.isfinite(value) else UNKNOWN for value in values]
    low, high = (float(edge) for edge in np.quantile(present, [1 / 3, 2 / 3]))
    return [_third(float(value), low, high) for value in values]


def _third(value: float, low: float, high: float) -> str:
    if not np.isfinite(value):
        return UNKNOWN
    if value <= low:
        return f"up to {low:.3g}"
    return f"{low:.3g} to {high:.3g}" if value <= high else f"over {high:.3g}"
