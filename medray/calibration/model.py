"""What was learned on `tuning`, kept in a package: from logits to probabilities and decisions.

Shapes: B items; logits in the shape of a target's kind (medray.workload.Target).
Knows no model and no data set.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from medray.calibration import hazards
from medray.errors import DataError
from medray.records.scale import Scale
from medray.spec.base import Section
from medray.spec.models import WantedSensitivity

Kind = Literal["binary", "multiclass", "survival", "quantiles", "value", "domain"]
Rule = Literal["youden"] | WantedSensitivity
Array = np.ndarray[Any, Any]


class TargetCalibration(Section):
    """How the logits of one target are read.

    temperature  divides the logits before sigmoid or softmax (binary, multiclass).
    threshold    binary: probabilities at or above it are positive; domain: similarities at or
                 above it are inside; null for others: of several classes the most probable is
                 chosen, risks and values are not decided upon.
    edges_days, horizons_days, levels, scale   survival, quantiles: see medray.workload.Target.
    widths       quantiles: what the outer two are moved outwards by at each horizon, in standard
                 deviations, so that so many values of `tuning` lie between as should; value: how
                 far the interval reaches to either side, or empty where it was not learned.
    items        labelled items it was fitted on.
    note         why it was not fitted, when it was not.
    """

    kind: Kind
    classes: tuple[str, ...] = ()
    temperature: float = Field(default=1.0, gt=0)
    threshold: float | None = None
    rule: Rule | None = None
    edges_days: tuple[float, ...] = ()
    horizons_days: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()
    scale: Scale = Scale()
    widths: tuple[float, ...] = ()
    items: int = Field(default=0, ge=0)
    note: str = ""

    def headline(self, target: str) -> str:
        """Name of the answer that stands for a target: of survival the first cause's last risk."""
        if self.kind == "survival":
            return within_days(self.classes[0], self.horizons_days[-1])
        return target


@dataclass(frozen=True, slots=True)
class Answer:
    """One thing that is said of every item: a row each in `predictions`.

    text_value  a class, or a quantile as "q0.5"; else None.
    values      (B,) probability or, of a quantile, a value in the source's units.
    decisions   (B,), or None where nothing is decided.
    """

    name: str
    text_value: str | None
    values: Array
    decisions: Array | None


class Calibration(Section):
    """How every target is read, in the order of the workload's targets."""

    targets: dict[str, TargetCalibration]

    def apply(self, target: str, logits: Array) -> Array:
        """Calibrated answers as float64; a NaN logit gives NaN, never a probability.

        Probabilities (B,) or (B, K); survival: cumulative incidence (B, C, T) at `edges_days`;
        quantiles, value: values (B, H, Q) or (B,) in the source's units; domain: similarities (B,).
        Raises DataError for a target it does not hold.
        """
        entry = self._of(target)
        return _APPLY[entry.kind](np.asarray(logits, dtype=np.float64), entry)

    def decide(self, target: str, probabilities: Array) -> Array:
        """Boolean decisions in the shape of `probabilities`; of binary and multi-class targets.

        Binary, domain: at or above the threshold. Multi-class: True for the most probable class of
        each row (the first of equals). NaN decides nothing: False.
        """
        entry = self._of(target)
        values = np.asarray(probabilities, dtype=np.float64)
        if entry.kind in ("binary", "domain"):
            threshold = 0.5 if entry.threshold is None else entry.threshold
            return values >= threshold
        decided = np.zeros(values.shape, dtype=bool)
        finite = np.isfinite(values).all(axis=-1)
        decided[finite, values[finite].argmax(axis=-1)] = True
        return decided

    def interval(self, target: str, logits: Array) -> Array | None:
        """Where a value lies with the share between its `levels`: (B, 2) in the source's units.

        None where `tuning` was too small to learn it.
        """
        entry = self._of(target)
        if not entry.widths:
            return None
        ends_B2 = np.asarray(logits, np.float64)[:, None] + np.array([-1, 1]) * entry.widths[0]
        return entry.scale.back(ends_B2)

    def answers(self, target: str, logits: Array) -> tuple[Answer, ...]:
        """All that is said of B items for one target."""
        entry, found = self._of(target), self.apply(target, logits)
        if entry.kind in ("binary", "domain"):
            return (Answer(target, None, found, self.decide(target, found)),)
        if entry.kind == "value":
            ends_B2 = self.interval(target, logits)
            bounds = () if ends_B2 is None else zip(entry.levels, ends_B2.T, strict=True)
            return (
                Answer(target, None, found, None),
                *(Answer(target, f"q{level:g}", end, None) for level, end in bounds),
            )
        if entry.kind == "multiclass":
            decided = self.decide(target, found)
            return tuple(
                Answer(target, name, found[:, index], decided[:, index])
                for index, name in enumerate(entry.classes)
            )
        if entry.kind == "survival":
            risks_BCH = hazards.at(found, entry.edges_days, entry.horizons_days)
            return tuple(
                Answer(within_days(cause, horizon), None, risks_BCH[:, number, index], None)
                for number, cause in enumerate(entry.classes)
                for index, horizon in enumerate(entry.horizons_days)
            )
        return tuple(
            Answer(f"{target} at {horizon:g} days", f"q{level:g}", found[:, index, place], None)
            for index, horizon in enumerate(entry.horizons_days)
            for place, level in enumerate(entry.levels)
        )

    def _of(self, target: str) -> TargetCalibration:
        try:
            return self.targets[target]
        except KeyError:
            known = ", ".join(self.targets)
            raise DataError(
                f"no calibration for the target {target!r}", remedy=f"one of: {known}"
            ) from None


def within_days(cause: str, horizon: float) -> str:
    """Name of a risk up to a horizon."""
    return f"{cause} within {horizon:g} days"


def sigmoid(values: Array) -> Array:
    """Logistic function, without overflow."""
    # exp of a non-positive number only: no overflow at either end.
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def _softmax(values_BK: Array) -> Array:
    powers_BK = np.exp(values_BK - values_BK.max(axis=-1, keepdims=True))
    return powers_BK / powers_BK.sum(axis=-1, keepdims=True)


def _quantiles(logits_BHQ: Array, entry: TargetCalibration) -> Array:
    moved_BHQ = logits_BHQ.copy()
    if entry.widths:
        width_H = np.array(entry.widths)
        middle_BH = moved_BHQ[:, :, entry.levels.index(0.5)].copy()
        moved_BHQ[:, :, 0] = np.minimum(moved_BHQ[:, :, 0] - width_H, middle_BH)
        moved_BHQ[:, :, -1] = np.maximum(moved_BHQ[:, :, -1] + width_H, middle_BH)
    return np.sort(entry.scale.back(moved_BHQ), axis=2)


_APPLY = {
    "binary": lambda logits, entry: sigmoid(logits / entry.temperature),
    "multiclass": lambda logits, entry: _softmax(logits / entry.temperature),
    "survival": lambda logits, entry: hazards.incidence(logits),
    "quantiles": _quantiles,
    "value": lambda logits, entry: entry.scale.back(logits),
    "domain": lambda logits, entry: logits,
}
