"""Timelines larger than memory: trained and evaluated shard by shard, the same as if held whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medray import api
from medray.dataset import RecordsDataset, open_any
from medray.evaluate import reading, run
from medray.evaluate.reading import Reading
from medray.package import open_package
from medray.report.document import BinaryResult
from medray.score.predictor import Predictor
from medray.spec.models import RunSpec
from medray.workloads import WORKLOADS
from tests.timelines import records_spec, write_cohort

FRACTIONS = {"train": 0.4, "tuning": 0.2, "held_out": 0.4}
TASK = WORKLOADS["timeline"]


def run_spec(root: Path, output: str = "out", predict_at: str = "end", **train: Any) -> RunSpec:
    plain = records_spec(root)
    return RunSpec.model_validate(
        {
            **plain,
            "output": str(root / output),
            "dataset": str(root / "out" / "dataset"),
            "split": {"fractions": FRACTIONS},
            "params": {**plain["params"], "predict_at": predict_at, "dropout": 0.2},
            "train": {**plain["train"], "epochs": 12, "cache": "stream", **train},
            "evaluate": {"replicates": 100, "subgroups": [], "min_patients": 2},
        }
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    write_cohort(folder, 200)
    api.ingest(run_spec(folder))
    api.train(run_spec(folder))
    return folder


def weights(root: Path, output: str) -> dict[str, bytes]:
    folder = root / output / "package" / "weights"
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_streamed_training_learns(root: Path) -> None:
    package = open_package(str(root / "out" / "package"))
    losses = [line["loss"] for line in package.metrics["history"]]
    assert losses[-1] < losses[0] - 0.2
    held_in_memory = api.train(run_spec(root, "memory", cache="memory"))
    streamed = api.train(run_spec(root))
    assert streamed.already_done
    assert streamed.best is not None
    assert held_in_memory.best is not None
    assert min(streamed.best, held_in_memory.best) > 0.9, losses


class StopHereError(Exception):
    """Stands for a killed process."""


def test_a_killed_run_goes_on_to_the_same_weights(root: Path) -> None:
    spec = run_spec(root, "killed")

    def stop(event: dict[str, Any]) -> None:
        if event["stage"] == "train" and event["done"] == 7:
            raise StopHereError

    with pytest.raises(StopHereError):
        api.train(spec, progress=stop)
    assert api.train(spec).resumed
    assert weights(root, "killed") == weights(root, "out")


@pytest.mark.parametrize("predict_at", ["end", "visits"])
def test_prediction_by_shards_is_that_of_the_whole_split(root: Path, predict_at: str) -> None:
    output = f"judged-{predict_at}"
    spec = run_spec(root, output, predict_at, epochs=1)
    api.train(spec)
    predictor = Predictor(str(root / output / "package"))
    dataset = open_any(spec.dataset_uri)
    assert isinstance(dataset, RecordsDataset)
    params, _ = predictor.learned
    whole = TASK.items(dataset.read("held_out"), params)
    expected = predictor.logits({name: whole[name] for name in TASK.inputs})
    told: list[int] = []
    found = Reading(dataset, set(), TASK, predictor).predict("held_out", told.append)
    assert found.columns["item_id"].tolist() == whole["item_id"].tolist()
    assert told[-1] == len(whole["item_id"]) > 40
    for name, values in expected.items():
        np.testing.assert_allclose(found.logits[name], values, rtol=0, atol=1e-6)
    for name, values in TASK.truth(whole, params).items():
        assert np.array_equal(found.truth[name], values, equal_nan=True)
    assert not set(found.columns) & set(TASK.inputs)  # histories are let go


def test_patients_left_out_are_read_nowhere(root: Path) -> None:
    spec = run_spec(root)
    dataset = open_any(spec.dataset_uri)
    assert isinstance(dataset, RecordsDataset)
    gone = set(dataset.columns("held_out")["item_id"][:7])
    found = Reading(dataset, gone, TASK, Predictor(str(root / "out" / "package")))
    labels = found.labels()
    rest = found.predict("held_out", lambda done: None).columns["subject_id"]
    assert not gone & set(labels["subject_id"])
    assert set(rest) == set(dataset.columns("held_out")["subject_id"]) - gone


def test_simple_models_answer_the_same_whether_asked_at_once_or_in_parts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_any(run_spec(root).dataset_uri)
    found = Reading(dataset, set(), TASK, Predictor(str(root / "out" / "package")))
    labels = found.labels()
    held_out = found.predict("held_out", lambda done: None)
    at_once = found.rivals(labels, held_out, seed=0)
    monkeypatch.setattr(reading, "_ASKED", 10)
    in_parts = found.rivals(labels, held_out, seed=0)
    assert at_once.keys() == in_parts.keys()
    truth = held_out.truth["died"]
    for name, answers in at_once.items():
        assert not isinstance(answers, str)
        parts = in_parts[name]
        assert not isinstance(parts, str)
        np.testing.assert_allclose(answers["died"], parts["died"], rtol=1e-12)
        # in the order of the items: lactate tells the ill from the others
        assert answers["died"][truth == 1].mean() > 0.2 + answers["died"][truth == 0].mean()


def test_simple_models_learn_from_so_many_items_and_the_report_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[int] = []
    task = type(TASK)()
    ask = task.baselines

    def baselines(train: Any, *others: Any) -> Any:
        learned.append(len(set(train["item_id"])))
        return ask(train, *others)

    monkeypatch.setattr(run, "RIVAL_ITEMS", 30)
    monkeypatch.setattr(reading, "RIVAL_ITEMS", 30)
    monkeypatch.setattr(task, "baselines", baselines, raising=True)
    report = run.evaluate_judge(run_spec(root), workload=task).report
    train = next(row.items for row in report.cohort.rows if row.split == "train")
    assert learned == [30]
    assert f"The simple models learned from 30 of {train} items of train." in report.notes
    (result,) = report.targets
    assert isinstance(result, BinaryResult)
    assert len(result.baselines) == 2
