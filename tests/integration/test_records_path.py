"""Records from files to a report: every verb, on a cohort that can be learned in seconds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medray import api
from medray.crossval import CrossvalResult
from medray.package import open_package
from medray.report.document import BinaryResult, Report
from medray.spec.models import RunSpec
from tests.timelines import cohort, records_spec, write_cohort, write_csv, write_outcomes

HALF = {"fractions": {"train": 0.6, "tuning": 0.2, "held_out": 0.2}}


def run_spec(root: Path, **changes: Any) -> RunSpec:
    return RunSpec.model_validate(records_spec(root, split=HALF) | changes)


def binary(report: Report) -> BinaryResult:
    (result,) = report.targets
    assert isinstance(result, BinaryResult)
    return result


def test_ingest_train_evaluate(tmp_path: Path) -> None:
    """With codes that train has not, and patients without any history."""
    rows, died = cohort(80)
    part = ["train"] * 40 + ["tuning"] * 20 + ["held_out"] * 20
    strange = [
        ("p060", "2", "New", "1"),
        ("p060", "3", "New", "2"),
        ("p061", "2", "Newer", ""),
        ("p045", "2", "New", "1"),
    ]
    write_csv(tmp_path / "events/a.csv", [*rows, *strange])
    empty = ["held_out", "held_out", "tuning", "train"]
    whose = {**died, "none1": 1, "none2": 0, "none3": 1, "none4": 0}
    write_outcomes(tmp_path / "outcomes.csv", whose, part=[*part, *empty])
    spec = run_spec(tmp_path, split={"column": "part"})
    summary = api.ingest(spec)
    assert summary.without_events == 4
    assert summary.splits["held_out"]["items"] == 22
    api.train(spec)
    result = api.evaluate(spec)
    report = Report.model_validate_json((tmp_path / "out/report/report.json").read_bytes())
    rows_of = {row.split: row for row in report.coverage}
    counts = {
        split: (r.patients, r.without_items, r.items, r.unseen_items, r.unseen_events)
        for split, r in rows_of.items()
    }
    assert counts == {
        "train": (41, 1, 40, 0, 0),
        "tuning": (21, 1, 20, 1, 1),
        "held_out": (22, 2, 20, 2, 3),
    }
    found = binary(report)
    assert found.auroc is not None
    assert found.auroc.value is not None
    assert found.auroc.value > 0.8
    assert (found.items, found.positives) == (20, 10)
    names = [row.name for row in found.baselines]
    assert names == [f"{kind} on window summaries" for kind in ("gradient boosting", "logistic regression")]  # fmt: skip  # noqa: E501
    assert all(row.auroc is not None and not row.note for row in found.baselines)
    page = (tmp_path / "out/report/report.html").read_text()
    for words in ("Beside simple models", "What of the records the model can use", "logistic"):
        assert words in page
    assert result.headline().startswith("held-out died: AUROC")
    assert open_package(str(tmp_path / "out/package")).lineage["split"]["held_out"]["items"] == 22


def interrupted_after(epoch: int) -> Callable[[dict[str, Any]], None]:
    def stop(event: dict[str, Any]) -> None:
        if event["stage"] == "train" and event["done"] == epoch:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("network", ["gru_d", "lstm"])
def test_resumed_it_ends_with_the_same_weights(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, network: str
) -> None:
    write_cohort(tmp_path, 50)
    params = records_spec(tmp_path)["params"] | {"network": network, "dropout": 0.3}
    params |= {"input_dropout": 0.2}
    train = {"epochs": 4, "batch_size": 8, "average": 0.8, "optimizer": {"lr": 1e-2}}
    spec = run_spec(tmp_path, params=params, train=train)
    api.ingest(spec)
    api.train(spec)
    other = spec.model_copy(
        update={
            "output": str(tmp_path_factory.mktemp("other")),
            "dataset": str(tmp_path / "out/dataset"),
        }
    )
    with pytest.raises(KeyboardInterrupt):
        api.train(other, progress=interrupted_after(2))
    assert api.train(other).resumed
    ours, theirs = (
        Path(one.output_uri, "package/weights/recurrent.safetensors").read_bytes()
        for one in (spec, other)
    )
    assert ours == theirs


@pytest.mark.parametrize("network", ["elman", "lstm", "gru", "gru_d"])
def test_every_network_learns_a_few_patients_by_heart(tmp_path: Path, network: str) -> None:
    """24 patients, whose outcome is tossed: only by heart can it be known."""
    rows, _ = cohort(34)
    rng = np.random.default_rng(5)
    died = {f"p{n:03d}": int(rng.random() < 0.5) for n in range(34)}
    write_csv(tmp_path / "events/a.csv", rows)
    write_outcomes(tmp_path / "outcomes.csv", died, part=["train"] * 24 + ["tuning"] * 10)
    params = records_spec(tmp_path)["params"] | {"network": network, "hidden": 32}
    optimizer = {"name": "adam", "lr": 1e-2, "weight_decay": 0}
    train = {"epochs": 80, "batch_size": 24, "keep": "last", "optimizer": optimizer}
    spec = run_spec(tmp_path, split={"column": "part"}, params=params, train=train)
    api.ingest(spec)
    api.train(spec)
    lines = (tmp_path / "out/training/history.jsonl").read_text().splitlines()
    assert min(json.loads(line)["loss"] for line in lines) < 0.02


def check_summary(result: CrossvalResult, root: Path) -> None:
    """Its numbers are those of the folds' reports, and nothing else."""
    folds = [
        binary(
            Report.model_validate_json(
                (root / f"out/crossval/fold-{k}/report/report.json").read_bytes()
            )
        )
        for k in range(2)
    ]
    measures = {(m.model, m.name): m for m in result.measures}
    assert len(measures) == 9
    for (model, name), measure in measures.items():
        wanted: list[Any] = []
        for fold in folds:
            row: Any = next((b for b in fold.baselines if b.name == model), fold)
            if name == "Brier":
                network = fold.calibration.after.brier if fold.calibration else None
                wanted.append(network if row is fold else row.brier)
            else:
                wanted.append(getattr(row, name.lower()).value)
        assert list(measure.folds) == wanted
        assert measure.mean == pytest.approx(np.mean(wanted))
        assert measure.deviation == pytest.approx(np.std(wanted, ddof=1))
    stored = json.loads((root / "out/crossval/summary.json").read_text())
    assert stored == json.loads(json.dumps(result.to_dict()))


