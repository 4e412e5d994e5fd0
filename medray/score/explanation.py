"""One item of patients' records → its score and the part that each event has in it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from medray.errors import DataError, UsageError
from medray.explain.events import EventPart, Explanation
from medray.package import Package
from medray.records.steps import HOUR, NO_TIME
from medray.records.tasks import TIMELINE
from medray.records.tokens import NONE
from medray.score.predictor import Predictor
from medray.workload import Columns, EventCredits

Array = np.ndarray[Any, Any]

_INPUTS = (*TIMELINE, "prediction_time")


def explain_item(
    predictor: Predictor, items: Columns, row: int, target: str | None = None
) -> Explanation:
    """Take one prediction apart.

    items   columns of items: TIMELINE, `prediction_time`, `item_id` and `subject_id`.
    target  absent: the one of the highest score.
    Raises DataError when the model has no answer for the item, UsageError for a target that the
    package does not have, or that is not explained by events.
    """
    inputs = {name: items[name][row : row + 1] for name in _INPUTS}
    outcome = predictor.predict_columns(inputs)[0]
    if outcome.reason is not None:
        raise DataError(f"the model has no answer for this item: {outcome.reason}")
    chosen, credits = predictor.explain_columns(inputs, target)
    if not isinstance(credits, EventCredits):
        raise UsageError(f"{predictor.package.ref} does not predict from events")
    entry = predictor.package.calibration.targets[chosen]
    said = entry.headline(chosen)
    score = next(score for score in outcome.scores if score.target == said)
    scale = 1 / entry.temperature
    moment = int(inputs["prediction_time"][0])
    return Explanation(
        package=predictor.package.ref,
        target=said,
        subject_id=str(items["subject_id"][row]),
        item_id=str(items["item_id"][row]),
        prediction_time=_iso(moment),
        score=score.score,
        decision=score.decision,
        empty=float(credits.empty[0]) * scale,
        timing=float(credits.timing[0]) * scale,
        answer=float(credits.answer[0]) * scale,
        error=float(credits.error[0]) * scale,
        points=int(credits.points[0]),
        unread=int((~credits.read[0]).sum()),
        events=_parts(predictor.package, inputs, credits, moment, scale),
    )


def _parts(
    package: Package, inputs: Columns, credits: EventCredits, moment: int, scale: float
) -> tuple[EventPart, ...]:
    """Events that the model read, greatest contribution first."""
    names, records = package.names, package.records
    units = {} if records is None else {code: one.unit for code, one in records.codes.items()}
    time, code, text, value = (inputs[name][0] for name in TIMELINE)
    credit = credits.events[0]
    read = np.flatnonzero(credits.read[0])
    found: list[EventPart] = []
    for place in read[np.argsort(-np.abs(credit[read]), kind="stable")]:
        name = names.get(str(code[place]), str(code[place]))
        number = float(value[place])
        said = int(text[place])
        found.append(
            EventPart(
                hours_before=None if time[place] == NO_TIME else (moment - int(time[place])) / HOUR,
                code=name,
                text_value=None if said == NONE else names.get(str(said), str(said)),
                numeric_value=number if np.isfinite(number) else None,
                unit=units.get(name),
                contribution=float(credit[place]) * scale,
            )
        )
    return tuple(found)


def _iso(micros: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).isoformat()
