"""The loop alone, on tensors: overfits, runs a GAN, resumes to the bit, survives NaN."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Generator, Tensor, nn
from torch.nn import functional

from medray.errors import TrainingError
from medray.spec.models import EarlyStoppingSpec, OptimizerSpec, ScheduleSpec, TrainSpec
from medray.train import loop
from medray.train.feed import MemoryFeed, Place
from medray.train.schedule import derive_seed, learning_rate
from medray.train.state import TrainState, dump_state, load_state, new_state
from medray.workload import Monitor, Objective
from medray.workloads.imaging import Imaging, ImagingParams
from tests.datasets import stripes

CPU = torch.device("cpu")
Hook = Callable[[TrainState, dict[str, Any], bool], None]


def nothing(state: TrainState, record: dict[str, Any], improved: bool) -> None:
    pass


def classifier_plan(spec: TrainSpec, seed: int = 0, **params: Any) -> tuple[loop.Plan, TrainState]:
    """conv3 on 48 striped pictures; tuned on the same."""
    task = Imaging()
    settings = ImagingParams(label="y", network="conv3", width=0.25, **params)
    pixels, labels = stripes(48)
    columns = {"pixels": pixels, "y": np.array(labels, dtype=float)}
    fitted = task.fit(task.summarize(columns, settings), settings)
    batch = task.collate(columns, settings, fitted)
    feed = MemoryFeed(batch, {"y": columns["y"]}, spec.batch_size, seed, Place(), CPU)
    torch.manual_seed(derive_seed(seed, 0))
    objectives = task.objectives(settings, fitted)
    plan = loop.Plan(
        spec=spec,
        seed=seed,
        objectives=objectives,
        monitor=task.monitor(settings),
        predict=lambda modules, batch: task.predict(modules, batch, settings),
        measure=lambda logits, columns: task.measure(logits, columns, settings, fitted),
        train=feed,
        tuning=feed,
        device=CPU,
    )
    return plan, new_state(task.build_modules(settings, fitted), objectives, spec)


def tensors(state: TrainState) -> dict[str, Tensor]:
    groups = {"modules": state.modules, "averages": state.averages}
    found = {
        f"{group}.{name}.{key}": value
        for group, modules in groups.items()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for name, optimizer in state.optimizers.items():
        for index, held in optimizer.state_dict()["state"].items():
            found |= {f"{name}.{index}.{k}": torch.as_tensor(v) for k, v in held.items()}
    return found


def assert_equal_to_the_bit(one: TrainState, other: TrainState) -> None:
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "rmsprop", "sgd"])
def test_conv3_overfits_a_tiny_set(optimizer: Any) -> None:
    lr = {"sgd": 0.05, "rmsprop": 1e-3}.get(optimizer, 3e-3)
    spec = TrainSpec(epochs=15, batch_size=8, optimizer=OptimizerSpec(name=optimizer, lr=lr))
    plan, state = classifier_plan(spec, dropout=0.0)
    loop.run(plan, state, after_epoch=nothing)
    assert state.history[-1]["loss"] < 0.1
    assert state.history[-1]["tuning_accuracy"] == 1.0
    assert state.best == 1.0
    assert [record["epoch"] for record in state.history] == list(range(1, 16))


def test_averages_l1_and_augmentation_learn_too() -> None:
    spec = TrainSpec(
        epochs=12, batch_size=8, average=0.9, l1=1e-5, optimizer=OptimizerSpec(lr=3e-3)
    )
    plan, state = classifier_plan(
        spec, augment={"shift": 0.1, "mixup": 0.2, "noise": 0.02}, label_smoothing=0.05
    )
    loop.run(plan, state, after_epoch=nothing)
    assert state.judged is state.averages
    assert state.history[-1]["tuning_accuracy"] >= 0.95


def test_l1_makes_weights_smaller() -> None:
    def size(l1: float) -> float:
        plan, state = classifier_plan(TrainSpec(epochs=4, batch_size=8, l1=l1))
        loop.run(plan, state, after_epoch=nothing)
        return sum(float(p.detach().abs().sum()) for p in state.modules["classifier"].parameters())

    assert size(0.01) < 0.9 * size(0.0)


def test_a_resumed_run_repeats_the_uninterrupted_one_to_the_bit() -> None:
    spec = TrainSpec(epochs=6, batch_size=10, average=0.9, schedule=ScheduleSpec(warmup_epochs=1))
    options: dict[str, Any] = {"dropout": 0.5, "augment": {"rotate_degrees": 10, "noise": 0.1}}
    plan, whole = classifier_plan(spec, **options)
    kept: dict[int, bytes] = {}

    def keep(state: TrainState, record: dict[str, Any], improved: bool) -> None:
        kept[state.epoch] = dump_state(state)

    loop.run(plan, whole, after_epoch=keep)
    torch.rand(17)  # whatever else the process draws must not matter
    plan, resumed = classifier_plan(spec, **options)
    load_state(resumed, kept[3], CPU)
    assert resumed.epoch == 3
    loop.run(plan, resumed, after_epoch=nothing)
    assert_equal_to_the_bit(whole, resumed)
    unclocked = [
        [{k: v for k, v in line.items() if k not in ("seconds", "items_per_s")} for line in lines]
        for lines in (whole.history, resumed.history)
    ]
    assert unclocked[0] == unclocked[1]


def test_seeds_differ_and_repeat() -> None:
    def trained(seed: int) -> TrainState:
        plan, state = classifier_plan(TrainSpec(epochs=1, batch_size=8), seed)
        loop.run(plan, state, after_epoch=nothing)
        return state

    one, other = trained(1), trained(2)
    assert_equal_to_the_bit(one, trained(1))
    assert any(not torch.equal(a, b) for a, b in zip(*map(tensor_list, (one, other)), strict=True))


def tensor_list(state: TrainState) -> list[Tensor]:
    return list(tensors(state).values())


def test_a_checkpoint_of_something_else_is_refused() -> None:
    _, state = classifier_plan(TrainSpec())
    with pytest.raises(TrainingError, match="cannot be read"):
        load_state(state, b"not a checkpoint", CPU)


# --- a GAN through the same loop ------------------------------------------------------------


def gan_objectives() -> tuple[Objective, ...]:
    def fake(modules: Mapping[str, nn.Module], rows: int, rng: Generator) -> Tensor:
        return modules["generator"](torch.randn(rows, 2, generator=rng))

    def critic(modules: Mapping[str, nn.Module], batch: Any, rng: Generator) -> Tensor:
        real = modules["critic"](batch["x"])
        made = modules["critic"](fake(modules, len(batch["x"]), rng).detach())
        return functional.softplus(-real).mean() + functional.softplus(made).mean()

    def generator(modules: Mapping[str, nn.Module], batch: Any, rng: Generator) -> Tensor:
        return functional.softplus(-modules["critic"](fake(modules, len(batch["x"]), rng))).mean()

    return (
        Objective("critic", ("critic",), critic),
        Objective("generator", ("generator",), generator),
    )


def test_a_gan_runs_through_the_same_loop() -> None:
    torch.manual_seed(0)
    real = torch.randn(256, 2, generator=torch.Generator().manual_seed(0)) * 0.3 + 3.0
    modules: dict[str, nn.Module] = {
        "critic": nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1)),
        "generator": nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2)),
    }
    spec = TrainSpec(
        epochs=25,
        batch_size=32,
        average=0.95,
        optimizer=OptimizerSpec(name="adam", lr=5e-3, weight_decay=0),
        schedule=ScheduleSpec(decay="constant"),
    )
    feed = MemoryFeed({"x": real}, {}, 32, 0, Place(), CPU)
    objectives = gan_objectives()
    noise = torch.randn(256, 2, generator=torch.Generator().manual_seed(1))

    def predict(modules: Any, batch: Any) -> Mapping[str, Tensor]:
        return {"made": modules["generator"](noise)}

    plan = loop.Plan(
        spec=spec,
        seed=0,
        objectives=objectives,
        monitor=Monitor("gap", "min"),
        predict=predict,
        measure=lambda logits, columns: {"gap": float(np.abs(logits["made"].mean(0) - 3).max())},
        train=feed,
        tuning=MemoryFeed({"x": real[:4]}, {}, 4, 0, Place(), CPU),
        device=CPU,
    )
    state = new_state(modules, objectives, spec)
    loop.run(plan, state, after_epoch=nothing)
    assert state.best is not None
    assert state.best < 0.5
    assert {"loss_critic", "loss_generator"} <= state.history[0].keys()
    assert all(p.requires_grad for m in state.modules.values() for p in m.parameters())


def test_an_objective_updates_only_what_it_trains() -> None:
    torch.manual_seed(0)
    modules: dict[str, nn.Module] = {"critic": nn.Linear(2, 1), "generator": nn.Linear(2, 2)}
    before = {name: module.weight.clone() for name, module in modules.items()}  # type: ignore[union-attr]
    spec = TrainSpec(epochs=1, batch_size=4)
    feed = MemoryFeed({"x": torch.randn(4, 2)}, {}, 4, 0, Place(), CPU)
    (_, generator) = gan_objectives()
    plan = loop.Plan(
        spec=spec, seed=0, objectives=(generator,), monitor=Monitor("m", "max"),
        predict=lambda modules, batch: {}, measure=lambda logits, columns: {"m": 0.0},
        train=feed, tuning=feed, device=CPU,
    )  # fmt: skip
    loop.run(plan, new_state(modules, (generator,), spec), after_epoch=nothing)
    assert torch.equal(modules["critic"].weight, before["critic"])  # type: ignore[arg-type]
    assert not torch.equal(modules["generator"].weight, before["generator"])  # type: ignore[arg-type]


# --- what is not finite ---------------------------------------------------------------------


def poisoned(plan: loop.Plan, calls: set[int]) -> loop.Plan:
    """The same plan, whose loss is NaN at the given calls."""
    (objective,) = plan.objectives
    count = 0

    def loss(modules: Any, batch: Any, rng: Generator) -> Tensor:
        nonlocal count
        count += 1
        value = objective.loss(modules, batch, rng)
        return value * math.nan if count in calls else value

    changed = Objective(objective.name, objective.trains, loss)
    return loop.Plan(**{**plan.__dict__, "objectives": (changed,)})


def test_updates_that_are_not_finite_are_skipped_and_counted() -> None:
    spec = TrainSpec(epochs=8, batch_size=8, average=0.9, optimizer=OptimizerSpec(lr=3e-3))
    plan, state = classifier_plan(spec, dropout=0.0)
    loop.run(poisoned(plan, {2, 3, 11}), state, after_epoch=nothing)
    assert state.skipped == 3
    assert [record["skipped_steps"] for record in state.history[:3]] == [2, 1, 0]
    assert all(bool(torch.isfinite(value).all()) for value in tensors(state).values())
    assert state.history[-1]["tuning_accuracy"] == 1.0


def test_a_skipped_update_changes_nothing() -> None:
    plan, state = classifier_plan(TrainSpec(epochs=1, batch_size=48))
    before = {k: v.clone() for k, v in state.modules["classifier"].state_dict().items()}
    loop.run(poisoned(plan, {1}), state, after_epoch=nothing)
    after = state.modules["classifier"].state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert state.history[0]["loss"] is None


def test_ten_in_a_row_end_the_run_and_name_the_place() -> None:
    plan, state = classifier_plan(TrainSpec(epochs=5, batch_size=8))
    with torch.no_grad():
        state.modules["classifier"].get_submodule("network.features.3").bias[0] = math.inf  # type: ignore[index]
    with pytest.raises(TrainingError, match=r"10 updates in a row.*network\.features\.3\.bias"):
        loop.run(plan, state, after_epoch=nothing)


def test_an_exploding_activation_is_named() -> None:
    plan, state = classifier_plan(TrainSpec(epochs=5, batch_size=8))
    with torch.no_grad():
        state.modules["classifier"].get_submodule("network.features.0").weight.fill_(3e38)  # type: ignore[operator]
    with pytest.raises(TrainingError, match=r"output of classifier\.network\.features\.0"):
        loop.run(plan, state, after_epoch=nothing)


# --- schedule, early stopping, feed ---------------------------------------------------------


def test_learning_rate_warms_up_and_falls_as_a_cosine() -> None:
    spec = ScheduleSpec(warmup_epochs=2, decay="cosine", floor=0.1)
    rates = [learning_rate(step, 10, 12, 1.0, spec) for step in range(120)]
    assert rates[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert rates[20] == pytest.approx(1.0)
    assert rates[70] == pytest.approx(0.55)  # half way: the mean of 1 and the floor
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert all(a >= b for a, b in pairwise(rates[20:]))
    constant = ScheduleSpec(decay="constant")
    assert {learning_rate(step, 10, 2, 0.5, constant) for step in range(20)} == {0.5}


def test_early_stopping_waits_for_its_patience() -> None:
    spec = TrainSpec(epochs=50, batch_size=8, early_stopping=EarlyStoppingSpec(patience=3))
    plan, state = classifier_plan(spec, dropout=0.0)
    values = iter([0.5, 0.7, float("nan"), 0.6, 0.7, 0.9])
    plan = loop.Plan(
        **{**plan.__dict__, "measure": lambda logits, columns: {"auroc": next(values)}}
    )
    loop.run(plan, state, after_epoch=nothing)
    assert (state.epoch, state.best_epoch, state.best) == (5, 2, 0.7)
    assert state.history[2]["tuning_auroc"] is None


def test_the_last_epoch_is_kept_where_asked_for() -> None:
    spec = TrainSpec(epochs=3, batch_size=8, keep="last")
    plan, state = classifier_plan(spec, dropout=0.0)
    values = iter([0.9, 0.5, float("nan")])
    plan = loop.Plan(
        **{**plan.__dict__, "measure": lambda logits, columns: {"auroc": next(values)}}
    )
    kept: list[bool] = []
    loop.run(plan, state, after_epoch=lambda state, record, improved: kept.append(improved))
    assert kept == [True, True, True]
    assert state.best_epoch == 3
    with pytest.raises(ValidationError, match="keep: best"):
        TrainSpec(keep="last", early_stopping=EarlyStoppingSpec(patience=3))


def test_ranks_see_each_item_once_and_the_same_number_of_batches() -> None:
    batch = {"x": torch.arange(50)}
    columns = {"y": np.arange(50)}
    feeds = [MemoryFeed(batch, columns, 12, 7, Place(rank, 3), CPU) for rank in range(3)]
    assert {feed.steps for feed in feeds} == {4}
    epochs = [[b["x"] for feed in feeds for b in feed.epoch(e)] for e in (1, 2)]
    for batches in epochs:
        assert {len(b) for b in batches} == {4}
        seen = torch.cat(batches).tolist()
        assert len(set(seen)) == len(seen) == 48
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))
    alone = next(MemoryFeed(batch, columns, 12, 7, Place(), CPU).epoch(1))["x"]
    together = torch.cat([next(feed.epoch(1))["x"] for feed in feeds])
    assert torch.equal(alone, together)
    whole = [(b["x"].tolist(), c["y"].tolist()) for feed in feeds for b, c in feed.whole()]
    assert sorted(x for xs, _ in whole for x in xs) == list(range(50))
    assert all(xs == ys for xs, ys in whole)


def test_a_split_smaller_than_the_batch_is_one_batch() -> None:
    feed = MemoryFeed({"x": torch.arange(3)}, {}, 64, 0, Place(), CPU)
    assert [len(b["x"]) for b in feed.epoch(1)] == [3]


def test_an_epoch_of_so_many_updates_goes_on_where_the_last_one_stopped() -> None:
    feed = MemoryFeed({"x": torch.arange(10)}, {}, 2, 0, Place(), CPU, epoch_steps=3)
    assert feed.steps == 3
    seen = [batch["x"].tolist() for epoch in range(1, 6) for batch in feed.epoch(epoch)]
    assert len(seen) == 15
    for start in (0, 5, 10):  # every item once in each pass of five batches
        assert sorted(x for batch in seen[start : start + 5] for x in batch) == list(range(10))
    assert seen[:5] != seen[5:10]
    again = [batch["x"].tolist() for batch in feed.epoch(2)]
    assert again == seen[3:6]


def test_an_objective_has_its_own_turn_rate_and_moments() -> None:
    modules = {"critic": nn.Linear(2, 1), "generator": nn.Linear(2, 1)}
    calls: list[str] = []

    def loss(name: str) -> Callable[..., Tensor]:
        def one(modules: Any, batch: Any, rng: Generator) -> Tensor:
            calls.append(name)
            return modules[name](batch["x"]).sum()

        return one

    objectives = (
        Objective("critic", ("critic",), loss("critic"), lr_share=0.5, betas=(0.5, 0.9)),
        Objective("generator", ("generator",), loss("generator"), every=3),
    )
    spec = TrainSpec(
        epochs=2, batch_size=4, schedule=ScheduleSpec(decay="constant"), optimizer=OptimizerSpec()
    )
    feed = MemoryFeed({"x": torch.randn(20, 2)}, {}, 4, 0, Place(), CPU)
    plan = loop.Plan(
        spec=spec,
        seed=0,
        objectives=objectives,
        monitor=Monitor("loss", "min"),
        predict=lambda modules, batch: {"x": batch["x"]},
        measure=lambda logits, columns: {"loss": 0.0},
        train=feed,
        tuning=feed,
        device=CPU,
    )
    state = new_state(modules, objectives, spec)
    loop.run(plan, state, after_epoch=nothing)
    assert calls.count("critic") == 10
    assert calls.count("generator") == 3  # at updates 3, 6 and 9 of the run
    groups = {name: one.param_groups[0] for name, one in state.optimizers.items()}
    assert groups["critic"]["lr"] == pytest.approx(0.5 * spec.optimizer.lr)
    assert groups["generator"]["lr"] == pytest.approx(spec.optimizer.lr)
    assert groups["critic"]["betas"] == (0.5, 0.9)
    assert groups["generator"]["betas"] == (0.9, 0.999)