def folds_spec(root: Path) -> RunSpec:
    write_cohort(root, 60)
    spec = run_spec(root, split={**HALF, "folds": 2}, train={"epochs": 3, "batch_size": 16})
    api.ingest(spec)
    return spec


def test_a_fold_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    spec = folds_spec(tmp_path)
    by_hand = spec.model_copy(
        update={
            "output": str(tmp_path / "out/crossval/fold-0"),
            "dataset": str(tmp_path / "out/dataset"),
            "split": spec.split.model_copy(update={"fold": 0}),
        }
    )
    api.train(by_hand)
    api.evaluate(by_hand)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/crossval/fold-0").rglob("*")}
    events: list[Any] = []
    result = api.crossval(spec, progress=events.append)
    check_summary(result, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out/crossval/fold-0").rglob("*")} == kept
    assert [event["done"] for event in events] == [0, 1, 2]
    held_out: list[int] = []
    for number in range(2):
        path = tmp_path / f"out/crossval/fold-{number}/report/report.json"
        report = Report.model_validate_json(path.read_bytes())
        held_out += [row.patients for row in report.cohort.rows if row.split == "held_out"]
        assert len(report.openings) == 1
    assert sum(held_out) == 60  # each once
    again = api.crossval(spec)
    assert again.measures == result.measures
    assert again.headline() == result.headline()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
# Ray deprecates its own settings at import, and leaves sockets to the garbage collector
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_folds_on_ray(tmp_path: Path) -> None:
    check_summary(api.crossval(folds_spec(tmp_path)), tmp_path)
