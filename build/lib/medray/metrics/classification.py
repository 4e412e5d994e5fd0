"""How good a model of more than two exclusive classes is.

Owns multi-class metrics and the reading of class labels, a missing one (NaN or -1) included.
The binary metrics stand in `discrimination` and `operating`.

Shapes: N rows, L rows with a label, C classes.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medray.metrics.discrimination import auroc
from medray.metrics.interval import Floats, Ints, as_floats, finite


def class_labels(y: ArrayLike, classes: int) -> tuple[Ints, NDArray[np.bool_]]:
    """Labels (L,) in 0..C-1 of the rows that have one, and the mask (N,) of those rows.

    `y` (N,): NaN and -1 are missing. Raises ValueError for fewer than two classes and for any
    other value that is no class.
    """
    if classes < 2:
        raise ValueError(f"classes must be at least 2, got {classes}")
    y_N = as_floats(y, "y")
    labelled_N = ~(np.isnan(y_N) | (y_N == -1.0))
    y_L = y_N[labelled_N]
    if not np.all((y_L >= 0) & (y_L < classes) & (y_L == np.floor(y_L))):
        raise ValueError(f"y must hold 0..{classes - 1}, or NaN or -1 where missing")
    return y_L.astype(np.int64), labelled_N


def confusion_matrix(y: ArrayLike, predicted: ArrayLike, classes: int) -> Ints:
    """Count rows into (C, C): row = label, column = prediction; rows without a label are excluded.

    `y` and `predicted` (N,) in 0..C-1; `y` may be missing (NaN or -1), `predicted` not.
    Raises ValueError for other values or unequal lengths.
    """
    y_L, labelled_N = class_labels(y, classes)
    predicted_N, has_prediction_N = class_labels(predicted, classes)
    if labelled_N.shape != has_prediction_N.shape:
        raise ValueError(f"y and predicted differ: {labelled_N.size} and {has_prediction_N.size}")
    if not has_prediction_N.all():
        raise ValueError("predicted must not be missing")
    cells = np.bincount(y_L * classes + predicted_N[labelled_N], minlength=classes**2)
    return cells.reshape(classes, classes).astype(np.int64)


def accuracy(y: ArrayLike, predicted: ArrayLike, classes: int) -> float:
    """Share of labelled rows whose class is right; NaN without labelled rows.

    Inputs and errors as `confusion_matrix`.
    """
    counts_CC = confusion_matrix(y, predicted, classes)
    total = int(counts_CC.sum())
    return float(np.trace(counts_CC)) / total if total else math.nan


def balanced_accuracy(y: ArrayLike, predicted: ArrayLike, classes: int) -> float:
    """Mean recall of the classes that occur in `y`; NaN without labelled rows.

    A class without rows has no recall and is left out of the mean, not counted as 0.
    Inputs and errors as `confusion_matrix`. Source: Brodersen et al., ICPR 2010.
    """
    counts_CC = confusion_matrix(y, predicted, classes)
    support_C = counts_CC.sum(axis=1)
    present_C = support_C > 0
    if not present_C.any():
        return math.nan
    return float(np.mean(np.diag(counts_CC)[present_C] / support_C[present_C]))


def one_vs_rest_auroc(y: ArrayLike, score: ArrayLike) -> Floats:
    """AUROC (C,) of each class against all others; NaN for a class that no or every row has.

    `y` (N,) in 0..C-1, NaN or -1 excluded; `score` (N, C) of labelled rows finite, such as
    probabilities. Raises ValueError for other labels, non-finite scores or unequal lengths.
    """
    score_NC = as_floats(score, "score", ndim=2)
    classes = score_NC.shape[1]
    y_L, labelled_N = class_labels(y, classes)
    if labelled_N.size != len(score_NC):
        raise ValueError(f"y and score differ in length: {labelled_N.size} and {len(score_NC)}")
    score_LC = finite(score_NC[labelled_N], "score", ndim=2)
    return np.array([auroc(y_L == c, score_LC[:, c]) for c in range(classes)])


def macro_auroc(y: ArrayLike, score: ArrayLike) -> float:
    """Unweighted mean of the one-vs-rest AUROCs that are defined; NaN where none is.

    A class without rows is left out of the mean: report `one_vs_rest_auroc` beside it to show
    which. Inputs and errors as `one_vs_rest_auroc`. Source: Provost & Domingos, Mach. Learn.
    2003;52:199, with equal class weights.
    """
    area_C = one_vs_rest_auroc(y, score)
    defined_C = np.isfinite(area_C)
    return float(area_C[defined_C].mean()) if defined_C.any() else math.nan
