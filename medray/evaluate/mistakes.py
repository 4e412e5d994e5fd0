"""The held-out items the model was most confidently wrong about, one per patient.

Shapes: N items, C classes.
"""

from collections.abc import Callable, Iterable
from itertools import chain, zip_longest
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medray.calibration import Calibration
from medray.evaluate.results import Scored
from medray.report.document import Mistake
from medray.score.explanation import explain_item
from medray.score.predictor import Predictor
from medray.workload import Columns

Array = NDArray[Any]

_EVENTS = 5  # shown beside a mistake


def binary_mistakes(
    name: str, held_out: Scored, calibration: Calibration, most: int
) -> list[tuple[int, Mistake]]:
    """Row and description of up to `most` mistakes: missed findings and false alarms in turn.

    Most confident first: the missed by lowest probability, the false alarms by highest.
    """
    rows = np.flatnonzero(held_out.usable())
    p_L = calibration.apply(name, held_out.logits[rows])
    called_L = calibration.decide(name, p_L)
    positive_L = held_out.truth[rows] == 1
    by_score = np.argsort(p_L, kind="stable")
    missed = [int(i) for i in by_score if positive_L[i] and not called_L[i]]
    alarms = [int(i) for i in by_score[::-1] if not positive_L[i] and called_L[i]]
    in_turn = (i for i in chain.from_iterable(zip_longest(missed, alarms)) if i is not None)
    found: list[tuple[int, Mistake]] = []
    for i in _one_per_patient(in_turn, held_out.subject_ids[rows], most):
        kind: Literal["missed", "false alarm"] = "missed" if positive_L[i] else "false alarm"
        truth = "positive" if positive_L[i] else "negative"
        called = "positive" if called_L[i] else "negative"
        item = str(held_out.item_ids[rows[i]])
        mistake = Mistake(
            item_id=item, kind=kind, truth=truth, predicted=called, score=float(p_L[i])
        )
        found.append((int(rows[i]), mistake))
    return found


def with_events(
    found: Iterable[tuple[int, Mistake]],
    predictor: Predictor,
    item_of: Callable[[int], Columns],
    target: str,
) -> tuple[Mistake, ...]:
    """Mistakes on patients' records, each with the events that had the greatest part in it.

    item_of  row → columns of that item alone, its history among them.
    """
    return tuple(
        mistake.model_copy(
            update={"events": explain_item(predictor, item_of(row), 0, target).events[:_EVENTS]}
        )
        for row, mistake in found
    )


def multiclass_mistakes(
    name: str, classes: tuple[str, ...], held_out: Scored, calibration: Calibration, most: int
) -> list[tuple[int, Mistake]]:
    """Row and description of up to `most` mistakes, surest first."""
    rows = np.flatnonzero(held_out.usable())
    p_LC = calibration.apply(name, held_out.logits[rows])
    called_L, truth_L = p_LC.argmax(axis=1), held_out.truth[rows].astype(np.int64)
    surest = np.argsort(-p_LC.max(axis=1), kind="stable")
    wrong = (int(i) for i in surest if called_L[i] != truth_L[i])
    found: list[tuple[int, Mistake]] = []
    for i in _one_per_patient(wrong, held_out.subject_ids[rows], most):
        called = int(called_L[i])
        mistake = Mistake(
            item_id=str(held_out.item_ids[rows[i]]),
            kind="confused",
            truth=classes[truth_L[i]],
            predicted=classes[called],
            score=float(p_LC[i, called]),
        )
        found.append((int(rows[i]), mistake))
    return found


def _one_per_patient(ordered: Iterable[int], subject_ids: Array, most: int) -> list[int]:
    """First `most` of `ordered`, none of a patient that is already among them."""
    taken: list[int] = []
    seen: set[str] = set()
    for i in ordered:
        if len(taken) == most:
            break
        if subject_ids[i] not in seen:
            seen.add(subject_ids[i])
            taken.append(i)
    return taken
