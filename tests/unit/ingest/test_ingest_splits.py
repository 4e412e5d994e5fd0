"""Splits: stable, by shares, from columns and folders; leaks are refused."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medray.dataset import check_leaks
from medray.errors import DataError, LeakError
from medray.ingest.scan import folder_split, split_of_folder
from medray.ingest.splits import assign, by_subject
from medray.spec.models import SplitSpec

KEY = bytes(range(32))
PEOPLE = [f"s{i}" for i in range(4000)]


def test_shares_are_kept() -> None:
    splits = by_subject(KEY, PEOPLE, {"train": 0.7, "tuning": 0.1, "held_out": 0.2})
    for name, share in (("train", 0.7), ("tuning", 0.1), ("held_out", 0.2)):
        assert abs(splits.count(name) / len(PEOPLE) - share) < 0.03  # > 4 standard errors


@given(st.lists(st.text(min_size=1), min_size=1, unique=True), st.data())
def test_nobody_moves_when_the_archive_grows(people: list[str], data: st.DataObject) -> None:
    shares = {"train": 0.5, "tuning": 0.25, "held_out": 0.25}
    whole = dict(zip(people, by_subject(KEY, people, shares), strict=True))
    some = data.draw(st.lists(st.sampled_from(people), min_size=1))
    assert by_subject(KEY, some, shares) == [whole[person] for person in some]


def test_another_key_splits_otherwise() -> None:
    shares = {"train": 0.5, "held_out": 0.5}
    assert by_subject(KEY, PEOPLE, shares) != by_subject(bytes(32), PEOPLE, shares)


def test_a_share_of_nothing_holds_nobody() -> None:
    assert set(by_subject(KEY, PEOPLE, {"train": 0.0, "tuning": 0.0, "held_out": 1.0})) == {
        "held_out"
    }


@pytest.mark.parametrize(
    ("value", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("val", "tuning"),
        ("valid", "tuning"),
        ("Validation", "tuning"),
        ("tuning", "tuning"),
        ("TEST", "held_out"),
        ("held-out", "held_out"),
        ("held_out", "held_out"),
        ("benign", None),
    ],
)
def test_names_of_splits(value: str, split: str | None) -> None:
    assert split_of_folder(value) == split


def test_folders_that_name_a_split() -> None:
    assert folder_split("train/cat/1.png") == "train"
    assert folder_split("data.zip!x/test/train/1.png") == "held_out"  # the outermost
    assert folder_split("cat/train.png") is None


def test_a_column_decides_and_null_is_in_no_split() -> None:
    spec = SplitSpec(column="part")
    values = ["train", None, "val", "test"]
    assert assign(KEY, ["a", "b", "c", "d"], values, spec)[0] == [
        "train",
        None,
        "tuning",
        "held_out",
    ]


def test_without_tuning_a_share_of_train_becomes_it() -> None:
    spec = SplitSpec(column="p", fractions={"train": 0.6, "tuning": 0.2, "held_out": 0.2})
    values = ["train", "test"] * 2000
    splits, said = assign(KEY, PEOPLE, values, spec)
    assert splits[1::2] == ["held_out"] * 2000
    assert abs(splits[::2].count("tuning") / 2000 - 0.25) < 0.04
    assert "25% of train's subjects" in said


@pytest.mark.parametrize("values", [["train", "fold 3"], [None, None]])
def test_a_column_that_names_no_split_is_an_error(values: list[str | None]) -> None:
    with pytest.raises(DataError, match="split column 'p'") as raised:
        assign(KEY, ["a", "b"], values, SplitSpec(column="p"))
    assert "fold" not in str(raised.value)


def labels(*rows: tuple[str, str, str | None]) -> pa.Table:
    names = ("item_id", "subject_id", "split")
    return pa.Table.from_pylist(
        [dict(zip(names, row, strict=True)) for row in rows],
        schema=pa.schema([(name, pa.string()) for name in names]),
    )


def test_a_subject_in_two_splits_is_a_leak() -> None:
    table = labels(("1", "a", "train"), ("2", "a", "held_out"), ("3", "b", "train"))
    with pytest.raises(LeakError, match="1 of 2 subjects"):
        check_leaks(table, {"1": "x", "2": "y", "3": "z"}, "drop")


def test_identical_images_fail_or_stay_where_they_hurt_least() -> None:
    table = labels(
        ("1", "a", "train"),
        ("2", "b", "tuning"),
        ("3", "c", "held_out"),
        ("4", "d", "train"),
        ("5", "e", "train"),
        ("6", "f", None),
    )
    hashes = {"1": "x", "2": "x", "3": "x", "4": "y", "5": "y", "6": "x"}
    with pytest.raises(LeakError, match=r"1 identical images or records .* \(3 items\)"):
        check_leaks(table, hashes, "fail")
    assert check_leaks(table, hashes, "drop") == {"1", "2"}
