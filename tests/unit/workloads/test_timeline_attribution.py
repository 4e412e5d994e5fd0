"""What the events of a record are credited with, against rules that are known."""

from functools import lru_cache
from typing import Any

import histories
import numpy as np
import pytest
import torch
from histories import FITTED, TIMED, TIMELINES, columns, history, last_lactate, logits, params

from medray.workload import EventCredits
from medray.workloads.timeline.params import TimelineParams


def explain(modules: Any, items: Any, asked: TimelineParams) -> EventCredits:
    return TIMELINES.explain(modules, items, asked.target, 0, asked, FITTED)


@lru_cache(maxsize=1)
def gru() -> tuple[TimelineParams, Any]:
    torch.set_num_threads(1)
    asked = params(network="gru", pool="last")
    return asked, histories.trained(asked)


def records(count: int, seed: int = 7) -> list[list[histories.Event]]:
    rng = np.random.default_rng(seed)
    return [history(rng) for _ in range(count)]


def reading(asked: TimelineParams, column: int, weight: float) -> Any:
    """An Elman network whose answer is tanh(weight · one input of the last step)."""
    modules = histories.untrained(asked, gain=0.0)
    network = modules["recurrent"]
    network.first.weight_ih_l0.data[0, column] = weight
    network.output.weight.data[0, 0] = 1.0
    network.output.bias.data[0] = 0.25
    return modules


ELMAN = params(network="elman")
CARRIED, OBSERVED, SINCE = 0, len(FITTED.vocabulary.timed), 2 * len(FITTED.vocabulary.timed)


def test_a_network_that_reads_one_value_credits_the_event_it_was_carried_from() -> None:
    items = columns([
        (None, "age", 1.0), (9.0, "lactate", -1.0), (5.0, "lactate", 2.0), (5.0, "sodium", 1.0),
        (1.0, "heart_rate", 3.0), (1.0, "fever", None),
    ])  # fmt: skip
    found = explain(reading(ELMAN, CARRIED + TIMED.index("lactate"), 0.5), items, ELMAN)
    assert found.events[0] == pytest.approx([0, 0, np.tanh(1.0), 0, 0, 0], abs=1e-5)
    assert (found.empty[0], found.timing[0]) == pytest.approx((0.25, 0))
    assert found.answer[0] == pytest.approx(0.25 + np.tanh(1.0))


def test_events_that_were_averaged_share_alike() -> None:
    items = columns([(5.0, "lactate", 4.0), (5.0, "lactate", -2.0), (2.0, "sodium", 1.0)])
    found = explain(reading(ELMAN, CARRIED + TIMED.index("lactate"), 0.5), items, ELMAN)
    assert found.events[0] == pytest.approx([np.tanh(0.5) / 2, np.tanh(0.5) / 2, 0], abs=1e-5)


def test_the_time_since_a_measurement_belongs_to_it() -> None:
    """Measured at hour 5 of 40: 5 hours since; had it not been, 40 since the first entry."""
    items = columns([(40.0, "sodium", 1.0), (5.0, "lactate", 0.0), (0.0, "heart_rate", 0.0)])
    found = explain(reading(ELMAN, SINCE + TIMED.index("lactate"), 0.1), items, ELMAN)
    known, unknown = (np.tanh(0.1 * np.log1p(hours) / 2) for hours in (5, 40))
    assert found.events[0] == pytest.approx([0, known - unknown, 0], abs=1e-5)
    assert found.timing[0] == pytest.approx(unknown, abs=1e-6)  # no event owns it


def test_that_something_was_measured_is_credited_only_where_it_was() -> None:
    modules = reading(ELMAN, OBSERVED + TIMED.index("lactate"), 1.0)
    items = columns(
        [(4.0, "lactate", 1.5), (0.0, "lactate", 0.0)], [(4.0, "lactate", 1.5), (0.0, "sodium", 9)]
    )
    found = explain(modules, items, ELMAN)
    assert found.events[0] == pytest.approx([0, np.tanh(1.0)], abs=1e-5)
    assert found.events[1] == pytest.approx([0, 0], abs=1e-6)


