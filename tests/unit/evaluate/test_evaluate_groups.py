"""Columns as groups of patients, and what a suppressed group must not give away."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medray.evaluate.groups import age_band, group_names, subgroup_table
from medray.report.document import Estimate, Subgroup


def strings(*values):
    return np.array(values, dtype=object)


# PS3.5 6.2: an age string is three digits and D, W, M or Y.
@pytest.mark.parametrize(
    ("age", "band"),
    [
        ("045Y", "40-64"),
        ("017Y", "0-17"),
        ("018Y", "18-39"),
        ("006M", "0-17"),
        ("240M", "18-39"),  # 20 years
        ("012W", "0-17"),
        ("003D", "0-17"),
        ("095Y", "80+"),
        (" 045Y ", "40-64"),
        ("45", "40-64"),
        ("", "unknown"),
        ("abc", "unknown"),
        ("999Y", "unknown"),
        (None, "unknown"),
    ],
)
def test_ages_become_bands(age, band):
    assert group_names("PatientAge", strings(age)).tolist() == [band]


def test_age_strings_are_known_by_their_form_under_any_name():
    assert group_names("when", strings("045Y", None)).tolist() == ["40-64", "unknown"]


def test_a_numeric_age_column_becomes_bands_and_impossible_ages_unknown():
    ages = np.array([3.0, 30.0, np.nan, -1.0, 400.0])
    assert group_names("age", ages).tolist() == ["0-17", "18-39", "unknown", "unknown", "unknown"]
    assert group_names("dosage", np.array([3.0])).tolist() == ["3"]


def test_text_is_kept_and_missing_is_unknown():
    assert group_names("PatientSex", strings("F", " M ", "", None)).tolist() == [
        "F",
        "M",
        "unknown",
        "unknown",
    ]


def test_few_numbers_stay_and_many_become_thirds():
    assert group_names("site", np.array([1.0, 2.0, np.nan])).tolist() == ["1", "2", "unknown"]
    names = group_names("dose", np.append(np.arange(30.0), np.nan))
    counts = {name: names.tolist().count(name) for name in set(names)}
    assert len(counts) == 4
    assert counts.pop("unknown") == 1
    assert sorted(counts.values()) == [10, 10, 10]


def count_row(y, subjects):
    def row(members):
        positives = int(y[members].sum())
        share = positives / members.sum()
        return Subgroup(
            group="",
            patients=len(set(subjects[members])),
            items=int(members.sum()),
            positives=positives,
            mean_predicted=share,
            measures={"share": Estimate(value=share, low=0.123456, high=0.654321)},
        )

    return row


def table(names, subjects, minimum=10):
    y = np.arange(len(names)) % 2
    return subgroup_table("g", strings(*names), subjects, minimum, count_row(y, subjects))


def test_small_groups_are_named_and_nothing_more():
    names = ["a"] * 37 + ["b"] * 9 + [None] * 12
    found = table([n or "unknown" for n in names], strings(*map(str, range(58))))
    assert [row.group for row in found.rows] == ["a", "b", "unknown"]
    small = found.rows[1]
    assert small == Subgroup(group="b", suppressed=True)
    assert small.model_dump() == {
        "group": "b",
        "suppressed": True,
        "patients": None,
        "items": None,
        "positives": None,
        "mean_predicted": None,
        "measures": {},
    }


def test_patients_count_for_suppression_not_items():
    names = ["a"] * 40 + ["b"] * 40
    subjects = strings(*[f"a{i}" for i in range(40)], *[f"b{i // 8}" for i in range(40)])
    assert [row.suppressed for row in table(names, subjects).rows] == [False, True]


def test_counts_are_rounded_where_subtraction_would_tell():
    names = ["a"] * 37 + ["b"] * 23 + ["c"] * 3
    found = table(names, strings(*map(str, range(63))))
    assert found.rounded
    assert "nearest 5" in found.note
    assert [(row.patients, row.items, row.positives) for row in found.rows[:2]] == [
        (35, 35, 20),
        (25, 25, 10),
    ]
    assert found.rows[0].measures["share"].low == 0.12


def test_counts_stay_exact_where_enough_patients_are_hidden():
    names = ["a"] * 37 + ["b"] * 9 + ["c"] * 8
    found = table(names, strings(*map(str, range(54))))
    assert not found.rounded
    assert found.rows[0].patients == 37


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=80), st.integers(1, 15))
def test_hidden_patients_can_never_be_subtracted_out(names, minimum):
    found = table(names, strings(*map(str, range(len(names)))), minimum)
    hidden = len(names) - sum(names.count(row.group) for row in found.rows if not row.suppressed)
    shown = [row for row in found.rows if not row.suppressed]
    if 0 < hidden < minimum and shown:
        assert all(row.patients % 5 == 0 and row.items % 5 == 0 for row in shown)


def test_many_groups_are_cut_and_many_small_ones_become_one_row():
    names = [f"big{i:02d}" for i in range(25) for _ in range(12)] + [f"s{i}" for i in range(30)]
    found = table(names, strings(*map(str, range(len(names)))))
    assert sum(not row.suppressed for row in found.rows) == 20
    assert [row.group for row in found.rows if row.suppressed] == ["30 small groups"]
    assert "20 largest" in found.note


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
