"""Rows → molecules: duplicates and properties, against the same done one by one."""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medray.ingest.molecule_table import duplicates, grouped, properties
from medray.ingest.structures import PROPERTY

Said = tuple[str, int, str | None]  # molecule, source, value


def table(rows: Sequence[Said]) -> pa.Table:
    columns = {
        "item_id": pa.array([row[0] for row in rows], pa.string()),
        "source": pa.array([row[1] for row in rows], pa.int32()),
        "file": pa.array([0] * len(rows), pa.int32()),
        "row": pa.array(range(len(rows)), pa.int64()),
        PROPERTY + "y": pa.array([row[2] for row in rows], pa.string()),
    }
    return pa.table(columns)


def values(rows: Sequence[Said], policy: Any) -> dict[str, Any]:
    groups = grouped(table(rows))
    found = properties(groups, ["y"], policy)["y"]
    ids = groups.rows["item_id"].take(pa.array(groups.starts_N)).to_pylist()
    return dict(zip(ids, found.to_pylist(), strict=True))


NUMBERS = st.one_of(st.none(), st.sampled_from(["0", "1", "0.1", "-2.5", "+3", "1e2", ".5", "7."]))
ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2), NUMBERS), min_size=1)


@given(ROWS)
def test_numbers_that_differ_give_their_mean(rows: list[Said]) -> None:
    found = values(rows, "merge")
    known = [float(value) for _, _, value in rows if value is not None]
    for name in {row[0] for row in rows}:
        mine = [float(value) for one, _, value in rows if one == name and value is not None]
        if not mine or (set(known) <= {0.0, 1.0} and len(set(mine)) > 1):
            assert found[name] is None
        elif len(set(mine)) == 1:
            assert found[name] == mine[0]
        else:
            assert math.isclose(found[name], sum(mine) / len(mine), abs_tol=1e-12)


@given(ROWS)
def test_the_first_is_by_source_and_row(rows: list[Said]) -> None:
    found = values(rows, "first")
    for name in {row[0] for row in rows}:
        source, place = min((row[1], i) for i, row in enumerate(rows) if row[0] == name)
        assert rows[place][1] == source
        value = rows[place][2]
        assert found[name] == (None if value is None else float(value))
    again = duplicates(grouped(table(rows)))
    assert again.num_rows == len(rows) - len(found)
    assert set(again["reason"].to_pylist()) <= {"duplicate_molecule"}


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        (["1", "2.5"], [1.0, 2.5]),
        (["True", "false"], [1.0, 0.0]),
        ([None, None], [None, None]),
        (["007", "8"], None),
        (["1", ">5"], None),
        (["1e400", "1"], None),
        (["inf", "1"], None),
        (["0x10", "1"], None),
        (["true", "1"], None),
    ],
)
def test_what_is_a_number(said: list[str | None], numbers: list[float | None] | None) -> None:
    rows = [(f"m{n}", 0, value) for n, value in enumerate(said)]
    assert list(values(rows, "merge").values()) == (said if numbers is None else numbers)


def test_of_texts_the_first_that_is_there() -> None:
    rows: list[Said] = [("a", 1, "late"), ("a", 0, None), ("b", 0, None), ("a", 1, "later")]
    assert values(rows, "merge") == {"a": "late", "b": None}
    assert values(rows, "first") == {"a": None, "b": None}


def test_three_equal_numbers_stay_what_they_are() -> None:
    assert values([("a", n, "0.1") for n in range(3)] + [("b", 0, "5")], "merge")["a"] == 0.1
