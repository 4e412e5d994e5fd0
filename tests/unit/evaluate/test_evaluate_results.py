"""One target on held-out, against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as oracle
from sklearn.preprocessing import label_binarize

from medray.calibration import Calibration, TargetCalibration
from medray.errors import DataError
from medray.evaluate.cohort import check_held_out, cohort_of
from medray.evaluate.mistakes import binary_mistakes, multiclass_mistakes
from medray.evaluate.multiclass import multiclass_result
from medray.evaluate.results import Scored, Settings, binary_result
from medray.spec.models import EvaluateSpec, WantedSensitivity
from medray.workload import Target

SETTINGS = Settings(EvaluateSpec(replicates=200, prevalence=0.05), seed=3)
THRESHOLD, TEMPERATURE = 0.35, 1.7


def scored(truth, logits, subjects=None):
    n = len(truth)
    return Scored(
        np.array([f"item{i}" for i in range(n)], dtype=object),
        np.array(subjects or [f"p{i}" for i in range(n)], dtype=object),
        np.asarray(truth),
        np.asarray(logits),
    )


def binary(n=240, seed=0):
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < 0.3).astype(float)
    logits = (rng.normal(size=n) + 1.5 * truth - 0.5).astype(np.float32)
    return truth, logits


def calibration(**changes):
    entry = {
        "kind": "binary",
        "temperature": TEMPERATURE,
        "threshold": THRESHOLD,
        "rule": "youden",
    }
    return Calibration(targets={"t": TargetCalibration.model_validate(entry | changes)})


@pytest.fixture(scope="module")
def result():
    truth, logits = binary()
    return binary_result("t", scored(truth, logits), None, calibration(), {}, SETTINGS)


def test_discrimination_matches_scikit_learn(result):
    truth, logits = binary()
    auroc = oracle.roc_auc_score(truth, logits)
    assert result.auroc.value == pytest.approx(auroc, abs=1e-12)
    assert result.auroc_delong.value == pytest.approx(auroc, abs=1e-12)
    assert result.auprc.value == pytest.approx(oracle.average_precision_score(truth, logits))
    for estimate in (result.auroc, result.auroc_delong, result.auprc):
        assert estimate.low < estimate.value < estimate.high
    assert oracle.auc(result.roc.x, result.roc.y) == pytest.approx(auroc, abs=1e-12)


def test_operating_point_matches_scikit_learn(result):
    truth, logits = binary()
    p = 1 / (1 + np.exp(-logits.astype(np.float64) / TEMPERATURE))
    called = p >= THRESHOLD
    tn, fp, fn, tp = oracle.confusion_matrix(truth, called).ravel()
    op = result.operating
    assert (op.true_negatives, op.false_positives, op.false_negatives, op.true_positives) == (
        tn,
        fp,
        fn,
        tp,
    )
    assert op.sensitivity.value == pytest.approx(oracle.recall_score(truth, called))
    assert op.here.ppv.value == pytest.approx(oracle.precision_score(truth, called))
    assert op.here.npv.value == pytest.approx(oracle.precision_score(1 - truth, ~called))
    assert op.here.prevalence == pytest.approx(truth.mean())


def test_predictive_values_at_another_prevalence_are_those_of_a_weighted_set(result):
    truth, logits = binary()
    called = 1 / (1 + np.exp(-logits.astype(np.float64) / TEMPERATURE)) >= THRESHOLD
    weight = np.where(truth == 1, 0.05 / truth.mean(), 0.95 / (1 - truth.mean()))
    at = result.operating.elsewhere
    expected = oracle.precision_score(truth, called, sample_weight=weight)
    assert at.prevalence == 0.05
    assert at.ppv.value == pytest.approx(expected)
    assert at.ppv.low < at.ppv.value < at.ppv.high


def test_calibration_matches_scikit_learn(result):
    truth, logits = binary()
    logits = logits.astype(np.float64)
    for state, scale in ((result.calibration.before, 1.0), (result.calibration.after, TEMPERATURE)):
        p = 1 / (1 + np.exp(-logits / scale))
        assert state.brier == pytest.approx(oracle.brier_score_loss(truth, p))
        assert sum(b.items for b in state.bins) == len(truth)
        bin_of = np.minimum((p * 10).astype(int), 9)
        gaps = [abs((truth - p)[bin_of == b].sum()) / len(truth) for b in range(10)]
        assert state.ece == pytest.approx(sum(gaps))


def test_several_images_of_a_patient_widen_the_bootstrap():
    truth, logits = np.tile(binary(60), (1, 4))
    single = binary_result("t", scored(truth, logits), None, calibration(), {}, SETTINGS)
    subjects = [f"p{i % 60}" for i in range(240)]
    grouped = binary_result("t", scored(truth, logits, subjects), None, calibration(), {}, SETTINGS)
    width = [r.auroc.high - r.auroc.low for r in (single, grouped)]
    assert width[1] > 1.5 * width[0]
    assert grouped.patients == 60
    assert grouped.items == 240


def test_missing_labels_and_scores_are_left_out_and_counted():
    truth, logits = binary()
    truth[:10], logits[10:13] = np.nan, np.nan
    found = binary_result("t", scored(truth, logits), None, calibration(), {}, SETTINGS)
    keep = slice(13, None)
    assert found.items == len(truth) - 13
    assert found.not_scored == 3
    assert found.auroc.value == pytest.approx(oracle.roc_auc_score(truth[keep], logits[keep]))


@pytest.mark.parametrize(
    ("truth", "word"), [([1, 1, 1], "positive"), ([0, 0, 0], "negative"), ([np.nan] * 3, "No held")]
)
def test_one_outcome_is_said_and_computes_nothing(truth, word):
    found = binary_result(
        "t", scored(np.array(truth, float), np.zeros(3)), None, calibration(), {}, SETTINGS
    )
    assert word in found.undefined
    assert found.auroc is None
    assert found.operating is None
    assert "nan" not in found.model_dump_json().lower()


def test_a_group_of_one_outcome_has_null_numbers_not_nan():
    truth = np.array([1.0] * 20 + [0.0] * 20)
    groups = {"PatientSex": np.array(["F"] * 20 + ["M"] * 20, dtype=object)}
    found = binary_result(
        "t", scored(truth, np.linspace(1, -1, 40)), None, calibration(), groups, SETTINGS
    )
    women = found.subgroups[0].rows[0]
    assert women.measures["AUROC"].value is None
    assert women.measures["Specificity"].value is None
    assert women.measures["Sensitivity"].value is not None


def test_tuning_is_shown_and_its_rule_told():
    truth, logits = binary(seed=1)
    rule = WantedSensitivity(sensitivity=0.9)
    found = binary_result(
        "t", scored(*binary()), scored(truth, logits), calibration(rule=rule), {}, SETTINGS
    )
    assert found.tuning_auroc.value == pytest.approx(oracle.roc_auc_score(truth, logits))
    assert "90%" in found.operating.rule


def multiclass(n=300, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), truth] += 1.2
    return truth.astype(float), logits


def test_multiclass_matches_scikit_learn():
    truth, logits = multiclass()
    truth[:5] = -1
    names = ("a", "b", "c")
    cal = calibration(kind="multiclass", classes=names, threshold=None, rule=None)
    found = multiclass_result("t", names, scored(truth, logits), None, cal, {}, SETTINGS)
    y, z = truth[5:], logits[5:] / TEMPERATURE
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    called = p.argmax(axis=1)
    assert found.items == 295
    assert found.accuracy.value == pytest.approx(oracle.accuracy_score(y, called))
    assert found.balanced_accuracy.value == pytest.approx(oracle.balanced_accuracy_score(y, called))
    assert found.macro_auroc.value == pytest.approx(oracle.roc_auc_score(y, p, multi_class="ovr"))
    assert np.array_equal(found.confusion, oracle.confusion_matrix(y, called))
    one_hot = label_binarize(y, classes=[0, 1, 2])
    for code, row in enumerate(found.per_class):
        assert row.auroc.value == pytest.approx(oracle.roc_auc_score(one_hot[:, code], p[:, code]))
        assert row.recall.value == pytest.approx(oracle.recall_score(y == code, called == code))
        assert row.precision.value == pytest.approx(
            oracle.precision_score(y == code, called == code)
        )
    top = oracle.brier_score_loss(called == y, p.max(axis=1))
    assert found.calibration.after.brier == pytest.approx(top)


def test_multiclass_with_one_class_is_undefined_and_an_absent_class_is_null():
    names = ("a", "b", "c")
    cal = calibration(kind="multiclass", classes=names, threshold=None, rule=None)
    truth, logits = multiclass()
    one = multiclass_result("t", names, scored(truth * 0, logits), None, cal, {}, SETTINGS)
    assert one.undefined
    two = multiclass_result("t", names, scored(truth % 2, logits), None, cal, {}, SETTINGS)
    assert two.per_class[2].auroc.value is None
    assert two.per_class[2].recall.value is None
    assert two.macro_auroc.value is not None


def test_mistakes_are_the_surest_one_per_patient_in_turn():
    truth = [1, 1, 1, 0, 0, 0, 1, 0]
    logits = [-5.0, -4.0, -3.0, 6.0, 5.0, 4.0, 9.0, -9.0]
    subjects = ["a", "a", "b", "c", "d", "e", "f", "g"]
    found = binary_mistakes("t", scored(np.array(truth, float), logits, subjects), calibration(), 4)
    assert [(row, m.kind) for row, m in found] == [
        (0, "missed"),
        (3, "false alarm"),
        (4, "false alarm"),
        (2, "missed"),
    ]
    assert found[0][1].item_id == "item0"


def test_no_mistakes_no_rows():
    assert not binary_mistakes("t", scored([1.0, 0.0], [9.0, -9.0]), calibration(), 6)
    assert not binary_mistakes("t", scored([0.0, 1.0], [9.0, -9.0]), calibration(), 0)


def test_multiclass_mistakes_name_both_classes():
    names = ("a", "b", "c")
    cal = calibration(kind="multiclass", classes=names, threshold=None, rule=None)
    logits = [[9.0, 0, 0], [0, 5.0, 0], [0, 9.0, 0]]
    found = multiclass_mistakes("t", names, scored([0.0, 2.0, 0.0], logits), cal, 5)
    assert [(row, m.truth, m.predicted) for row, m in found] == [(2, "a", "b"), (1, "c", "b")]


TARGETS = (Target("t", "binary"), Target("u", "multiclass", ("x", "y")))


def test_held_out_must_decide_something():
    empty = {"t": np.array([]), "u": np.array([])}
    with pytest.raises(DataError, match="empty") as caught:
        check_held_out(TARGETS, empty)
    assert "fractions" in caught.value.remedy
    with pytest.raises(DataError, match="no target"):
        check_held_out(TARGETS, {"t": np.array([1.0, np.nan]), "u": np.array([-1, 0])})
    check_held_out(TARGETS, {"t": np.array([1.0, 1.0]), "u": np.array([0, 1])})


def test_cohort_counts_patients_studies_items_and_outcomes():
    splits = np.array(["train", "train", "tuning", "held_out", None], dtype=object)
    subjects = np.array(["a", "a", "b", "c", "d"], dtype=object)
    studies = np.array(["1", "2", "3", "4", "5"], dtype=object)
    truth = {"t": np.array([1, 0, np.nan, 1, 1.0]), "u": np.array([0, 0, 1, -1, 1])}
    cohort = cohort_of(TARGETS, truth, splits, subjects, studies)
    train, tuning, held_out = cohort.rows
    assert (train.patients, train.studies, train.items) == (1, 2, 2)
    assert train.labels[0].items == {"negative": 1, "positive": 1}
    assert train.labels[0].patients == {"negative": 1, "positive": 1}
    assert train.labels[1].items == {"x": 2, "y": 0}
    assert tuning.labels[0].labelled == 0
    assert held_out.labels[1].labelled == 0
    assert cohort.unit == "patients"