def test_codes_and_facts_are_credited() -> None:
    modules = reading(ELMAN, 3 * len(FITTED.vocabulary.timed) + 2 + 1, 1.0)  # first of the vector
    network = modules["recurrent"]
    network.embed.weight.data[:, 0] = torch.tensor([0.0, 0.7, -0.3])
    network.output.weight.data[0, -2:] = torch.tensor([2.0, 5.0])  # age, and that it is known
    items = columns([(None, "age", 1.5), (0.0, "fever", None), (0.0, "fever", None),
                     (0.0, "sepsis", None)])  # fmt: skip
    found = explain(modules, items, ELMAN)
    whole = np.tanh(0.7 - 0.3)
    share = whole * np.array([0.7 / 2, 0.7 / 2, -0.3]) / 0.4  # a straight path: in proportion
    assert found.events[0] == pytest.approx([2 * 1.5 + 5, *share], abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"network": "elman", "layers": 2},
        {"network": "lstm", "pool": "max"},
        {"network": "gru", "pool": "mean", "max_steps": 3},
        {"network": "gru_d", "step_hours": 6.0},
        {"members": 2, "networks": ("gru", "gru_d")},
    ],
    ids=str,
)
def test_parts_add_up_for_every_network(options: dict[str, Any]) -> None:
    asked = params(**options)
    modules = histories.untrained(asked, gain=2.0)
    items = columns(*records(3))
    found = explain(modules, items, asked)
    assert found.answer == pytest.approx(logits(modules, items, asked), abs=1e-5)
    parts = np.array([events.sum() for events in found.events])
    assert found.empty + found.timing + parts + found.error == pytest.approx(found.answer)
    goal = found.answer - found.empty - found.timing
    assert (np.abs(found.error) < np.maximum(0.01 * np.abs(goal), 1e-4)).all()


def test_completeness_of_a_trained_network() -> None:
    asked, modules = gru()
    found = explain(modules, columns(*records(8)), asked)
    goal = found.answer - found.empty - found.timing
    assert np.abs(goal).min() > 0.1
    assert (np.abs(found.error) < 0.01 * np.abs(goal)).all()


def test_a_coarse_path_is_refined_until_it_adds_up() -> None:
    """All of the change happens in a hundredth of the path, in its middle."""
    items = columns([(2.0, "lactate", 3.0), (0.0, "sodium", 1.0)])
    modules = reading(ELMAN, CARRIED + TIMED.index("lactate"), 60.0)
    modules["recurrent"].first.bias_ih_l0.data[0] = -90.0
    found = explain(modules, items, ELMAN)
    assert found.points[0] > 32
    assert abs(found.error[0]) < 0.02
    assert found.events[0] == pytest.approx([2, 0], abs=0.02)


def test_the_trained_network_goes_by_what_decides_and_a_random_one_does_not() -> None:
    asked, modules = gru()
    made = [r for r in records(40) if abs(last_lactate(r)) > 0.3]
    items = columns(*made)
    said = logits(modules, items, asked) > 0
    assert (said == np.array([last_lactate(r) > 0 for r in made])).mean() > 0.9

    def right(network: Any) -> float:
        found = explain(network, items, asked)
        tops = [int(np.argmax(np.abs(events))) for events in found.events]
        return float(np.mean([r[top][1] == "lactate" for r, top in zip(made, tops, strict=True)]))

    assert right(modules) > 0.9
    assert right(histories.untrained(asked, seed=3)) < 0.6


def test_deleting_what_is_credited_lowers_the_score_more_than_deleting_at_random() -> None:
    asked, modules = gru()
    made = records(24, seed=11)
    found = explain(modules, columns(*made), asked)
    rng = np.random.default_rng(0)

    def without(places: list[np.ndarray]) -> list[list[histories.Event]]:
        pairs = zip(made, places, strict=True)
        return [[e for i, e in enumerate(r) if i not in gone] for r, gone in pairs]

    before = logits(modules, columns(*made), asked)
    top = without([np.argsort(-events)[:2] for events in found.events])
    drop = (before - logits(modules, columns(*top), asked)).mean()
    chance = []
    for _ in range(5):
        some = without([rng.choice(len(r), 2, replace=False) for r in made])
        chance.append((before - logits(modules, columns(*some), asked)).mean())
    assert drop > max(0.5, 3 * max(np.abs(chance)))


def test_an_event_the_model_does_not_read_gets_nothing() -> None:
    asked = params(max_steps=2)
    modules = histories.untrained(asked)
    items = columns([
        (None, "height", 3.0), (9.0, "lactate", 5.0), (5.0, "unheard_of", 7.0),
        (5.0, "lactate", 1.0), (1.0, "state", "awake"),
    ])  # fmt: skip
    found = explain(modules, items, asked)
    assert found.read[0].tolist() == [False, False, False, True, True]
    assert found.events[0][:3].tolist() == [0, 0, 0]
    assert (found.events[0][3:] != 0).all()


def test_a_record_of_nothing_known_is_all_timing() -> None:
    modules = histories.untrained(ELMAN)
    found = explain(modules, columns([(7.0, "unheard_of", 1.0), (0.0, "unheard_of", 1.0)]), ELMAN)
    assert found.events[0].tolist() == [0, 0]
    assert found.empty[0] + found.timing[0] == pytest.approx(found.answer[0])
    assert abs(found.timing[0]) > 1e-4


def test_an_item_is_explained_alike_whatever_stands_beside_it() -> None:
    asked, modules = gru()
    made = [*records(3), [(0.0, "fever", None)]]
    together = explain(modules, columns(*made), asked)
    for row, one in enumerate(made):
        alone = explain(modules, columns(one), asked)
        np.testing.assert_allclose(together.events[row], alone.events[0], atol=1e-6)
