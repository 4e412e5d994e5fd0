"""Nights on patients' records: what is new, what is refused, and the same scores as everywhere."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_records import write_records
from typer.testing import CliRunner

from medray import api, storage
from medray.cli import app
from medray.errors import UsageError
from medray.score.summary import ScoreSummary
from medray.spec.models import RunSpec, ScoreSpec


@pytest.fixture
def night(tiny_records: tuple[Path, RunSpec], tmp_path: Path) -> RunSpec:
    """A run of its own, over tables of its own, with the session's package."""
    write_records(tmp_path, subjects=40, seed=1, files=3)
    package = str(tiny_records[0] / "run" / "package")
    return _over(tiny_records[1], tmp_path, package)


def _over(spec: RunSpec, folder: Path, package: str, **section: Any) -> RunSpec:
    assert spec.records is not None
    (source,) = spec.records.sources
    tables = [source.model_copy(update={"path": (str(folder / "events"),)}).model_dump()]
    settings = {"package": package, "records": {"sources": tables, **section}}
    score = ScoreSpec.model_validate(settings)
    return spec.model_copy(update={"output": str(folder / "run"), "score": score})


def _folder(spec: RunSpec) -> Path:
    return Path(spec.output_uri).parent


def _package(spec: RunSpec) -> str:
    assert spec.score is not None
    return str(spec.score.package)


def _rows(spec: RunSpec) -> list[dict[str, Any]]:
    return storage.read_table(f"{spec.output_uri}/predictions").to_pylist()


def _by_item(spec: RunSpec) -> dict[str, float | None]:
    rows = _rows(spec)
    found = {row["item_id"]: row["score"] for row in rows}
    assert len(found) == len(rows), "an item stands twice"
    return found


def _append(spec: RunSpec, text: str) -> None:
    with (_folder(spec) / "events" / "part-1.csv").open("a") as file:
        file.write(text)


def _predicted(spec: RunSpec, *options: str) -> list[dict[str, Any]]:
    arguments = ["predict", _package(spec), str(_folder(spec) / "events"), "--json", *options]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.output.splitlines()]


def test_a_night_scores_every_patient_once_as_predict_does(night: RunSpec):
    summary = api.score(night)
    assert (summary.unit, summary.files_seen, summary.files_new, summary.items) == (
        "patients",
        40,
        40,
        40,
    )
    assert not summary.over_limit
    *items, counts = _predicted(night)
    assert counts["events"] == summary.events
    assert {item["item_id"]: item["scores"][0]["score"] for item in items} == _by_item(night)
    for row in _rows(night):
        assert row["item_id"].startswith(row["subject_id"] + "@")
        assert row["prediction_time"].year == 1970
    assert not [p for p in (Path(night.output_uri) / ".staging").rglob("*") if p.is_file()]


def test_only_what_has_changed_is_scored_again(night: RunSpec):
    api.score(night)
    before = _by_item(night)
    again = api.score(night)
    assert (again.files_new, again.headline().startswith("nothing new")) == (0, True)
    _append(night, "p3,60,lactate,9\npnew,0,lactate,2\n")
    (_folder(night) / "events" / "part-0.csv").touch()
    summary = api.score(night)
    assert (summary.files_seen, summary.files_new, summary.items) == (41, 2, 2)
    after = _by_item(night)
    assert len(after) == 41
    assert len(before.items() & after.items()) == 39  # p3 stands at another time now
    assert len(before.keys() - after.keys()) == 1


def test_what_is_corrected_and_corrected_back_is_scored_each_time(night: RunSpec):
    api.score(night)
    before = _by_item(night)
    file = _folder(night) / "events" / "part-1.csv"
    old = file.read_text()
    changed: list[int] = []
    for text in (old + "p3,60,lactate,9\n", old, old + "p3,60,lactate,9\n", old):
        file.write_text(text)
        changed.append(api.score(night).files_new)
    assert changed == [1, 1, 1, 1]
    assert _by_item(night) == before


def test_order_and_files_of_the_rows_do_not_matter(night: RunSpec):
    api.score(night)
    before = _by_item(night)
    folder = _folder(night) / "events"
    lines = [line for file in sorted(folder.iterdir()) for line in file.read_text().split()[1:]]
    shutil.rmtree(folder)
    folder.mkdir()
    for part in range(2):  # a patient's rows in two files, the last first
        rows = lines[::-1][part::2]
        (folder / f"x{part}.csv").write_text("\n".join(["patient,hours,code,value", *rows]))
    assert api.score(night).files_new == 0
    shutil.rmtree(Path(night.output_uri) / "predictions")
    api.score(night)
    assert _by_item(night) == before


