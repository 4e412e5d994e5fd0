"""What can be asked of a timeline: params, what was observed, losses, simple models."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import mean_pinball_loss

from medray.errors import DataError
from medray.records.steps import Channel, Vocabulary
from medray.records.tasks import DAY, MeasureSpec, PredictAt, cut, measured
from medray.records.tokens import token
from medray.workloads.timeline import cox
from medray.workloads.timeline.heads import HEADS
from medray.workloads.timeline.heads.head import merged
from medray.workloads.timeline.params import TimelineFitted, TimelineParams

OUTCOME = {"column": "dead", "time": "days"}
SURVIVAL: dict[str, Any] = {"task": "time_to_event", "outcome": OUTCOME, "horizons_days": [90, 365]}
FORECAST: dict[str, Any] = {
    "task": "forecast",
    "measure": {"code": "bili", "tolerance_days": 10},
    "horizons_days": [30, 60],
}
FITTED = TimelineFitted(
    vocabulary=Vocabulary(timed=(Channel(code=token("bili"), transform="log", mean=0.7, std=0.5),)),
    items=10,
    positives=5,
    edges_days=(0.0, 100.0, 400.0),
)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({**SURVIVAL, "horizons_days": []}, "needs `horizons_days`"),
        ({**SURVIVAL, "horizons_days": [365, 90]}, "must rise"),
        ({**SURVIVAL, "horizon_days": 90}, "not `horizon_days`"),
        ({**SURVIVAL, "outcome": {"column": "dead"}}, "needs `outcome.time`"),
        ({**SURVIVAL, "monitor": "auroc"}, "no AUROC"),
        ({"task": "time_to_event", "horizons_days": [1]}, "needs `outcome`"),
        ({**SURVIVAL, "task": "recurrence"}, "name `outcome.code`"),
        ({**FORECAST, "measure": None}, "go together"),
        ({**FORECAST, "outcome": OUTCOME}, "leave `outcome` out"),
        ({**FORECAST, "quantiles": [0.1, 0.9]}, "hold 0.5"),
        ({**FORECAST, "quantiles": [0.1, 0.5, 0.8]}, "lie alike"),
        ({**SURVIVAL, "task": "event_within"}, "has one `horizon_days`"),
        ({**SURVIVAL, "predict_at": {"days": [1], "code": "X"}}, "either `days` or a `code`"),
    ],
)
def test_params_that_cannot_be(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TimelineParams.model_validate(params)


def patients(*histories: list[tuple[float, str, float]], **facts: list[Any]) -> dict[str, Any]:
    """Histories of (day, code, value) as the columns of a dataset."""
    columns: dict[str, Any] = {name: np.array(values) for name, values in facts.items()}
    kinds = {"event_time": np.int64, "event_code": np.int64, "event_text": np.int64}
    for place, name in enumerate(("event_time", "event_code", "event_text", "event_value")):
        cells = np.empty(len(histories), object)
        for row, events in enumerate(histories):
            each = [(int(d * DAY), token(code), 0, value)[place] for d, code, value in events]
            cells[row] = np.array(each, kinds.get(name, np.float32))
        columns[name] = cells
    count = len(histories)
    columns["start"] = np.zeros(count, np.int64)
    columns["subject_id"] = np.array([str(i) for i in range(count)], object)
    return columns


def test_a_recurrence_is_asked_at_every_event_of_its_kind() -> None:
    params = TimelineParams.model_validate(
        {"task": "recurrence", "outcome": {"code": "FIT"}, "horizons_days": [10]}
    )
    data = patients([(0, "VISIT", 1), (3, "FIT", 1), (5, "FIT", 1), (25, "END", 1)])
    items = cut(data, params.moments)
    assert (items["prediction_time"] / DAY).tolist() == [3, 5]
    observed = HEADS["recurrence"].observe(items, data, params)
    np.testing.assert_allclose(observed, [[1, 2], [0, 20]])


def test_competing_outcomes_have_their_numbers() -> None:
    params = TimelineParams.model_validate(
        {**SURVIVAL, "outcome": {**OUTCOME, "causes": {"death": "2", "transplant": "1"}}}
    )
    data = patients(*[[(10, "VISIT", 1)]] * 4, dead=[2.0, 1.0, 0.0, 2.0], days=[30, 40, 50, 5.0])
    observed = HEADS["time_to_event"].observe(cut(data, "visits"), data, params)
    np.testing.assert_allclose(observed[:3], [[1, 20], [2, 30], [0, 40]])
    assert np.isnan(observed[3, 0])  # died before the visit: says nothing


def test_predictions_at_the_events_of_a_table() -> None:
    data = patients([(0, "VISIT", 1), (4, "ASK", 1), (9, "VISIT", 1)], [(2, "VISIT", 1)])
    items = cut(data, PredictAt(code="ASK"))
    assert items["item_id"].tolist() == [f"0@{4 * DAY}"]
    assert len(items["event_time"][0]) == 2


def test_a_value_is_the_nearest_one_measured_after_the_prediction() -> None:
    history = [(0, "bili", 1.0), (25, "bili", 2.0), (33, "bili", 3.0), (61, "other", 9.0)]
    data = patients([*history, (80, "bili", float("nan"))])
    items = cut(data, PredictAt(days=(0.0, 25.0)))
    found = measured(items, data, MeasureSpec(code="bili", tolerance_days=10), (30, 60))
    np.testing.assert_array_equal(found, [[3.0, np.nan], [np.nan, np.nan]])


def test_sums_of_batches_give_the_edges_of_all_at_once() -> None:
    head, params = HEADS["time_to_event"], TimelineParams.model_validate(SURVIVAL)
    rng = np.random.default_rng(0)
    observed = np.stack([rng.integers(0, 2, 500), rng.exponential(300, 500)], axis=1)
    observed[::7] = np.nan

    def learned(parts: list[Any]) -> tuple[float, ...]:
        import pyarrow as pa

        from medray.workloads.timeline.heads.head import OUTCOME_SUMS

        rows = [dict(head.sums(part)) for part in parts]
        table = pa.Table.from_pylist(rows, schema=pa.schema(OUTCOME_SUMS))
        return head.learn(merged(table), Vocabulary(), params)

    whole = learned([observed])
    assert learned([observed[:123], observed[123:130], observed[130:]]) == whole
    assert len(whole) == params.intervals + 1


def test_nothing_to_learn_is_said() -> None:
    params = TimelineParams.model_validate(SURVIVAL)
    head = HEADS["time_to_event"]
    never = np.array([[0.0, 10.0], [0.0, 20.0]])
    with pytest.raises(DataError, match="happens in none of 2"):
        head.learn(head.sums(never), Vocabulary(), params)
    early = np.array([[1.0, 10.0], [0.0, 20.0]])
    with pytest.raises(DataError, match="followed up for 365 days"):
        head.learn(head.sums(early), Vocabulary(), params)
    forecast = TimelineParams.model_validate(FORECAST)
    with pytest.raises(DataError, match="not among the numeric codes"):
        HEADS["forecast"].learn(HEADS["forecast"].sums(np.ones((2, 2))), Vocabulary(), forecast)
    with pytest.raises(DataError, match="near a horizon"):
        HEADS["forecast"].learn(
            HEADS["forecast"].sums(np.full((2, 2), np.nan)), Vocabulary(), forecast
        )


def test_quantiles_never_cross_and_their_loss_is_the_pinball_loss() -> None:
    head, params = HEADS["forecast"], TimelineParams.model_validate(FORECAST)
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(40, 6, generator=generator) * 3
    answer = head.answer(output, params)
    assert answer.shape == (40, 2, 3)
    assert bool((answer.diff(dim=2) >= 0).all())
    truth = np.random.default_rng(0).gamma(2, 2, (40, 2))
    truth[::3, 0] = np.nan
    standard = (np.log1p(truth) - 0.7) / 0.5
    expected = np.mean(
        [
            np.concatenate(
                [
                    np.full(known.sum(), mean_pinball_loss(standard[known, h], q, alpha=level))
                    for h in range(2)
                    for known in [np.isfinite(truth[:, h])]
                    for q in [answer[known, h, place].numpy()]
                ]
            ).mean()
            for place, level in enumerate(params.quantiles)
        ]
    )
    found = head.loss(output, torch.tensor(truth, dtype=torch.float32), params, FITTED)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    measure = head.measure(answer.numpy(), truth, params, FITTED)
    assert measure["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("task", ["event_within", "time_to_event", "forecast"])
def test_unknown_items_cost_nothing(task: Any) -> None:
    chosen: dict[str, Any] = {
        "event_within": {"outcome": {"column": "dead"}},
        "time_to_event": SURVIVAL,
        "forecast": FORECAST,
    }
    params = TimelineParams.model_validate(chosen[task])
    head = HEADS[task]
    output = torch.zeros(3, head.outputs(params, FITTED), requires_grad=True)
    shape = (3,) if task == "event_within" else (3, 2)
    loss = head.loss(output, torch.full(shape, torch.nan), params, FITTED)
    loss.backward()
    assert loss.item() == 0
    assert output.grad is not None
    assert not output.grad.any()


def test_incidence_of_competing_hazards_sums_to_what_is_not_left() -> None:
    hazard = np.cumsum(np.random.default_rng(1).exponential(0.1, (5, 2, 6)), axis=2)
    hazard[:, :, 0] = 0
    found = cox.incidence_of(hazard)
    left = np.exp(-hazard.sum(axis=1))
    np.testing.assert_allclose(found.sum(axis=1), 1 - left)
    assert (np.diff(found, axis=2) >= 0).all()
