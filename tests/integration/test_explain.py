"""`medray explain` on a dataset and a package on disk, as ingest and train leave them."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import histories
import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from histories import FITTED, TIMELINES, VOCABULARY
from pyarrow import parquet
from tiny import make_package

from medray import api
from medray.calibration import Calibration, TargetCalibration
from medray.dataset import RecordsDataset, open_any
from medray.dataset.records import RecordsMeta
from medray.evaluate import evaluate
from medray.package import open_package, write_package
from medray.schema import EVENTS
from medray.score.predictor import Predictor
from medray.spec.models import EvaluateSpec, RunSpec
from medray.spec.records import CodeSpec, RecordSource, RecordsSpec

Run = Callable[..., tuple[int, str, str]]
START = datetime(2020, 1, 1)
RECORDS = RecordsSpec(
    sources=(RecordSource(format="long", path=("rows.csv",)),),
    codes={"lactate": CodeSpec(unit="mmol/L")},
)
ASKED = histories.params(network="gru", predict_at="visits")
PATIENTS = 80


def write_records(folder: Path) -> None:
    """dataset/ of random records; a patient dies when the last lactate is above 0."""
    rng = np.random.default_rng(5)
    records = [histories.history(rng) for _ in range(PATIENTS)]
    events = [
        {
            "subject_id": 100 + number,
            "time": None if hours is None else START + timedelta(hours=48 - hours),
            "code": code,
            "numeric_value": value if isinstance(value, float) else None,
            "text_value": value if isinstance(value, str) else None,
        }
        for number, record in enumerate(records)
        for hours, code, value in record
    ]
    write_deltalake(str(folder / "events"), pa.Table.from_pylist(events, schema=EVENTS))
    names = [str(100 + number) for number in range(PATIENTS)]
    died = [float(histories.last_lactate(record) > 0) for record in records]
    subjects = {
        "item_id": names,
        "subject_id": names,
        "study_id": names,
        "split": ["train", "tuning", "held_out", "held_out"] * (PATIENTS // 4),
        "start": pa.array([START] * PATIENTS, pa.timestamp("us")),
        "events": [len(record) for record in records],
        "record_sha256": [f"{number:064x}" for number in range(PATIENTS)],
        "died": died,
    }
    write_deltalake(str(folder / "subjects"), pa.table(subjects))
    meta = RecordsMeta(
        name="made up",
        records=RECORDS,
        key_check="",
        sources_sha256="0" * 64,
        levels={
            **dict.fromkeys((*histories.TIMED, *histories.CODES, *histories.FACTS), ()),
            "state": histories.TEXTS,
        },
    )
    (folder / "dataset.json").write_text(meta.model_dump_json(), encoding="utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    write_records(folder / "dataset")
    calibrated = TargetCalibration(kind="binary", temperature=2.0, threshold=0.4, rule="youden")
    write_package(
        str(folder / "package"),
        spec=RunSpec(
            name="made_up",
            workload="timeline",
            params=ASKED.model_dump(mode="json"),
            records=RECORDS,
            output=str(folder),
        ),
        workload=TIMELINES,
        params=ASKED,
        fitted=FITTED,
        modules=histories.trained(ASKED, steps=120),
        calibration=Calibration(targets={"died": calibrated}),
        lineage={"dataset": open_any(str(folder)).fingerprint()},
        history=[],
        records=RECORDS,
        names=histories.NAMES,
    )
    return folder


def test_a_prediction_is_taken_apart_and_written_down(root: Path, run: Run) -> None:
    code, out, err = run(
        "explain", root / "package", "--subject", "103", "--out", root / "out", "--top", 5
    )
    assert code == 0, err
    assert "lactate" in out
    assert "mmol/L" in out
    found = json.loads((root / "out" / "explain.json").read_text(encoding="utf-8"))
    table = parquet.read_table(root / "out" / "events.parquet")
    assert table["contribution"].to_pylist() == [e["contribution"] for e in found["events"]]
    total = found["empty"] + found["timing"] + sum(table["contribution"].to_pylist())
    assert total + found["error"] == pytest.approx(found["answer"], abs=1e-9)
    assert 1 / (1 + np.exp(-found["answer"])) == pytest.approx(found["score"], abs=1e-5)
    assert found["score"] == pytest.approx(latest_score(root, "103"), abs=1e-9)
    sizes = np.abs(table["contribution"].to_numpy())
    assert (np.diff(sizes) <= 0).all()
    page = (root / "out" / "explain.html").read_text(encoding="utf-8")
    assert "Research use only" in page
    assert page.count("<svg") == 1 + 5  # the timeline, and a bar for every event shown
    assert "http" not in page.replace("http-equiv", "")
    assert (root / "out" / "timeline.png").read_bytes().startswith(b"\x89PNG")


def latest_score(root: Path, subject: str) -> float:
    predictor = Predictor(str(root / "package"))
    dataset = open_any(str(root))
    assert isinstance(dataset, RecordsDataset)
    items = TIMELINES.items(dataset.read_subject(subject), ASKED)
    last = int(np.argmax(items["prediction_time"]))
    rows = {name: items[name][last : last + 1] for name in TIMELINES.inputs}
    return predictor.predict_columns(rows)[0].scores[0].score


def test_a_patient_read_alone_is_the_one_read_with_the_split(root: Path) -> None:
    dataset = open_any(str(root))
    assert isinstance(dataset, RecordsDataset)
    together = dataset.read("held_out")
    for row in (0, 7):
        alone = dataset.read_subject(str(together["subject_id"][row]))
        assert set(alone) == set(together)
        for name, values in alone.items():
            np.testing.assert_array_equal(values[0], together[name][row], err_msg=name)


def test_an_earlier_prediction_knows_nothing_of_what_came_after(root: Path, run: Run) -> None:
    answers = {}
    for at in ("1", "2020-01-02T00:00", "2"):
        code, out, err = run("explain", root / "package", "--subject", "106", "--at", at, "--json")
        assert code == 0, err
        answers[at] = json.loads(out)
    assert answers["1"] == answers["2020-01-02T00:00"]  # a day after the start
    early, late = answers["1"], answers["2"]
    assert early["prediction_time"] < late["prediction_time"]
    assert len(early["events"]) < len(late["events"])
    assert min(e["hours_before"] for e in early["events"] if e["hours_before"] is not None) >= 0
    code, out, err = run("explain", root / "package", "--subject", early["item_id"], "--json")
    assert code == 0, err
    assert json.loads(out) == early


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("--subject", "999"), "no such patient"),
        (("--subject", "nobody"), "no such patient"),
        (("--subject", "103", "--at", "-1"), "days after the start"),
        (("--subject", "103", "--at", "soon"), "neither a number nor a date"),
        (("--subject", "103", "--target", "lived"), "one of: died"),
        (("--subject", "103", "--dataset", "nowhere"), "there is no dataset here"),
    ],
)
def test_what_cannot_be_explained_is_said(
    root: Path, run: Run, arguments: tuple[str, ...], wanted: str
) -> None:
    code, _, err = run("explain", root / "package", *arguments)
    assert code in (1, 2)
    assert wanted in err


def test_a_package_elsewhere_needs_to_be_told_where_the_dataset_is(
    root: Path, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "package").symlink_to(root / "package")
    code, _, err = run("explain", tmp_path / "package", "--subject", "103")
    assert code == 2
    assert "--dataset DIR" in err
    code, _, err = run(
        "explain", tmp_path / "package", "--subject", "103", "--dataset", root / "dataset"
    )
    assert code == 0, err


def test_an_imaging_package_points_to_predict(run: Run, tmp_path: Path) -> None:
    make_package(str(tmp_path / "package"))
    code, _, err = run("explain", tmp_path / "package", "--subject", "103")
    assert code == 2
    assert "medray predict PACKAGE FILE --explain FOLDER" in err


def test_the_vocabulary_of_these_tests_is_what_the_dataset_names(root: Path) -> None:
    """Or the names in the package would not be those of the codes."""
    dataset = open_any(str(root))
    assert isinstance(dataset, RecordsDataset)
    assert dataset.names() == histories.NAMES
    assert {str(channel.code) for channel in VOCABULARY.timed} <= set(histories.NAMES)


def test_mistakes_in_a_report_show_the_events_behind_them(root: Path) -> None:
    opened = open_package(str(root / "package"))
    quick = EvaluateSpec(replicates=100, mistakes=4, baselines=False, min_patients=3)
    result = evaluate(opened.spec.model_copy(update={"evaluate": quick}))
    target = result.report.targets[0]
    assert 1 <= len(target.mistakes) <= 4
    page = (root / "report" / "report.html").read_text(encoding="utf-8")
    for mistake in target.mistakes:
        found = api.explain(str(root / "package"), mistake.item_id)[0]
        assert mistake.events == found.events[:5]
        assert found.score == pytest.approx(mistake.score, abs=1e-6)
        assert mistake.item_id in page
        assert f"{mistake.events[0].contribution:+.2f}" in page
