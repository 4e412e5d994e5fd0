from datetime import UTC, datetime

import pyarrow as pa
import pytest

from medray.schema import PREDICTIONS
from medray.score.summary import ScoreSummary, summarize


def _row(file: str, study: str | None, target: str | None, score: float | None, **more: object):
    row = {
        "item_id": f"{file}#0" if target else file,
        "subject_id": "s",
        "study_id": study,
        "file_id": file,
        "size": 1,
        "mtime_ns": 1,
        "frame": 0 if target else None,
        "prediction_time": datetime(2024, 5, 1, tzinfo=UTC),
        "target": target,
        "score": score,
        "decision": None if score is None else score >= 0.5,
        "status": "ok" if target else "rejected",
        "package": "p",
        "run": "r",
    }
    return row | more


def _summary(rows: list[dict[str, object]], limit: float = 0.05) -> ScoreSummary:
    return summarize(
        pa.Table.from_pylist(rows, schema=PREDICTIONS),
        package="p",
        run="r" if rows else None,
        files_seen=10,
        files_resumed=0,
        seconds=2.0,
        reject_limit=limit,
        predictions="x",
    )


ROWS = [
    _row("a", "s1", "ill", 0.95),
    _row("b", "s1", "ill", 0.15),
    _row("c", "s2", "ill", 0.95),
    _row("d", "s3", "ill", 1.0),
    _row("e", None, None, None, reason="truncated"),
    _row("f", None, None, None, reason="not_dicom", status="ignored"),
]


def test_counts_add_up():
    summary = _summary(ROWS)
    assert summary.files_new == 6
    assert (summary.files_scored, summary.files_rejected, summary.files_ignored) == (4, 1, 1)
    assert (summary.items, summary.items_rejected, summary.studies) == (4, 0, 3)
    assert summary.rejected_by_reason == {"truncated": 1}
    assert summary.ignored_by_reason == {"not_dicom": 1}
    assert summary.files_per_s == 3.0


def test_histogram_and_top_studies():
    (target,) = _summary(ROWS).targets
    assert target.histogram == (0, 1, 0, 0, 0, 0, 0, 0, 0, 3)
    assert target.positive == 3
    assert [study["study_id"] for study in target.top_studies] == ["s3", "s2", "s1"]
    assert target.top_studies[2] == {
        "study_id": "s1",
        "max": 0.95,
        "mean": pytest.approx(0.55),
        "items": 2,
    }


@pytest.mark.parametrize(("limit", "over"), [(0.19, True), (0.2, False), (0.0, True)])
def test_limit_is_of_the_readable_files(limit: float, over: bool):
    assert _summary(ROWS, limit).over_limit is over  # 1 rejected of 5 readable


def test_a_file_with_one_good_item_is_scored():
    rows = [
        _row("a", "s1", "ill", 0.2),
        _row("a", "s1", None, None, item_id="a#1", frame=1, reason="not_finite"),
    ]
    summary = _summary(rows)
    assert (summary.files_scored, summary.files_rejected) == (1, 0)
    assert (summary.items, summary.items_rejected) == (1, 1)


def test_nothing_new():
    summary = _summary([])
    assert summary.headline() == ("nothing new: p has scored all 10 files before")
    assert not summary.over_limit
    assert summary.targets == ()


def test_classes_are_summaries_of_their_own():
    rows = [_row("a", "s1", "kind", s, text_value=c) for c, s in (("x", 0.2), ("y", 0.8))]
    found = [(t.target, t.text_value, t.positive) for t in _summary(rows).targets]
    assert found == [("kind", "x", 0), ("kind", "y", 1)]
    assert _summary(rows).to_dict()["positive kind y"] == 1
