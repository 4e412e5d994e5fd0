"""What each input of a recurrent network added to its answer: integrated gradients.

Sundararajan et al. 2017 (arXiv:1703.01365), through captum. The path goes from a record that has
its entries at the same times, but in which nothing is known, to the record as it is: values from
the mean of `train`, masks from 0, gaps from the time since the first entry, codes from no vector,
facts from not known. Starting at the mean with masks of 1 would credit values nobody measured. Gaps
move on the scale the network reads them on, log(1 + hours). What the times of the entries say by
themselves is the difference between that record and an empty one.

Shapes: B items (1 here), T steps, V channels, S facts, K codes of a step, N points of the path.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from medray.records.credit import InputCredit, to_events
from medray.workload import Batch, Columns, EventCredits, Modules, on_device
from medray.workloads.timeline.params import TimelineFitted, TimelineParams
from medray.workloads.timeline.tensors import INPUTS, collate, steps, trim

Array = np.ndarray[Any, Any]
Scalar = Callable[[Modules, Batch], Tensor]
"""What is explained: (B,) of a batch; each item's own, whatever stands beside it."""

TOLERANCE: Final = 0.01  # of the difference that is explained
_NOISE = 1e-4  # differences of an answer in float32 that say nothing
_POINTS: Final = (32, 64, 128, 256, 512)
_VALUES_AT_ONCE = 1 << 22  # of the inputs, per pass
_TIMED = ("carried", "least", "greatest", "observed", "since", "gap")
_PATH = (*_TIMED, "present", "facts")


@dataclass(frozen=True, slots=True)
class Attribution:
    """Credit for the inputs of one item, in the unit of the scalar, float64.

    timed     (1, T, V): of values, mask and gap together. codes (1, T, K). facts (1, S).
    answer    the scalar. bare: with the times of the entries alone. empty: of an empty record.
    error     what the credits miss of answer - bare.
    points    of the path.
    """

    timed: Array
    codes: Array
    facts: Array
    answer: float
    bare: float
    empty: float
    error: float
    points: int


def explain_items(
    modules: Modules,
    columns: Columns,
    scalar: Scalar,
    params: TimelineParams,
    fitted: TimelineFitted,
) -> EventCredits:
    """Credit every event of every item, each item by itself."""
    rows = len(columns["prediction_time"])
    each = [
        _explain_one(
            modules,
            {name: columns[name][row : row + 1] for name in INPUTS},
            scalar,
            params,
            fitted,
        )
        for row in range(rows)
    ]
    numbers = np.array([numbers for _, _, numbers in each], np.float64).reshape(-1, 5)
    empty, timing, answer, error, points = numbers.T
    return EventCredits(
        events=tuple(events for events, _, _ in each),
        read=tuple(read for _, read, _ in each),
        empty=empty,
        timing=timing,
        answer=answer,
        error=error,
        points=points.astype(np.int64),
    )


def _explain_one(
    modules: Modules,
    columns: Columns,
    scalar: Scalar,
    params: TimelineParams,
    fitted: TimelineFitted,
) -> tuple[Array, Array, tuple[float, ...]]:
    batch = on_device(collate(columns, params, fitted), modules)
    found = integrated_gradients(modules, batch, scalar)
    credit = to_events(
        InputCredit(found.timed, found.codes, found.facts),
        steps(columns, params, fitted),
        columns,
        np.asarray(columns["prediction_time"]),
        fitted.vocabulary,
        step_hours=params.step_hours,
        max_steps=params.max_steps,
    )
    # nothing stands before the first observation but the times of the entries
    timing = found.bare - found.empty + float(credit.remainder[0])
    numbers = (found.empty, timing, found.answer, found.error, float(found.points))
    return credit.events[0], credit.read[0], numbers


def integrated_gradients(
    modules: Modules, batch: Batch, scalar: Scalar, tolerance: float = TOLERANCE
) -> Attribution:
    """Credit every input of one collated item; the modules must be in evaluation mode.

    Points of the path are doubled until the credits' sum misses the difference to explain by less
    than `tolerance` of it, or there are 512; `error` says by how much.
    """
    item = trim(batch)
    ends = _ends(item)
    shape = item["carried"].shape
    credit: dict[str, Array] = {}
    error, points = np.inf, 0
    # cuDNN's recurrences have no gradient in evaluation mode
    with torch.backends.cudnn.flags(enabled=False):
        with torch.no_grad():
            bare, answer = (
                float(scalar(modules, _batch(side, item))) for side in zip(*ends, strict=True)
            )
            empty = float(scalar(modules, _empty(item)))
        for points in _POINTS:
            credit = _path_sum(modules, item, scalar, ends, points)
            error = answer - bare - sum(float(values.sum()) for values in credit.values())
            if abs(error) < max(tolerance * abs(answer - bare), _NOISE):
                break
    return Attribution(
        timed=sum((credit[name] for name in _TIMED if credit[name].size), np.zeros(shape)),
        codes=credit["present"],
        facts=credit["facts"].reshape(1, 2, -1).sum(axis=1),
        answer=answer,
        bare=bare,
        empty=empty,
        error=error,
        points=points,
    )


