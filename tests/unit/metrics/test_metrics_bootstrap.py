"""The patient bootstrap: what it resamples, how it repeats, and what it leaves out."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medray.metrics.bootstrap import patient_bootstrap, patient_bootstrap_vector
from medray.metrics.discrimination import auroc, average_precision


def clustered(patients=60, rows_each=4, seed=0):
    """Rows of one patient share their label and most of their score."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rows_each)
    y = np.repeat(np.arange(patients) % 2, rows_each)
    effect = np.repeat(rng.normal(size=patients), rows_each)
    return patient, y, y + effect + 0.1 * rng.normal(size=y.size)


def mean(x):
    return float(np.mean(x))


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_interval_contains_the_point(seed):
    patient, y, score = clustered(seed=seed)
    interval = patient_bootstrap(auroc, patient, [y, score], replicates=300, seed=seed)
    assert interval.low <= interval.value <= interval.high
    assert interval.value == auroc(y, score)


@pytest.mark.parametrize("statistic", [auroc, average_precision])
def test_weighted_path_is_the_row_path(statistic):
    patient, y, score = clustered()
    fast = patient_bootstrap(statistic, patient, [y, np.round(score, 1)], replicates=200, seed=3)
    slow = patient_bootstrap(
        lambda *arrays: statistic(*arrays),  # not the function that has a weighted form
        patient,
        [y, np.round(score, 1)],
        replicates=200,
        seed=3,
    )
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=1e-12)
    assert fast.replicates == slow.replicates == 200


def test_same_seed_same_interval_whatever_the_row_order():
    patient, y, score = clustered()
    first = patient_bootstrap(auroc, patient, [y, score], replicates=100, seed=7)
    order = np.random.default_rng(1).permutation(y.size)
    names = np.array([f"p{i:03d}" for i in patient])
    again = patient_bootstrap(auroc, names[order], [y[order], score[order]], replicates=100, seed=7)
    other = patient_bootstrap(auroc, patient, [y, score], replicates=100, seed=8)
    assert first == again
    assert first != other


def test_patients_not_rows_are_drawn():
    patient, _, _ = clustered()
    drawn = []

    def record(rows):
        drawn.append(rows)
        return 0.0

    patient_bootstrap(record, patient, [np.arange(patient.size)], replicates=20, seed=0)
    for rows in drawn[1:]:
        assert rows.size == patient.size
        counts = np.bincount(rows, minlength=patient.size).reshape(60, 4)
        assert (counts == counts[:, :1]).all()
    assert not all(np.array_equal(drawn[1], rows) for rows in drawn[2:])


def test_clusters_widen_the_interval():
    patient, y, score = clustered()
    by_patient = patient_bootstrap(auroc, patient, [y, score], replicates=500, seed=0)
    by_row = patient_bootstrap(auroc, np.arange(y.size), [y, score], replicates=500, seed=0)
    assert by_patient.high - by_patient.low > 1.5 * (by_row.high - by_row.low)


def test_mean_of_single_rows_has_the_textbook_error():
    x = np.random.default_rng(0).normal(size=400)
    interval = patient_bootstrap(mean, np.arange(400), [x], replicates=2000, seed=0)
    error = x.std(ddof=1) / math.sqrt(400)
    assert (interval.high - interval.low) / (2 * 1.96) == pytest.approx(error, rel=0.08)


def test_undefined_replicates_are_dropped_and_counted():
    # One positive patient in five: a draw misses it with probability 0.8**5 = 0.328.
    patient, y = np.arange(5), [1, 0, 0, 0, 0]
    interval = patient_bootstrap(
        auroc, patient, [y, [0.5, 0.1, 0.9, 0.2, 0.3]], replicates=2000, seed=0
    )
    assert interval.replicates == 2000
    assert interval.dropped / 2000 == pytest.approx(0.8**5, abs=0.04)
    assert math.isfinite(interval.low)


def test_strata_keep_their_patients():
    patient, y = np.arange(5), np.array([1, 0, 0, 0, 0])
    score = [0.5, 0.1, 0.9, 0.2, 0.3]
    interval = patient_bootstrap(
        auroc, patient, [y, score], replicates=200, seed=0, stratify=["a", "b", "b", "b", "b"]
    )
    assert interval.dropped == 0
    constant = patient_bootstrap(mean, patient, [y], replicates=50, seed=0, stratify=y)
    assert constant.low == constant.high == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("patient", "y"), [([1, 1, 1], [0, 1, 1]), ([1, 2, 3], [1, 1, 1]), ([], [])]
)
def test_no_bounds_without_two_patients_or_a_defined_point(patient, y):
    patient = np.array(patient, dtype=np.int64)
    interval = patient_bootstrap(auroc, patient, [y, np.arange(len(y))], replicates=20, seed=0)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert interval.dropped == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": [1, 2]}, "as long as groups"),
        ({"groups": ["a", None, "b", "b"]}, "groups"),
        ({"arrays": []}, "arrays"),
        ({"replicates": 0}, "replicates"),
        ({"level": 95}, "level"),
        ({"stratify": [1, 2, 1, 1]}, "same in all rows"),
        ({"stratify": [1, 2]}, "as long as groups"),
    ],
)
def test_refusals(change, message):
    given = {"groups": [1, 1, 2, 2], "arrays": [[0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4]], "seed": 0}
    with pytest.raises(ValueError, match=message):
        patient_bootstrap(auroc, **(given | change))


def test_each_value_of_a_vector_is_what_it_is_alone():
    patient, y, score = clustered(patients=12)

    top = score.max()

    def rarely(y, score):
        """Undefined where the patient of the highest score is not drawn."""
        return float(score.mean()) if score.max() == top else math.nan

    statistics = [auroc, rarely, lambda y, score: math.nan]
    found = patient_bootstrap_vector(
        lambda *rows: np.array([statistic(*rows) for statistic in statistics]),
        patient,
        [y, score],
        replicates=80,
        seed=4,
    )
    alone = [patient_bootstrap(s, patient, [y, score], replicates=80, seed=4) for s in statistics]
    for ours, expected in zip(found, alone, strict=True):
        np.testing.assert_allclose(
            [ours.value, ours.low, ours.high], [expected.value, expected.low, expected.high]
        )
        assert (ours.replicates, ours.dropped) == (expected.replicates, expected.dropped)
    assert found[1].dropped > 0
    assert found[2].replicates == 0


def test_a_vector_of_one_patient_has_no_bounds():
    found = patient_bootstrap_vector(lambda x: np.array([mean(x)]), [1, 1], [[1.0, 2.0]], seed=0)
    assert found[0].value == 1.5
    assert math.isnan(found[0].low)
