"""Two workers of a real cluster: the same loop, gradients shared by DDP, one package."""

import json
from pathlib import Path
from typing import Any

import pytest

from medray.errors import TrainingError
from medray.package import open_package
from medray.spec.models import RunSpec
from medray.train import train
from tests.datasets import stripes, write_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_cluster"),
    # Ray deprecates its own settings at import, and leaves sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def run_spec(output: Path, **changes: Any) -> RunSpec:
    return RunSpec.model_validate(
        {
            "name": "stripes",
            "output": str(output),
            "params": {"label": "horizontal", "network": "conv3", "width": 0.25, "dropout": 0},
            "train": {
                "epochs": 3,
                "batch_size": 16,
                "average": 0.8,
                "optimizer": {"lr": 3e-3},
                "workers": 2,
                **changes,
            },
        }
    )


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
    pixels, labels = stripes(96)
    splits = ["tuning" if i % 8 in (3, 4) else "train" for i in range(96)]
    write_dataset(tmp_path, pixels, splits, {"horizontal": labels})
    return tmp_path


def history(output: Path) -> list[dict[str, Any]]:
    lines = (output / "training/history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_two_workers_learn_what_one_does(output: Path, tmp_path_factory: Any) -> None:
    events: list[dict[str, Any]] = []
    result = train(run_spec(output), progress=events.append)
    assert result.ref == open_package(str(output / "package")).ref
    assert [line["epoch"] for line in history(output)] == [1, 2, 3]
    assert [event["done"] for event in events if event["stage"] == "train"] == [1, 2, 3]
    alone = tmp_path_factory.mktemp("alone")
    (alone / "dataset").symlink_to(output / "dataset")
    train(run_spec(alone, workers=0))
    # same seed, same global batches: equal but for the order of float additions
    for two, one in zip(history(output), history(alone), strict=True):
        assert two["tuning_loss"] == pytest.approx(one["tuning_loss"], rel=1e-3, abs=1e-4)
    assert not (output / "training/ray").exists()


def test_workers_go_on_from_a_checkpoint_made_here(output: Path) -> None:
    def interrupt(event: dict[str, Any]) -> None:
        if event["stage"] == "train" and event["done"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(run_spec(output, workers=0), progress=interrupt)
    result = train(run_spec(output))
    assert result.resumed
    assert [line["epoch"] for line in history(output)] == [1, 2, 3]


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_data_is_learned_from(output: Path, workers: int) -> None:
    result = train(run_spec(output, cache="stream", workers=workers, epochs=2))
    assert result.epochs == 2
    assert result.best is not None
    assert result.best > 0.8
    fitted = json.loads((output / "package/fitted.json").read_text())
    assert fitted["items"] == 72
    assert open_package(str(output / "package")).calibration.targets["horizontal"].items == 24


def test_a_worker_that_cannot_go_on_says_why(output: Path) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        train(run_spec(output, optimizer={"lr": 1e30, "name": "sgd"}, clip_norm=None, epochs=20))
