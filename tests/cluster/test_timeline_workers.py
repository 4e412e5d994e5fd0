"""Two workers of a real cluster train on records as one process does."""

import json
from pathlib import Path
from typing import Any

import pytest

from medray import api
from medray.package import open_package
from medray.spec.models import RunSpec
from tests.timelines import records_spec, write_cohort

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("ray_cluster"),
    # Ray deprecates its own settings at import, and leaves sockets to the garbage collector
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def losses(output: str) -> list[float]:
    lines = Path(output, "training/history.jsonl").read_text().splitlines()
    return [json.loads(line)["tuning_loss"] for line in lines]


def test_two_workers_learn_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
    write_cohort(tmp_path, 60)

    def spec(workers: int, **more: Any) -> RunSpec:
        train = {"epochs": 3, "batch_size": 16, "optimizer": {"lr": 1e-2}, "workers": workers}
        halves = {"fractions": {"train": 0.6, "tuning": 0.2, "held_out": 0.2}}
        return RunSpec.model_validate(records_spec(tmp_path, train=train, split=halves, **more))

    api.ingest(spec(0))
    two = spec(2)
    result = api.train(two)
    assert result.ref == open_package(f"{two.output_uri}/package").ref
    one = spec(0, output=str(tmp_path / "alone"), dataset=str(tmp_path / "out/dataset"))
    api.train(one)
    # same seed, same batches: equal but for the order of float additions
    assert losses(two.output_uri) == pytest.approx(losses(one.output_uri), rel=1e-3, abs=1e-4)


def test_two_workers_stream_their_own_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.3")
    write_cohort(tmp_path, 120)
    spec = RunSpec.model_validate(
        records_spec(
            tmp_path,
            split={"fractions": {"train": 0.6, "tuning": 0.2, "held_out": 0.2}},
            train={
                "epochs": 10,
                "batch_size": 16,
                "cache": "stream",
                "optimizer": {"lr": 2e-2},
                "workers": 2,
            },
        )
    )
    api.ingest(spec)
    result = api.train(spec)
    assert result.epochs == 10
    told = losses(spec.output_uri)
    assert told[-1] < told[0] - 0.1
