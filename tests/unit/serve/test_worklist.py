"""Rows of predictions → lines to look through."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from medray.schema import PREDICTIONS
from medray.serve.problems import ProblemError
from medray.serve.worklist import Worklist, asked_of


def row(item: str, score: float | None, day: int = 1, **more: Any) -> dict[str, Any]:
    """A scored picture of study s<item's first letter>."""
    found = dict.fromkeys(PREDICTIONS.names) | {"item_id": item, "file_id": item, "size": 1}
    found |= {"mtime_ns": 1, "frame": 0, "study_id": f"s{item[0]}", "subject_id": "p"}
    found |= {"target": "bright", "score": score, "status": "ok", "run": "r1"}
    found |= {"decision": None if score is None else score >= 0.5, "package": "m@1#aaaaaaaaaaaa"}
    return found | {"prediction_time": datetime(2024, 5, day, 12, tzinfo=UTC)} | more


def table(folder: Path, *rows: dict[str, Any]) -> str:
    data = pa.Table.from_pylist(list(rows), schema=PREDICTIONS)
    write_deltalake(str(folder / "predictions"), data, mode="append")
    return str(folder)


def lines(places: list[str], **query: str) -> list[tuple[Any, ...]]:
    page = Worklist(places).page(asked_of(query))
    return [(one["study_id"], one["score"], one["decision"], one["items"]) for one in page["rows"]]


def test_a_study_is_a_line_with_its_greatest_score(tmp_path: Path) -> None:
    place = table(tmp_path, row("a#0", 0.2), row("a#1", 0.9), row("b#0", 0.1))
    assert lines([place], sort="score") == [("sa", 0.9, True, 2), ("sb", 0.1, False, 1)]
    assert lines([place], sort="score", order="asc")[0][0] == "sb"
    assert lines([f"{place}/predictions"]) == lines([place])  # the table itself


def test_of_classes_only_the_chosen_one_and_of_patients_every_moment(tmp_path: Path) -> None:
    classes = [
        row("a", p, target="kind", text_value=name, decision=p > 0.5)
        for name, p in (("cat", 0.7), ("dog", 0.3))
    ]
    patients = [row(f"7@{n}", 0.4, frame=None, study_id=None, target="death") for n in range(2)]
    values = row("c", 12.5, target="dose", text_value="q0.5", decision=None)
    page = Worklist([table(tmp_path, *classes, *patients, values)]).page(
        asked_of({"sort": "study"})
    )
    found = sorted(
        (one["study_id"], one["target"], one["text_value"] or "") for one in page["rows"]
    )
    assert found == [
        ("7@0", "death", ""), ("7@1", "death", ""), ("sa", "kind", "cat"), ("sc", "dose", "q0.5"),
    ]  # fmt: skip
    assert page["targets"] == ["death", "dose", "kind"]


def test_the_newest_answer_counts_once(tmp_path: Path) -> None:
    old = table(tmp_path / "a", row("a#0", 0.9, day=1))
    new = table(tmp_path / "b", row("a#0", 0.3, day=2, run="r2"))
    assert lines([new, old]) == lines([old, new]) == [("sa", 0.3, False, 1)]
    other = table(tmp_path / "c", row("a#0", 0.8, day=3, package="m@2#bbbbbbbbbbbb"))
    assert len(lines([old, new, other])) == 2  # another version says something of its own


@pytest.mark.parametrize(
    ("query", "studies"),
    [
        ({"from": "2024-05-02"}, ["sb", "sc"]),
        ({"from": "2024-05-02", "to": "2024-05-02"}, ["sb"]),
        ({"to": "2024-05-01"}, ["sa"]),
        ({"decision": "positive"}, ["sb", "sc"]),
        ({"decision": "negative"}, ["sa"]),
        ({"decision": "rejected"}, ["x"]),
        ({"decision": "undecided"}, []),
        ({"target": "bright"}, ["sa", "sb", "sc"]),
        ({"target": "other"}, []),
        ({"model": "m"}, ["sa", "sb", "sc", "x"]),
        ({"model": "m@1"}, ["sa", "sb", "sc", "x"]),
        ({"model": "m@10"}, []),
        ({"limit": "2", "offset": "1"}, ["sb", "sc"]),
        ({"limit": "0"}, []),
    ],
)
def test_filters(tmp_path: Path, query: dict[str, str], studies: list[str]) -> None:
    bad = row("x", None, target=None, frame=None, study_id=None, status="rejected")
    bad |= {"reason": "truncated", "prediction_time": None}
    place = table(tmp_path, row("a", 0.1, 1), row("b", 0.6, 2), row("c", 0.7, 3), bad)
    found = lines([place], sort="study", order="asc", **query)
    assert [one[0] for one in found] == studies


def test_a_table_is_read_again_when_it_has_changed_and_may_come_later(tmp_path: Path) -> None:
    worklist = Worklist([str(tmp_path)])
    assert worklist.page(asked_of({}))["total"] == 0
    table(tmp_path, row("a", 0.1))
    assert worklist.page(asked_of({}))["total"] == 1
    table(tmp_path, row("b", 0.1, day=4))
    page = worklist.page(asked_of({}))
    assert (page["total"], page["newest"], page["models"]) == (2, "2024-05-04", ["m"])


@pytest.mark.parametrize(
    "query", [{"sort": "x"}, {"limit": "1001"}, {"from": "today"}, {"who": "me"}, {"offset": "-1"}]
)
def test_a_query_that_is_not_as_it_must_be_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(ProblemError) as refused:
        asked_of(query)
    assert refused.value.errors[0]["pointer"] == next(iter(query))
