"""One target of several exclusive classes on `held_out`.

Pure functions of arrays; the formulas stand in medray.metrics. Shapes: N items, L items that have
both a label and finite scores, C classes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from medray.calibration import Calibration
from medray.evaluate.cohort import outcomes
from medray.evaluate.groups import group_names, subgroup_table
from medray.evaluate.results import Scored, Settings, reliability
from medray.metrics.bootstrap import patient_bootstrap
from medray.metrics.classification import balanced_accuracy, confusion_matrix, macro_auroc
from medray.metrics.discrimination import auroc_delong
from medray.metrics.interval import Interval, wilson
from medray.report.document import (
    CalibrationResult,
    ClassRow,
    Estimate,
    MulticlassResult,
    Subgroup,
    SubgroupTable,
)

Array = NDArray[Any]


def multiclass_result(
    name: str,
    classes: tuple[str, ...],
    held_out: Scored,
    tuning: Scored | None,
    calibration: Calibration,
    columns: Mapping[str, Array],
    settings: Settings,
) -> MulticlassResult:
    """Everything about one target of C classes; `undefined` is set where fewer than two occur.

    `columns[c]` (N,) are the subgroup columns of the held-out items.
    """
    rows = held_out.usable()
    part = held_out.take(rows)
    counts: dict[str, Any] = {
        "name": name,
        "classes": classes,
        "items": len(part.truth),
        "patients": len(set(part.subject_ids.tolist())),
        "not_scored": held_out.not_scored(),
    }
    if outcomes(part.truth).size < 2:
        return MulticlassResult(
            **counts, undefined="Fewer than two classes occur among the labelled held-out items."
        )
    y_L = part.truth.astype(np.int64)
    before_LC = softmax(part.logits.astype(np.float64), axis=1)
    p_LC = calibration.apply(name, part.logits)
    called_L = p_LC.argmax(axis=1)
    intervals: dict[str, Any] = _intervals(y_L, called_L, p_LC, part.subject_ids, settings)
    correct_L = (called_L == y_L).astype(np.float64)
    confusion = confusion_matrix(y_L, called_L, len(classes))
    return MulticlassResult(
        **counts,
        **intervals,
        tuning_accuracy=_tuning_accuracy(tuning),
        per_class=_class_rows(classes, y_L, p_LC, confusion),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        calibration=CalibrationResult(
            temperature=calibration.targets[name].temperature,
            note=calibration.targets[name].note,
            before=reliability(correct_L, before_LC.max(axis=1)),
            after=reliability(correct_L, p_LC.max(axis=1)),
        ),
        subgroups=_subgroups(part, p_LC, called_L, columns, rows, settings),
    )


def _intervals(
    y_L: Array, called_L: Array, p_LC: Array, subject_ids: Array, settings: Settings
) -> dict[str, Estimate]:
    """Accuracy, balanced accuracy and macro AUROC, with patient-level bootstrap intervals."""
    classes = p_LC.shape[1]

    def interval(statistic: Callable[..., float], *arrays: Array) -> Estimate:
        found = patient_bootstrap(
            statistic,
            subject_ids.tolist(),
            arrays,
            replicates=settings.evaluate.replicates,
            seed=settings.seed,
        )
        return Estimate.of(found)

    return {
        "accuracy": interval(lambda right: float(right.mean()), called_L == y_L),
        "balanced_accuracy": interval(
            lambda y, called: balanced_accuracy(y, called, classes), y_L, called_L
        ),
        "macro_auroc": interval(macro_auroc, y_L, p_LC),
    }


def _tuning_accuracy(tuning: Scored | None) -> Estimate | None:
    if tuning is None:
        return None
    part = tuning.take(tuning.usable())
    right = int((part.logits.argmax(axis=1) == part.truth).sum()) if len(part.truth) else 0
    return Estimate.of(wilson(right, len(part.truth)))


def _class_rows(
    classes: tuple[str, ...], y_L: Array, p_LC: Array, confusion: Array
) -> tuple[ClassRow, ...]:
    right = np.diag(confusion)
    return tuple(
        ClassRow(
            name=name,
            items=int(confusion[code].sum()),
            recall=Estimate.of(wilson(int(right[code]), int(confusion[code].sum()))),
            precision=Estimate.of(wilson(int(right[code]), int(confusion[:, code].sum()))),
            auroc=Estimate.of(_one_against_rest(y_L == code, p_LC[:, code])),
        )
        for code, name in enumerate(classes)
    )


def _one_against_rest(positive_L: Array, p_L: Array) -> Interval:
    return auroc_delong(positive_L.astype(np.float64), p_L)


def _subgroups(
    part: Scored,
    p_LC: Array,
    called_L: Array,
    columns: Mapping[str, Array],
    rows: NDArray[np.bool_],
    settings: Settings,
) -> tuple[SubgroupTable, ...]:
    y_L = part.truth.astype(np.int64)

    def row(members: NDArray[np.bool_]) -> Subgroup:
        right = int((called_L[members] == y_L[members]).sum())
        return Subgroup(
            group="",
            patients=len(set(part.subject_ids[members].tolist())),
            items=int(members.sum()),
            mean_predicted=float(p_LC[members].max(axis=1).mean()),
            measures={"Accuracy": Estimate.of(wilson(right, int(members.sum())))},
        )

    return tuple(
        subgroup_table(
            attribute,
            group_names(attribute, values)[rows],
            part.subject_ids,
            settings.evaluate.min_patients,
            row,
        )
        for attribute, values in columns.items()
    )