def _ends(item: Batch) -> tuple[tuple[Tensor, Tensor], ...]:
    """Start and end of the path of every input in `_PATH`, each (1, …)."""
    hours = item["hours"]
    never = torch.log1p((hours[:, :1] - hours).clamp_min(0))[..., None].expand_as(item["since"])
    none = torch.zeros_like(never[..., :0])  # steps of one moment have no extremes
    ends = {
        "carried": item["carried"].float(),
        "least": item.get("least", none),
        "greatest": item.get("greatest", none),
        "observed": item["observed"].float(),
        "since": torch.log1p(item["since"].float()),
        "gap": torch.log1p(item["gap"].float()),
        "present": (item["codes"] > 0).float(),
        "facts": item["facts"].float(),
    }
    starts = {name: torch.zeros_like(end) for name, end in ends.items()}
    starts |= {"since": never, "gap": never}
    return tuple((starts[name].contiguous(), ends[name]) for name in _PATH)


def _batch(values: tuple[Tensor, ...], item: Batch) -> dict[str, Tensor]:
    """A batch of points of the path, (N, …) each, at the times of the item's entries."""
    inputs = dict(zip(_PATH, values, strict=True))
    count = len(inputs["carried"])
    fixed = {name: item[name].expand(count, *item[name].shape[1:]) for name in ("hours", "codes")}
    lengths = item["lengths"].expand(count)
    hours = {name: torch.expm1(inputs[name]) for name in ("since", "gap")}
    return {**inputs, **hours, **fixed, "lengths": lengths}


def _empty(item: Batch) -> dict[str, Tensor]:
    """One entry at the prediction time, in which nothing is known."""
    names = ("carried", "since", "gap", "codes")
    first = {name: torch.zeros_like(item[name][:, :1]) for name in names}
    hours = torch.zeros_like(item["hours"][:, :1])
    facts, lengths = torch.zeros_like(item["facts"]), torch.ones_like(item["lengths"])
    return {
        **first,
        "least": torch.zeros_like(first["carried"]),
        "greatest": torch.zeros_like(first["carried"]),
        "observed": torch.zeros_like(first["carried"]),
        "present": torch.zeros_like(first["codes"], dtype=torch.float32),
        "hours": hours,
        "facts": facts,
        "lengths": lengths,
    }


def _path_sum(
    modules: Modules,
    item: Batch,
    scalar: Scalar,
    ends: tuple[tuple[Tensor, Tensor], ...],
    points: int,
) -> dict[str, Array]:
    """Gradients summed along the path, by Gauss-Legendre quadrature: a credit per input."""
    from captum.attr import IntegratedGradients

    # a record without codes, or a network without facts, has inputs of no width
    used = [place for place, (_, end) in enumerate(ends) if end.numel()]
    credit = {name: np.zeros(end.shape) for name, (_, end) in zip(_PATH, ends, strict=True)}
    if not used:
        return credit

    def answer(*moving: Tensor) -> Tensor:
        count = len(moving[0])
        values = [end.expand(count, *end.shape[1:]) for _, end in ends]
        for place, tensor in zip(used, moving, strict=True):
            values[place] = tensor
        # each network reads some of the gaps; captum wants a gradient of every input, if of 0
        unread = sum(tensor.flatten(1).sum(1) for tensor in moving) * 0
        return scalar(modules, _batch(tuple(values), item)) + unread

    width = sum(end.numel() for _, end in ends)
    with torch.enable_grad():
        found = IntegratedGradients(answer).attribute(
            tuple(ends[place][1] for place in used),
            baselines=tuple(ends[place][0] for place in used),
            n_steps=points,
            internal_batch_size=max(1, min(points, _VALUES_AT_ONCE // width)),
        )
    for place, tensor in zip(used, found, strict=True):
        credit[_PATH[place]] = tensor.detach().double().cpu().numpy()
    return credit
