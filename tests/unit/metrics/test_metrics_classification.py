"""Multi-class metrics against scikit-learn, with missing labels left out."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from medray.metrics.classification import (
    accuracy,
    balanced_accuracy,
    class_labels,
    confusion_matrix,
    macro_auroc,
    one_vs_rest_auroc,
)


@st.composite
def cases(draw):
    classes = draw(st.integers(3, 5))
    y = np.array([*range(classes), *draw(st.lists(st.integers(0, classes - 1), max_size=20))])
    seed = draw(st.integers(0, 2**31))
    logits = np.random.default_rng(seed).normal(size=(y.size, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return y, p


@given(cases())
@settings(max_examples=50, deadline=None)
def test_against_scikit_learn(case):
    y, p = case
    predicted, classes = p.argmax(axis=1), p.shape[1]
    expected = sk.confusion_matrix(y, predicted, labels=range(classes))
    np.testing.assert_array_equal(confusion_matrix(y, predicted, classes), expected)
    assert accuracy(y, predicted, classes) == pytest.approx(sk.accuracy_score(y, predicted))
    balanced = sk.balanced_accuracy_score(y, predicted)
    assert balanced_accuracy(y, predicted, classes) == pytest.approx(balanced)
    macro = sk.roc_auc_score(y, p, multi_class="ovr", average="macro")
    assert macro_auroc(y, p) == pytest.approx(macro)


@given(cases())
@settings(max_examples=30, deadline=None)
def test_rows_without_a_label_change_nothing(case):
    y, p = case
    predicted, classes = p.argmax(axis=1), p.shape[1]
    y_more = np.r_[y.astype(float), -1.0, np.nan]
    predicted_more = np.r_[predicted, 0, 1]
    p_more = np.vstack([p, np.full((2, classes), np.nan)])
    for function in (confusion_matrix, accuracy, balanced_accuracy):
        np.testing.assert_array_equal(
            function(y_more, predicted_more, classes), function(y, predicted, classes)
        )
    np.testing.assert_array_equal(one_vs_rest_auroc(y_more, p_more), one_vs_rest_auroc(y, p))


def test_an_absent_class_is_nan_and_not_in_the_mean():
    y, p = [0, 0, 1, 1], np.array([[4, 1, 0], [2, 3, 1], [1, 2, 0], [0, 5, 2]]) / 5
    areas = one_vs_rest_auroc(y, p)
    assert math.isnan(areas[2])
    assert macro_auroc(y, p) == pytest.approx(areas[:2].mean())
    assert balanced_accuracy(y, [0, 1, 1, 1], 3) == pytest.approx(0.75)


def test_without_labels_all_is_nan():
    y = [-1, math.nan]
    assert math.isnan(accuracy(y, [0, 1], 2))
    assert math.isnan(balanced_accuracy(y, [0, 1], 2))
    assert math.isnan(macro_auroc(y, np.zeros((2, 2))))
    assert confusion_matrix(y, [0, 1], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("y", [[0, 3], [0, -2], [0, 0.5], [0, math.inf]])
def test_labels_must_be_classes(y):
    with pytest.raises(ValueError, match=r"y must hold 0\.\.2"):
        class_labels(y, 3)


def test_refusals():
    with pytest.raises(ValueError, match="at least 2"):
        class_labels([0], 1)
    with pytest.raises(ValueError, match="differ"):
        confusion_matrix([0, 1], [0], 2)
    with pytest.raises(ValueError, match="must not be missing"):
        confusion_matrix([0, 1], [0, -1], 2)
    with pytest.raises(ValueError, match="differ in length"):
        one_vs_rest_auroc([0, 1], np.zeros((3, 2)))
    with pytest.raises(ValueError, match="non-finite"):
        one_vs_rest_auroc([0, 1], [[0.1, math.nan], [0.2, 0.3]])
    with pytest.raises(ValueError, match="dimension"):
        one_vs_rest_auroc([0, 1], [0.1, 0.2])
