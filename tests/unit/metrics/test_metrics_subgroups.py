"""The subgroup table: its numbers, its unknown group, and that suppression leaks nothing."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from medray.metrics.subgroups import age_band, subgroup_table


def cohort(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, rows)
    p = 1 / (1 + np.exp(-(rng.normal(size=rows) + y)))
    subject = np.array([f"s{i // 2:03d}" for i in range(rows)])  # two items a patient
    sex = np.where(np.arange(rows) // 2 % 3 == 0, "F", "M").astype(object)
    return sex, y, p, subject


def test_numbers_are_those_of_the_group_alone():
    sex, y, p, subject = cohort()
    rows = subgroup_table({"sex": sex}, y, p, subject, 0.5)
    assert [(row.attribute, row.group, row.status) for row in rows] == [
        ("sex", "F", "reported"),
        ("sex", "M", "reported"),
    ]
    for row in rows:
        member = sex == row.group
        assert row.patients == len(set(subject[member]))
        assert row.items == member.sum()
        assert row.positives == y[member].sum()
        assert row.prevalence == pytest.approx(y[member].mean())
        assert row.mean_predicted == pytest.approx(p[member].mean())
        assert row.auroc.value == pytest.approx(sk.roc_auc_score(y[member], p[member]))
        assert row.auroc.low < row.auroc.value < row.auroc.high
        recall = sk.recall_score(y[member], p[member] >= 0.5)
        assert row.sensitivity.value == pytest.approx(recall)
        specificity = sk.recall_score(y[member], p[member] >= 0.5, pos_label=0)
        assert row.specificity.value == pytest.approx(specificity)


@given(st.lists(st.sampled_from("ABCD"), min_size=1, max_size=60), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_suppression_leaks_no_counts(names, least):
    size = len(names)
    subject = np.arange(size) // 2
    groups = np.array(names, dtype=object)
    rows = subgroup_table(
        {"site": groups}, np.arange(size) % 2, np.full(size, 0.5), subject, 0.5, min_patients=least
    )
    assert [row.group for row in rows] == sorted(set(names))
    for row in rows:
        patients = np.unique(subject[groups == row.group]).size
        assert (row.status == "suppressed") == (patients < least)
        if row.status == "suppressed":
            shown = {k: v for k, v in dataclasses.asdict(row).items() if v is not None}
            assert shown == {"attribute": "site", "group": row.group, "status": "suppressed"}
        else:
            assert row.patients == patients


def test_patients_are_counted_not_items():
    y = np.arange(40) % 2
    subject = np.arange(40) % 9  # 40 items, nine patients
    (row,) = subgroup_table({"sex": ["F"] * 40}, y, np.full(40, 0.5), subject, 0.5)
    assert row.status == "suppressed"
    (row,) = subgroup_table({"sex": ["F"] * 40}, y, np.full(40, 0.5), subject, 0.5, min_patients=9)
    assert (row.patients, row.items) == (9, 40)


def test_missing_values_are_their_own_group():
    _, y, p, subject = cohort()
    sex = np.array(["M", "M", None, math.nan, "", "  ", "M", "M"] * 50, dtype=object)
    rows = subgroup_table({"sex": sex}, y, p, subject, 0.5)
    assert [row.group for row in rows] == ["M", "unknown"]
    assert sum(row.items for row in rows) == y.size


def test_missing_values_in_a_list_are_not_the_name_nan():
    rows = subgroup_table(
        {"sex": ["M", math.nan]}, [0, 1], [0.1, 0.2], ["a", "b"], 0.5, min_patients=1
    )
    assert [row.group for row in rows] == ["M", "unknown"]


def test_what_a_group_does_not_define_is_nan():
    (row,) = subgroup_table(
        {"sex": ["F"] * 12}, np.ones(12), np.linspace(0, 1, 12), np.arange(12), 0.5
    )
    assert math.isnan(row.auroc.value)
    assert math.isnan(row.specificity.value)
    assert row.sensitivity.value == 0.5
    assert row.prevalence == 1.0


def test_attributes_are_separate_and_none_is_fine():
    sex, y, p, subject = cohort()
    rows = subgroup_table({"sex": sex, "site": ["a"] * y.size}, y, p, subject, 0.5)
    assert [row.attribute for row in rows] == ["sex", "sex", "site"]
    assert subgroup_table({}, y, p, subject, 0.5) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": {"sex": ["F"]}}, "1 values for 2 rows"),
        ({"groups": {"sex": [1, 2]}}, "strings or None"),
        ({"subject_ids": ["a"]}, "differ in length"),
        ({"subject_ids": ["a", None]}, "subject_ids"),
        ({"p": [0.1, 1.2]}, r"\[0, 1\]"),
        ({"threshold": math.nan}, "threshold"),
        ({"min_patients": 0}, "min_patients"),
    ],
)
def test_refusals(change, message):
    given = {
        "groups": {"sex": ["F", "M"]},
        "y": [0, 1],
        "p": [0.1, 0.2],
        "subject_ids": ["a", "b"],
        "threshold": 0.5,
    }
    with pytest.raises(ValueError, match=message):
        subgroup_table(**(given | change))


@pytest.mark.parametrize(
    ("years", "band"),
    [
        (0, "0-17"),
        (17.9, "0-17"),
        (18, "18-39"),
        (39.99, "18-39"),
        (40, "40-64"),
        (65, "65-79"),
        (80, "80+"),
        (104, "80+"),
        (None, None),
        (math.nan, None),
    ],
)
def test_age_bands(years, band):
    assert age_band(years) == band


@pytest.mark.parametrize("years", [-1, math.inf])
def test_impossible_ages_are_refused(years):
    with pytest.raises(ValueError, match="age"):
        age_band(years)
