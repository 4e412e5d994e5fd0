"""Made-up records whose outcome is known by rule, and small networks that learned it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from medray.records.steps import HOUR, NO_TIME, Channel, Vocabulary
from medray.records.tasks import OutcomeSpec
from medray.records.tokens import token
from medray.workloads.timeline.params import TimelineFitted, TimelineParams
from medray.workloads.timeline.tensors import OUTCOME
from medray.workloads.timeline.workload import Timeline

TIMELINES = Timeline()
TIMED = ("heart_rate", "lactate", "sodium")
CODES = ("fever", "sepsis")
FACTS = ("age",)
TEXTS = ("awake", "asleep")  # of the code `state`: a channel each
VOCABULARY = Vocabulary(
    timed=(
        *(Channel(code=token(name)) for name in TIMED),
        *(Channel(code=token("state"), text=token(text)) for text in TEXTS),
    ),
    static=tuple(Channel(code=token(name)) for name in FACTS),
    presence=tuple(token(name) for name in CODES),
)
NAMES = {str(token(name)): name for name in (*TIMED, *CODES, *FACTS, "state", *TEXTS)}
FITTED = TimelineFitted(vocabulary=VOCABULARY, items=2, positives=1)

Event = tuple[float | None, str, float | str | None]  # hours before the prediction, code, value


def params(**options: Any) -> TimelineParams:
    """A small network without randomness; `options` on top."""
    given = {"hidden": 8, "embedding": 4, "dropout": 0.0, "predict_at": "end"}
    given |= {"input_dropout": 0.0, "recurrent_dropout": 0.0} | options
    return TimelineParams(outcome=OutcomeSpec(column="died"), **given)


def columns(*histories: list[Event]) -> dict[str, Any]:
    """Items whose prediction is at hour 1,000; events in the order given."""
    cells: dict[str, list[np.ndarray]] = {
        name: [] for name in ("event_time", "event_code", "event_text", "event_value")
    }
    for events in histories:
        times = [NO_TIME if h is None else round((1000 - h) * HOUR) for h, _, _ in events]
        cells["event_time"].append(np.array(times, np.int64))
        cells["event_code"].append(np.array([token(code) for _, code, _ in events], np.int64))
        texts = [token(v) if isinstance(v, str) else 0 for _, _, v in events]
        cells["event_text"].append(np.array(texts, np.int64))
        numbers = [v if isinstance(v, (int, float)) else np.nan for _, _, v in events]
        cells["event_value"].append(np.array(numbers, np.float32))
    made: dict[str, Any] = {}
    for name, values in cells.items():
        made[name] = np.empty(len(histories), object)
        made[name][:] = values
    made["prediction_time"] = np.full(len(histories), 1000 * HOUR, np.int64)
    return made


def history(rng: np.random.Generator, moments: int = 6) -> list[Event]:
    """Random events at some moments of two days, after a fact."""
    events: list[Event] = [(None, "age", float(rng.normal()))]
    for hours in sorted(rng.choice(48, moments, replace=False), reverse=True):
        for name in TIMED:
            if rng.random() < 0.6:
                events.append((float(hours), name, float(rng.normal())))
        if rng.random() < 0.5:
            events.append((float(hours), "state", str(rng.choice(TEXTS))))
        if rng.random() < 0.3:
            events.append((float(hours), str(rng.choice(CODES)), None))
        if rng.random() < 0.3:
            events.append((float(hours), "never_learned", 1.0))
    return events


def last_lactate(events: list[Event]) -> float:
    """The value that decides; 0 where none was measured."""
    return next((float(v) for _, code, v in reversed(events) if code == "lactate"), 0.0)  # type: ignore[arg-type]


def untrained(asked: TimelineParams, seed: int = 0, gain: float = 1.0) -> dict[str, Any]:
    """Fresh modules in evaluation mode, weights times `gain`."""
    torch.manual_seed(seed)
    modules = TIMELINES.build_modules(asked, FITTED)
    for module in modules.values():
        module.eval()
        for parameter in module.parameters():
            parameter.data *= gain
    return modules


def trained(asked: TimelineParams, steps: int = 150) -> dict[str, Any]:
    """Modules that learned to tell whether the last lactate is above its mean."""
    rng = np.random.default_rng(0)
    records = [history(rng) for _ in range(256)]
    items = columns(*records) | {OUTCOME: np.array([last_lactate(r) > 0 for r in records], float)}
    batch = TIMELINES.collate(items, asked, FITTED)
    modules = untrained(asked)
    weights = [p for module in modules.values() for p in module.parameters()]
    optimizer = torch.optim.Adam(weights, lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        for objective in TIMELINES.objectives(asked, FITTED):
            objective.loss(modules, batch, torch.Generator()).backward()
        optimizer.step()
    return modules


def logits(modules: Mapping[str, Any], items: Mapping[str, Any], asked: TimelineParams) -> Any:
    """(B,) of the one target."""
    with torch.no_grad():
        batch = TIMELINES.collate(items, asked, FITTED)
        return TIMELINES.predict(modules, batch, asked)[asked.target].numpy()
