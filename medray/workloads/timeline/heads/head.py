"""What a head is: functions of plain arrays and tensors; and the sums it learns from.

Shapes: B items, O outputs of the network. What was observed is (B,) or (B, X); see workload.Target.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from medray.records.steps import Vocabulary
from medray.workload import Columns, Monitor, Rivals, Target
from medray.workloads.timeline.params import TimelineFitted, TimelineParams

Array = np.ndarray[Any, Any]

OUTCOME_SUMS = (
    pa.field("rows", pa.int64()),  # items whose outcome is known
    pa.field("positives", pa.int64()),  # those where it happens
    # survival: distinct times (three digits), whether an outcome came then, and how often
    pa.field("days", pa.list_(pa.float64())),
    pa.field("happened", pa.list_(pa.bool_())),
    pa.field("counts", pa.list_(pa.int64())),
)


@dataclass(frozen=True, slots=True)
class Head:
    """One kind of question.

    observe   (items, patients, params) → what was observed of every item.
    sums      (observed) → values of OUTCOME_SUMS of one batch.
    learn     (merged sums, vocabulary, params) → edges of time; raises DataError when there is
              nothing to learn.
    outputs   (params, fitted) → O.
    target    (params, fitted) → what is predicted.
    answer    (output (B, O), params) → logits in the shape of the target's kind.
    loss      (output (B, O), observed, params, fitted) → scalar; items that are not known count 0.
    measure   (logits, observed, params, fitted) → metrics, `loss` among them.
    monitor   the tuning metric that picks the best epoch where the spec names none.
    log_odds  (answer, params, fitted) → (B,): what an explanation is of.
    baselines (train, held_out, params, fitted, seed) → name → target → answers.
    """

    observe: Callable[[Columns, Columns, TimelineParams], Array]
    sums: Callable[[Array], Mapping[str, Any]]
    learn: Callable[[Mapping[str, Any], Vocabulary, TimelineParams], tuple[float, ...]]
    outputs: Callable[[TimelineParams, TimelineFitted], int]
    target: Callable[[TimelineParams, TimelineFitted], Target]
    answer: Callable[[Tensor, TimelineParams], Tensor]
    loss: Callable[[Tensor, Tensor, TimelineParams, TimelineFitted], Tensor]
    measure: Callable[[Array, Array, TimelineParams, TimelineFitted], Mapping[str, float]]
    monitor: Monitor
    log_odds: Callable[[Tensor, TimelineParams, TimelineFitted], Tensor]
    baselines: Callable[[Columns, Columns, TimelineParams, TimelineFitted, int], Rivals]


def counted(rows: int, positives: int) -> dict[str, Any]:
    """Values of OUTCOME_SUMS without times."""
    return {"rows": rows, "positives": positives, "days": [], "happened": [], "counts": []}


def merged(table: pa.Table) -> dict[str, Any]:
    """Sums of all batches: scalars added, lists one after the other."""
    found: dict[str, Any] = {}
    for field in OUTCOME_SUMS:
        values = [value for value in table[field.name].to_pylist() if value is not None]
        scalar = not pa.types.is_list(field.type)
        found[field.name] = sum(values) if scalar else [one for each in values for one in each]
    return found