def test_faults_are_counted_and_none_is_silent(night: RunSpec):
    _append(night, "pvoid,5,lactate,inf\npnew,1,NOVEL,3\n,1,lactate,2\np3,soon,lactate,1\n")
    summary = api.score(night)
    assert summary.rows_refused == {"invalid_time": 1, "invalid_value": 1, "no_subject": 1}
    assert summary.unknown_codes == {"NOVEL": 1}
    assert summary.rejected_by_reason == {"no_history": 2}
    assert summary.files_new == 42
    assert "1 of" in summary.headline()
    refused = [row for row in _rows(night) if row["status"] != "ok"]
    assert [row["score"] for row in refused] == [None, None]
    assert api.score(night).files_new == 0  # remembered
    done = CliRunner().invoke(app, ["predict", _package(night), str(_folder(night) / "events")])
    assert "rows refused: 1 invalid_time, 1 invalid_value, 1 no_subject" in done.output
    assert "have codes that the model has never seen: NOVEL (1)" in done.output
    assert done.output.count("rejected: no_history") == 2
    _append(night, "pvoid,6,lactate,2\n")
    assert api.score(night).items == 1
    assert sum(row["status"] != "ok" for row in _rows(night)) == 1


def test_too_many_refused_rows_are_an_exit_code(night: RunSpec, tmp_path: Path):
    _append(night, "p3,soon,lactate,1\n" * 200)
    assert night.score is not None
    from medray.spec.load import dump_spec

    (tmp_path / "spec.yaml").write_text(dump_spec(night))
    done = CliRunner().invoke(app, ["score", str(tmp_path / "spec.yaml")])
    assert done.exit_code == 3
    assert "no_history" not in done.output


def test_all_moments_or_the_latest(tmp_path: Path):
    """A model asked at every visit: nights and predict take the last one, or all."""
    from tiny_records import records_spec

    write_records(tmp_path, subjects=120)
    spec = records_spec(tmp_path, predict_at="visits")
    api.ingest(spec)
    api.train(spec)
    latest = api.score(spec)
    assert latest.items == 120
    before = _by_item(spec)
    asked = ScoreSpec.model_validate({"records": {"at": "all"}})
    every = api.score(spec.model_copy(update={"score": asked}))
    assert every.files_new == 120  # the question is another one
    assert every.items == len(_by_item(spec)) > 400
    assert before.items() <= _by_item(spec).items()
    (answer,) = api.predict(f"{spec.output_uri}/package", [str(tmp_path / "events")], every=True)
    assert {row.item_id: row.score for row in answer.rows} == _by_item(spec)


def test_what_an_interrupted_night_finished_is_kept(
    night: RunSpec, monkeypatch: pytest.MonkeyPatch
):
    from medray.score import records

    assert night.score is not None
    small = night.model_copy(update={"score": night.score.model_copy(update={"batch_size": 4})})
    real = records.ShardScorer._scored
    calls = 0

    def dying(self: records.ShardScorer, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(records.ShardScorer, "_scored", dying)
    with pytest.raises(KeyboardInterrupt):
        api.score(small)
    assert not storage.table_exists(f"{night.output_uri}/predictions")
    monkeypatch.setattr(records.ShardScorer, "_scored", real)
    summary: ScoreSummary = api.score(small)
    assert 0 < summary.files_resumed <= 12
    assert len(_by_item(night)) == 40


def test_no_name_of_a_patient_enters_the_predictions(night: RunSpec):
    _append(night, "Mrs Smith,5,lactate,2\n")
    api.score(night)
    text = json.dumps(_rows(night), default=str)
    text += (Path(night.output_uri) / "score-summary.json").read_text()
    text += json.dumps(_predicted(night))
    assert "Smith" not in text
    assert '"p3"' not in text


def test_errors_say_what_to_do(night: RunSpec, tiny_records: tuple[Path, RunSpec], tmp_path: Path):
    package = _package(night)
    outcomes = str(tmp_path / "outcomes.csv")
    with pytest.raises(UsageError, match="no column 'hours'"):
        api.predict(package, [outcomes])
    with pytest.raises(UsageError, match="no number 2"):
        api.predict(package, [outcomes], source=2)
    with pytest.raises(UsageError, match="no CSV or Parquet file"):
        api.predict(package, [str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="heat maps of pictures"):
        api.predict(package, [outcomes], explain=str(tmp_path))
    with pytest.raises(UsageError, match=r"score\.records\.sources"):
        api.score(RunSpec(name="x", output=str(tmp_path), score=ScoreSpec(package=package)))
