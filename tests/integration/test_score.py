"""Scoring an archive in one process: parity with predict, what is new, duplicates, faults."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from scans import add_refused, scan, write_archive
from tiny import SPEC, TINY, make_package

from medray import storage
from medray.errors import OutputConflictError, PackageError, UsageError
from medray.ingest.output import locked
from medray.schema import PREDICTIONS
from medray.score.batch import score
from medray.score.pictures import Pictures
from medray.score.predictor import Predictor
from medray.score.summary import ScoreSummary
from medray.spec.models import RunSpec, ScoreSpec

TARGETS = 4  # bright, and three classes of kind


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDRAY_KEY_FILE", str(tmp_path / "pseudonym.key"))
    write_archive(tmp_path / "archive", 14)
    make_package(str(tmp_path / "run" / "package"))
    return tmp_path


def _spec(folder: Path, **changes: object) -> RunSpec:
    section = ScoreSpec.model_validate({"archive": str(folder / "archive"), **changes})
    return SPEC.model_copy(update={"output": str(folder / "run"), "score": section})


def _score(folder: Path, **changes: object) -> ScoreSummary:
    return score(_spec(folder, **changes), task=TINY)


def _rows(folder: Path) -> pa.Table:
    return storage.read_table(str(folder / "run" / "predictions"))


def _by_item(folder: Path) -> dict[tuple[str, str, str | None], float]:
    rows = [row for row in _rows(folder).to_pylist() if row["status"] == "ok"]
    found = {(row["item_id"], row["target"], row["text_value"]): row["score"] for row in rows}
    assert len(found) == len(rows), "an item stands twice"
    return found


def test_every_file_is_scored_once_and_as_predict_does(folder: Path):
    summary = _score(folder)
    assert (summary.files_seen, summary.files_new, summary.files_scored) == (14, 14, 14)
    assert (summary.items, summary.studies, summary.files_rejected) == (14, 7, 0)
    assert not summary.over_limit
    rows = _rows(folder)
    assert rows.schema.names == PREDICTIONS.names
    assert set(rows["package"].to_pylist()) == {summary.package}
    assert set(rows["run"].to_pylist()) == {summary.run}
    scored = _by_item(folder)
    assert len(scored) == 14 * TARGETS
    pictures = Pictures(Predictor(str(folder / "run" / "package"), workload=TINY))
    for path in sorted((folder / "archive").rglob("*.dcm")):
        for row in pictures.predict_bytes(path.name, path.read_bytes()):
            key = (row.item_id, row.target or "", row.text_value)
            assert row.score == pytest.approx(scored.pop(key), abs=1e-6)
    assert not scored


def test_a_second_run_finds_nothing_to_do(folder: Path):
    first = _score(folder)
    before = json.loads((folder / "run" / "score-summary.json").read_text())
    version = storage.open_table(str(folder / "run" / "predictions")).version()
    again = _score(folder)
    assert again.files_new == 0
    assert again.headline().startswith("nothing new")
    assert again.items == 0
    assert not again.over_limit
    assert storage.open_table(str(folder / "run" / "predictions")).version() == version
    assert json.loads((folder / "run" / "score-summary.json").read_text()) == before
    assert before["run"] == first.run


def test_only_what_is_new_is_scored(folder: Path):
    _score(folder)
    before = _by_item(folder)
    write_archive(folder / "archive", 3, first=100)
    summary = _score(folder)
    assert (summary.files_seen, summary.files_new, summary.items) == (17, 3, 3)
    after = _by_item(folder)
    assert len(after) == 17 * TARGETS
    assert before.items() <= after.items()


def test_another_package_scores_all_again_beside_the_first(folder: Path):
    _score(folder)
    make_package(str(folder / "other"), seed=1)
    summary = _score(folder, package=str(folder / "other"))
    assert summary.files_new == 14
    rows = _rows(folder).to_pylist()
    assert len(rows) == 2 * 14 * TARGETS
    assert len({row["package"] for row in rows}) == 2
    assert _score(folder).files_new == 0


def test_a_changed_file_is_scored_again_and_stands_once(folder: Path):
    _score(folder)
    before = _by_item(folder)
    path = folder / "archive" / "ward1" / "scan00001.dcm"
    path.write_bytes(scan(1)[:-40] + bytes(40))
    summary = _score(folder)
    assert (summary.files_new, summary.items, summary.files_rejected) == (1, 1, 0)
    after = _by_item(folder)
    assert after.keys() == before.keys()
    assert sum(after[key] != before[key] for key in after) == TARGETS


def test_refused_files_are_rows_with_a_reason(folder: Path):
    reasons = add_refused(folder / "archive")
    summary = _score(folder, reject_limit=0.1)
    assert summary.files_new == 18
    assert summary.files_scored == 14
    assert summary.rejected_by_reason == {
        "duplicate_instance": 1,
        "empty_file": 1,
        "truncated": 1,
    }
    assert summary.ignored_by_reason == {"not_dicom": 1}
    assert summary.over_limit  # 3 of 17 readable files
    refused = [row for row in _rows(folder).to_pylist() if row["status"] != "ok"]
    assert sorted(row["reason"] for row in refused) == sorted(reasons.values())
    for row in refused:
        assert row["target"] is row["score"] is row["decision"] is row["frame"] is None
    assert _score(folder).files_new == 0  # remembered


def test_of_two_files_of_one_instance_the_first_by_path_is_scored(folder: Path):
    (folder / "archive" / "aaa.dcm").write_bytes(scan(5))
    summary = _score(folder)
    assert summary.rejected_by_reason == {"duplicate_instance": 1}
    ok = {row["file_id"] for row in _rows(folder).to_pylist() if row["status"] == "ok"}
    import hashlib

    assert hashlib.sha256(b"aaa.dcm").hexdigest()[:32] in ok
    assert hashlib.sha256(b"ward2/scan00005.dcm").hexdigest()[:32] not in ok


def test_an_instance_scored_on_another_night_is_not_scored_again(folder: Path):
    _score(folder)
    before = _by_item(folder)
    (folder / "archive" / "aaa.dcm").write_bytes(scan(5))
    summary = _score(folder)
    assert summary.ignored_by_reason == {"duplicate_instance": 1}
    assert (summary.items, summary.files_rejected) == (0, 0)
    assert _by_item(folder) == before


def test_no_identifier_enters_the_predictions(folder: Path):
    add_refused(folder / "archive")
    _score(folder)
    text = json.dumps(_rows(folder).to_pylist(), default=str)
    text += (folder / "run" / "score-summary.json").read_text()
    for raw in ("P0000", "2.25.1", "2.25.2", "scan0", "ward", "cut.dcm"):
        assert raw not in text


def test_nothing_is_left_in_staging_and_the_table_is_a_delta_table(folder: Path):
    _score(folder)
    staging = folder / "run" / ".staging"
    assert [p for p in staging.rglob("*") if p.is_file()] == []
    import deltalake

    table = deltalake.DeltaTable(str(folder / "run" / "predictions"))
    assert pa.table(table.to_pyarrow_table()).num_rows == 14 * TARGETS


def test_what_an_interrupted_run_finished_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch):
    from medray.score import stages

    real = stages.Scorer.__call__
    calls = 0

    def dying(self: stages.Scorer, table: pa.Table) -> pa.Table:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(self, table)

    monkeypatch.setattr(stages.Scorer, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        _score(folder, batch_size=4)
    assert not storage.table_exists(str(folder / "run" / "predictions"))
    monkeypatch.setattr(stages.Scorer, "__call__", real)
    summary = _score(folder)
    assert summary.files_resumed == 8
    assert len(_by_item(folder)) == 14 * TARGETS


@pytest.mark.parametrize("moment", ["publish", "summary"])
def test_stopped_around_the_commit(folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str):
    name = {"publish": "publish", "summary": "write_atomic"}[moment]
    real = getattr(storage, name)

    def dying(*args: object, **kwargs: object) -> object:
        if moment == "publish" or str(args[0]).endswith("score-summary.json"):
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(storage, name, dying)
    with pytest.raises(KeyboardInterrupt):
        _score(folder)
    monkeypatch.undo()
    monkeypatch.setenv("MEDRAY_KEY_FILE", str(folder / "pseudonym.key"))
    summary = _score(folder)
    assert summary.files_new == (14 if moment == "publish" else 0)
    assert len(_by_item(folder)) == 14 * TARGETS
    told = json.loads((folder / "run" / "score-summary.json").read_text())
    assert (told["items"], told["files_new"]) == (14, 14)
    assert _score(folder).files_new == 0


def test_progress_counts_files(folder: Path):
    seen: list[dict[str, object]] = []
    score(_spec(folder), progress=seen.append, task=TINY)
    assert seen[0]["stage"] == "scan"
    assert seen[-1] == {"stage": "score", "done": 14, "total": 14, "unit": "files"}


def test_a_model_for_one_modality_leaves_the_others_alone(folder: Path):
    spec = SPEC.model_dump()
    spec["ingest"]["select"] = {"modality": ["CT"]}
    make_package(str(folder / "ct"), spec=RunSpec.model_validate(spec))
    summary = _score(folder, package=str(folder / "ct"))
    assert summary.ignored_by_reason == {"not_selected": 14}
    assert summary.items == 0
    assert not summary.over_limit


def test_errors_say_what_to_do(folder: Path):
    with pytest.raises(UsageError, match="nothing to score"):
        score(RunSpec(name="x", output=str(folder / "run")), task=TINY)
    with pytest.raises(UsageError, match="root of the archive"):
        _score(folder, archive=str(folder / "nowhere"))
    with pytest.raises(PackageError, match="no package"):
        _score(folder, package=str(folder / "nowhere"))
    (folder / "run" / "predictions").mkdir()
    (folder / "run" / "predictions" / "mine.csv").write_text("x")
    with pytest.raises(OutputConflictError, match="something else"):
        _score(folder)
    shutil.rmtree(folder / "run" / "predictions")
    (folder / "run" / "package" / "fitted.json").write_text("{}")
    with pytest.raises(PackageError, match=r"fitted\.json"):
        _score(folder)


def test_two_nights_on_one_output_do_not_meet(folder: Path):
    with (
        locked(str(folder / "run" / ".staging" / "score"), "score"),
        pytest.raises(OutputConflictError, match="another score is writing"),
    ):
        _score(folder)
    assert not (folder / "run" / "predictions").exists()
    assert _score(folder).files_scored == 14
    assert not (folder / "run" / ".staging" / "score").exists()


def test_little_work_starts_no_ray(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse() -> None:
        raise AssertionError("Ray was asked for")

    monkeypatch.setattr("medray.ingest.cluster.ensure_ray", refuse)
    _score(folder)
