"""Which draws are the molecules asked for: against a loop over them, and whoever drew them."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medray.errors import UsageError
from medray.generate.asked import Asked
from medray.generate.draws import RECEIPT, Job
from medray.generate.picked import lowest_first, pick, ranked, require_column

JOB = Job("package", "cpu", 0, "gan", 1.0, columns=("tox/NR-AR",))

# (SMILES, has an alert, is left out as too similar): a few names, so that many stand twice
draws = st.lists(
    st.tuples(st.sampled_from("ABCDEFGH"), st.booleans(), st.booleans()), min_size=1, max_size=40
)


def _rows(drawn: list[tuple[str, bool, bool]], chunk: int) -> pa.Table:
    """Rows of chunks of `chunk` draws. A molecule is always judged alike."""
    verdict = {name: (bad, alike) for name, bad, alike in reversed(drawn)}
    rows: list[dict[str, Any]] = []
    for at, (name, _, _) in enumerate(drawn):
        bad, alike = verdict[name]
        row = {"smiles": name, "scaffold": "", "chunk": at // chunk, "place": at % chunk}
        row |= {"alert": "MCF1" if bad else None, "novel": name > "C", "similarity": 0.5}
        if not bad and not alike:
            row |= {"QED": ord(name) / 100, "SA": 2.0, "logP": 1.0, "weight": 100.0}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=pa.schema([*JOB.schema, ("chunk", pa.int32())]))


def _receipts(drawn: list[tuple[str, bool, bool]]) -> pa.Table:
    row = {"file_id": "chunk-0", "size": len(drawn), "mtime_ns": 0, "drawn": len(drawn) + 3}
    refused = [("metal", 1)]
    return pa.Table.from_pylist([{**row, "valid": len(drawn) + 1, "refused": refused}] * 2, RECEIPT)


@given(draws, st.integers(1, 7))
def test_the_first_of_each_that_nothing_leaves_out(drawn: Any, chunk: int):
    table = _rows(drawn, chunk)
    found = pick(table, _receipts(drawn), filters=True)
    first = dict(zip(table["smiles"].to_pylist()[::-1], table.to_pylist()[::-1], strict=True))
    kept = [n for n in dict.fromkeys(table["smiles"].to_pylist()) if first[n]["QED"] is not None]
    assert found.rows["smiles"].to_pylist() == kept
    counts = found.counts
    assert counts.distinct == len(first)
    assert counts.novel == sum(row["novel"] for row in first.values())
    assert counts.alerts == sum(row["alert"] is not None for row in first.values())
    assert counts.kept + counts.alerts + counts.alike == counts.distinct
    assert (counts.drawn, counts.valid) == (2 * len(drawn) + 6, 2 * len(drawn) + 2)
    assert counts.refused == {"metal": 2}


@given(draws, st.integers(1, 7), st.integers(1, 9))
def test_how_many_are_wanted_never_changes_which_come_first(drawn: Any, chunk: int, count: int):
    found = pick(_rows(drawn, chunk), _receipts(drawn), filters=True)
    some = ranked(found, Asked(count=count), JOB.columns, lowest=False)
    more = ranked(found, Asked(count=count + 1), JOB.columns, lowest=False)
    assert set(some["smiles"].to_pylist()) <= set(more["smiles"].to_pylist())
    assert some["rank"].to_pylist() == list(range(1, some.num_rows + 1))
    assert some["QED"].to_pylist() == sorted(some["QED"].to_pylist(), reverse=True)


def test_nothing_is_known_to_be_new_without_a_training_set():
    drawn = [("A", False, False), ("B", False, False)]
    table = _rows(drawn, 2).drop_columns(["novel"])
    table = table.append_column("novel", pa.nulls(2, pa.bool_()))
    assert pick(table, _receipts(drawn), filters=True).counts.novel is None


@pytest.mark.parametrize(
    ("asked", "lowest"),
    [
        (Asked(by="QED"), False),
        (Asked(by="SA"), True),
        (Asked(by="similarity"), True),
        (Asked(by="tox/NR-AR"), True),
        (Asked(by="QED", lowest=True), True),
        (Asked(by="SA", lowest=False), False),
    ],
)
def test_which_end_is_best(asked: Asked, lowest: bool):
    require_column(asked, JOB.columns)
    assert lowest_first(asked, JOB.columns) is lowest


@pytest.mark.parametrize("by", ["smiles", "rank", "nothing"])
def test_a_column_that_cannot_rank_is_refused(by: str):
    with pytest.raises(UsageError, match="cannot be ranked"):
        require_column(Asked(by=by), ())
