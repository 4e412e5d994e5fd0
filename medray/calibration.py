"""From logits to probabilities and decisions: what was learned on `tuning`, kept in a package.

Shapes: B items, K classes. Missing truth is NaN (binary) or -1 (multi-class), never learned from.
Knows no model and no data set. Temperature scaling: Guo et al., ICML 2017.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import Field

from medray.errors import DataError
from medray.spec.base import Section
from medray.spec.models import WantedSensitivity

Rule = Literal["youden"] | WantedSensitivity
Array = np.ndarray[Any, Any]

_ONE_CLASS = "only one class on `tuning`: not calibrated"
_NO_TRUTH = "no label on `tuning`: not calibrated"


class Target(Protocol):
    """What of medray.workload.Target is needed here."""

    @property
    def name(self) -> str:
        """Key of its logits and truth."""
        ...

    @property
    def kind(self) -> Literal["binary", "multiclass"]:
        """Binary logits are (B,), multi-class (B, K)."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes; empty for binary."""
        ...


class TargetCalibration(Section):
    """How the logits of one target are read.

    temperature  divides the logits before sigmoid or softmax.
    threshold    binary: probabilities at or above it are positive; null for multi-class, where
                 the most probable class is chosen.
    items        labelled items it was fitted on.
    note         why it was not fitted, when it was not.
    """

    kind: Literal["binary", "multiclass"]
    classes: tuple[str, ...] = ()
    temperature: float = Field(default=1.0, gt=0)
    threshold: float | None = None
    rule: Rule | None = None
    items: int = Field(default=0, ge=0)
    note: str = ""


class Calibration(Section):
    """Temperature and operating point of every target, in the order of the workload's targets."""

    targets: dict[str, TargetCalibration]

    def apply(self, target: str, logits: Array) -> Array:
        """Calibrated probabilities as float64, in the shape of `logits`.

        Binary logits are (B,), multi-class (B, K). A NaN logit gives NaN, never a probability.
        Raises DataError for a target it does not hold.
        """
        entry = self._of(target)
        scaled = np.asarray(logits, dtype=np.float64) / entry.temperature
        return _sigmoid(scaled) if entry.kind == "binary" else _softmax(scaled)

    def decide(self, target: str, probabilities: Array) -> Array:
        """Boolean decisions in the shape of `probabilities`.

        Binary: at or above the threshold. Multi-class: True for the most probable class of each
        row (the first of equals). NaN decides nothing: False.
        """
        entry = self._of(target)
        values = np.asarray(probabilities, dtype=np.float64)
        if entry.kind == "binary":
            threshold = 0.5 if entry.threshold is None else entry.threshold
            return values >= threshold
        decided = np.zeros(values.shape, dtype=bool)
        finite = np.isfinite(values).all(axis=-1)
        decided[finite, values[finite].argmax(axis=-1)] = True
        return decided

    def _of(self, target: str) -> TargetCalibration:
        try:
            return self.targets[target]
        except KeyError:
            known = ", ".join(self.targets)
            raise DataError(
                f"no calibration for the target {target!r}", remedy=f"one of: {known}"
            ) from None


def fit_calibration(
    targets: Sequence[Target], logits: Mapping[str, Array], truth: Mapping[str, Array], rule: Rule
) -> Calibration:
    """Temperature and threshold of every target, learned on the `tuning` split.

    `logits[t]` is (B,) or (B, K), `truth[t]` (B,). Items without truth are left out. A target
    with fewer than two classes keeps temperature 1 and threshold 0.5, and a note says so.
    Raises DataError when a target's logits or truth are absent or differ in length.
    """
    fitted: dict[str, TargetCalibration] = {}
    for target in targets:
        if target.name not in logits or target.name not in truth:
            raise DataError(f"the target {target.name!r} has no logits or no truth on `tuning`")
        scores = np.asarray(logits[target.name], dtype=np.float64)
        observed = np.asarray(truth[target.name], dtype=np.float64)
        if len(scores) != len(observed):
            raise DataError(
                f"{len(scores)} logits but {len(observed)} labels for the target {target.name!r}"
            )
        known = np.isfinite(observed) & (observed >= 0)
        known &= np.isfinite(scores.reshape(len(scores), -1)).all(axis=1)
        fitted[target.name] = _fit_one(target, scores[known], observed[known].astype(int), rule)
    return Calibration(targets=fitted)


def _fit_one(target: Target, logits: Array, truth: Array, rule: Rule) -> TargetCalibration:
    # Imported here: fitting needs scipy, and reading a calibration must not wait for it.
    from medray.metrics.calibration import fit_temperature, fit_temperature_multiclass
    from medray.metrics.operating import choose_threshold

    binary = target.kind == "binary"
    if np.unique(truth).size < 2:
        return TargetCalibration(
            kind=target.kind,
            classes=target.classes,
            threshold=0.5 if binary else None,
            items=len(truth),
            note=_ONE_CLASS if len(truth) else _NO_TRUTH,
        )
    fit = fit_temperature if binary else fit_temperature_multiclass
    temperature = float(fit(logits, truth))
    threshold = None
    if binary:
        wanted = rule if isinstance(rule, str) else {"sensitivity": rule.sensitivity}
        threshold = float(choose_threshold(truth, _sigmoid(logits / temperature), wanted))
    return TargetCalibration(
        kind=target.kind,
        classes=target.classes,
        temperature=temperature,
        threshold=threshold,
        rule=rule if binary else None,
        items=len(truth),
    )


def _sigmoid(values: Array) -> Array:
    # exp of a non-positive number only: no overflow at either end.
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1.0, small) / (1.0 + small)


def _softmax(values_BK: Array) -> Array:
    powers_BK = np.exp(values_BK - values_BK.max(axis=-1, keepdims=True))
    return powers_BK / powers_BK.sum(axis=-1, keepdims=True)
