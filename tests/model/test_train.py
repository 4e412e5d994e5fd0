"""`train` from a dataset on disk to a package, in this process."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medray.errors import DataError, OutputConflictError, TrainingError, UsageError
from medray.package import open_package
from medray.spec.models import RunSpec
from medray.train import train
from tests.datasets import stripes, write_dataset

TRAIN = {"epochs": 4, "batch_size": 16, "average": 0.8, "optimizer": {"lr": 3e-3}}


def run_spec(where: Path, **more: Any) -> RunSpec:
    settings: dict[str, Any] = {
        "name": "stripes",
        "output": str(where),
        "seed": 3,
        "params": {"label": "horizontal", "network": "conv3", "width": 0.25},
        "train": TRAIN,
        **more,
    }
    return RunSpec.model_validate(settings)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    pixels, labels = stripes(96)
    splits = ["tuning" if i % 8 in (3, 4) else "train" for i in range(96)]
    known: list[Any] = [None if i == 5 else label for i, label in enumerate(labels)]
    write_dataset(tmp_path, pixels, splits, {"horizontal": known})
    return tmp_path


def weights(output: Path) -> bytes:
    return (output / "package/weights/classifier.safetensors").read_bytes()


def test_makes_a_package_that_opens(output: Path) -> None:
    events: list[dict[str, Any]] = []
    result = train(run_spec(output), progress=events.append)
    package = open_package(str(output / "package"))
    assert result.ref == package.ref
    assert result.epochs == 4
    assert result.best is not None
    assert result.best > 0.9
    assert package.calibration.targets["horizontal"].items == 24
    assert package.lineage["training"]
    assert "horizontal" in package.spec.params["label"]
    history = [
        json.loads(line) for line in (output / "training/history.jsonl").read_text().splitlines()
    ]
    assert history == package.metrics["history"]
    assert [line["epoch"] for line in history] == [1, 2, 3, 4]
    assert {"loss", "tuning_auroc", "lr", "items_per_s", "seconds", "skipped_steps"} <= set(
        history[0]
    )
    done = [event["done"] for event in events if event["stage"] == "train"]
    assert done[-1] == 4
    assert done == sorted(done)
    assert not list(output.rglob("*.tmp"))
    assert "stripes@1" in result.headline()
    json.dumps(result.to_dict())


def test_run_again_it_does_nothing(output: Path) -> None:
    first = train(run_spec(output))
    before = {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()}
    again = train(run_spec(output))
    assert again.already_done
    assert again.ref == first.ref
    assert before == {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()}


def test_interrupted_at_any_epoch_it_ends_with_the_same_weights(
    output: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(run_spec(output))
    expected = weights(output)
    for stop in (1, 3):
        other = tmp_path_factory.mktemp("interrupted")
        (other / "dataset").symlink_to(output / "dataset")

        def interrupt(event: dict[str, Any], stop: int = stop) -> None:
            if event["stage"] == "train" and event["done"] == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(run_spec(other), progress=interrupt)
        assert not (other / "package").exists()
        result = train(run_spec(other))
        assert result.resumed
        assert weights(other) == expected


def test_a_lost_package_is_made_again_from_the_checkpoints(output: Path) -> None:
    import shutil

    first = train(run_spec(output))
    shutil.rmtree(output / "package")
    again = train(run_spec(output))
    assert again.ref == first.ref


def test_another_spec_or_other_files_are_refused(output: Path) -> None:
    train(run_spec(output))
    with pytest.raises(OutputConflictError, match="another spec"):
        train(run_spec(output, seed=4))
    (output / "training/run.json").write_text("{")
    with pytest.raises(OutputConflictError, match="cannot be read"):
        train(run_spec(output))


def test_a_spec_that_failed_before_the_first_epoch_can_be_corrected(output: Path) -> None:
    with pytest.raises(DataError, match="at least 32×32"):
        train(run_spec(output, params={"label": "horizontal", "network": "densenet121"}))
    assert train(run_spec(output)).epochs == 4


def test_another_package_is_noticed_before_training(output: Path) -> None:
    import shutil

    train(run_spec(output))
    shutil.rmtree(output / "training")
    with pytest.raises(OutputConflictError, match="another run's package"):
        train(run_spec(output, seed=4))
    assert not (output / "training").exists()


def test_files_that_no_training_made_are_left_alone(output: Path) -> None:
    (output / "training").mkdir()
    (output / "training/notes.txt").write_text("mine")
    with pytest.raises(OutputConflictError, match="no training made"):
        train(run_spec(output))
    assert (output / "training/notes.txt").read_text() == "mine"


def test_scoring_settings_do_not_ask_for_a_new_training(output: Path) -> None:
    first = train(run_spec(output))
    again = train(run_spec(output, score={"batch_size": 7}, train={**TRAIN, "cache": "memory"}))
    assert again.already_done
    assert again.ref == first.ref


def test_a_damaged_checkpoint_says_what_to_do(output: Path) -> None:
    def interrupt(event: dict[str, Any]) -> None:
        if event["stage"] == "train" and event["done"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run_spec(output), progress=interrupt)
    (output / "training/checkpoints/last.pt").write_bytes(b"half")
    with pytest.raises(TrainingError, match="remove the output"):
        train(run_spec(output))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"train": None}, UsageError, "no `train:` section"),
        ({"workload": "astrology"}, UsageError, "no workload 'astrology'"),
        ({"params": {"label": "horizontal", "dropout": 7}}, UsageError, "dropout"),
        ({"params": {"label": "vertical"}}, DataError, "no label column 'vertical'"),
        ({"output": "nowhere"}, DataError, "no dataset"),
    ],
)
def test_bad_input_ends_in_one_message(
    output: Path, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        train(run_spec(output, **change))
    assert not (output / "training").exists()


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    pixels, labels = stripes(8)
    write_dataset(tmp_path, pixels, ["train"] * 8, {"horizontal": labels})
    with pytest.raises(DataError, match="'tuning' is empty"):
        train(run_spec(tmp_path))


def test_multiclass_with_text_labels(tmp_path: Path) -> None:
    pixels, labels = stripes(64)
    splits = ["tuning" if i % 8 in (3, 4) else "train" for i in range(64)]
    names = ["lying" if label else "standing" for label in labels]
    write_dataset(tmp_path, np.repeat(pixels[..., None], 3, axis=3), splits, {"pose": names})
    params = {
        "task": "multiclass",
        "label": "pose",
        "classes": ["lying", "standing"],
        "network": "conv3",
        "width": 0.25,
        "monitor": "accuracy",
    }
    result = train(run_spec(tmp_path, params=params, train={**TRAIN, "epochs": 15}))
    assert result.monitor == "tuning_accuracy"
    assert result.best is not None
    assert result.best > 0.9
