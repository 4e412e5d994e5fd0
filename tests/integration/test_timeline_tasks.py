"""The tasks in time, from tables to a report and single scores, as a user goes through them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medray import api, storage
from medray.dataset import open_any
from medray.spec.models import RunSpec
from tests.timelines import records_spec, write_csv

PATIENTS = 150
HEADER = ("stay", "hours", "code", "value")


def write_patients(root: Path) -> None:
    """Who has a high marker dies soon, or relapses soon; the marker itself goes on as it is."""
    rng = np.random.default_rng(0)
    events: list[tuple[Any, ...]] = []
    outcomes: list[tuple[Any, ...]] = []
    for number in range(PATIENTS):
        name, level = f"p{number:03d}", rng.normal()
        events.append((name, "", "Age", f"{rng.uniform(30, 80):.0f}"))
        for day in (0, 5, 10, 15):
            value = level + rng.normal(0, 0.1)
            events.append((name, f"{24 * day}", "Marker", f"{value + 5:.3f}"))
        day = 16.0
        for _ in range(3):
            day += float(rng.exponential(10 * np.exp(-level))) + 0.01
            events.append((name, f"{24 * day:.2f}", "RELAPSE", ""))
        events.append((name, f"{24 * (day + 5):.2f}", "END", ""))
        came, lost = 16 + rng.exponential(30 * np.exp(-1.5 * level)), rng.uniform(20, 80)
        died = int(came < lost) * int(rng.choice([1, 1, 2]))
        outcomes.append((name, died, f"{min(came, lost):.3f}", "F" if number % 2 else "M"))
    write_csv(root / "events/all.csv", events, HEADER)
    write_csv(root / "outcomes.csv", outcomes, ("stay", "died", "until", "sex"))


ASKED: dict[str, dict[str, Any]] = {
    "time_to_event": {
        "outcome": {
            "column": "died",
            "causes": {"death": "1", "transplant": "2"},
            "time": "until",
            "time_unit": "days",
        },
        "predict_at": {"days": [15]},
        "horizons_days": [10, 40],
    },
    "recurrence": {"outcome": {"code": "RELAPSE"}, "horizons_days": [10, 30]},
    "forecast": {
        "measure": {"code": "Marker", "tolerance_days": 1},
        "horizons_days": [5, 10],
    },
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables, and the dataset that all three tasks read."""
    root = tmp_path_factory.mktemp("tasks")
    write_patients(root)
    api.ingest(spec(root, "time_to_event", output=str(root / "out")))
    return root


def spec(root: Path, task: str, **changes: Any) -> RunSpec:
    common = {"network": "gru", "hidden": 8, "intervals": 8, "min_patients": 3}
    common |= dict.fromkeys(("dropout", "input_dropout", "recurrent_dropout"), 0)
    train = {"epochs": 25, "batch_size": 16, "optimizer": {"lr": 2e-2}, "keep": "last"}
    made = records_spec(
        root,
        params={"task": task, **common, **ASKED[task]},
        train=train,
        evaluate={"replicates": 100, "subgroups": ["sex"]},
        split={"fractions": {"train": 0.5, "tuning": 0.2, "held_out": 0.3}},
    )
    return RunSpec.model_validate({**made, **changes})


def run(root: Path, task: str) -> tuple[RunSpec, Any]:
    asked = spec(root, task, output=str(root / task), dataset=str(root / "out/dataset"))
    api.train(asked)
    return asked, api.evaluate(asked)


def test_time_to_event_with_competing_causes(root: Path) -> None:
    asked, found = run(root, "time_to_event")
    death, transplant = found.report.targets
    assert [death.name, transplant.name] == ["death", "transplant"]
    assert death.competing == transplant.events
    assert death.horizons[0].uno.value > 0.65
    assert death.models[1].uno[0] == pytest.approx(death.horizons[0].uno.value, abs=0.15)
    assert [row.group for row in death.subgroups[0].rows] == ["F", "M"]
    page = storage.read_bytes(found.html_uri).decode()
    assert "Thirds of risk" in page
    assert "tuning loss" in page
    package = f"{asked.output_uri}/package"
    (one,) = api.predict(package, [str(root / "events")])
    targets = {row.target for row in one.rows}
    risks = {f"{c} within {h} days" for c in ("death", "transplant") for h in (10, 40)}
    assert targets == risks
    assert all(row.decision is None for row in one.rows)
    subject = open_any(f"{root}/out").labels()["subject_id"].to_pylist()[0]
    explained, _ = api.explain(package, subject, dataset=f"{root}/out/dataset")
    assert explained.target == "death within 40 days"
    parts = explained.empty + explained.timing + sum(e.contribution for e in explained.events)
    assert parts + explained.error == pytest.approx(explained.answer)


def test_recurrence_is_asked_at_every_relapse(root: Path) -> None:
    _, found = run(root, "recurrence")
    (result,) = found.report.targets
    assert result.name == "RELAPSE"
    assert result.patients < result.items
    assert result.horizons[0].uno.value > 0.6
    assert [model.name for model in result.models][1] == "Cox on the last visit"


def test_forecast_beats_nothing_by_chance(root: Path) -> None:
    asked, found = run(root, "forecast")
    (result,) = found.report.targets
    carried = result.models[1]
    assert carried.name == "last value carried forward"
    assert 0.1 < carried.error[0] / result.horizons[0].error.value < 10
    assert result.horizons[0].error.value < 0.5  # of values whose deviation is 1
    (one,) = api.predict(f"{asked.output_uri}/package", [str(root / "events")])
    rows = [row for row in one.rows if row.status == "ok"]
    assert {row.text_value for row in rows} == {"q0.1", "q0.5", "q0.9"}
    by_item: dict[Any, dict[str, float]] = {}
    for row in rows:
        by_item.setdefault((row.item_id, row.target), {})[str(row.text_value)] = row.score or 0.0
    assert all(v["q0.1"] <= v["q0.5"] <= v["q0.9"] for v in by_item.values())
