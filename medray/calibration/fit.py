"""Learning on `tuning` how logits are read. Shapes: B items, H horizons, Q quantiles.

Temperature scaling: Guo et al., ICML 2017. Intervals: Romano et al., NeurIPS 2019 (conformalized
quantile regression); of single values by absolute residuals (Lei et al., JASA 2018, split conformal
prediction).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from medray.calibration.model import (
    Calibration,
    Kind,
    Rule,
    TargetCalibration,
    sigmoid,
)
from medray.errors import DataError
from medray.records.scale import Scale

Array = np.ndarray[Any, Any]

_ONE_CLASS = "only one class on `tuning`: not calibrated"
_NO_TRUTH = "no label on `tuning`: not calibrated"
_HAZARDS = "hazards are probabilities as they were learned: not calibrated"
_FEW = "fewer than {} values on `tuning` at some horizon: not calibrated there"
_FEW_VALUES = "fewer than {} values on `tuning`: no interval"
_NOTHING = "no items on `tuning`: nothing is inside the domain by less than a perfect match"
_LEAST_VALUES = 20
_OUTSIDE = 0.05  # share of `tuning` that is called outside the domain


class Target(Protocol):
    """What of medray.workload.Target is needed here."""

    @property
    def name(self) -> str:
        """Key of its logits and truth."""
        ...

    @property
    def kind(self) -> Kind:
        """Shape of its logits."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes, or competing causes."""
        ...

    @property
    def edges_days(self) -> tuple[float, ...]:
        """Intervals of hazards."""
        ...

    @property
    def horizons_days(self) -> tuple[float, ...]:
        """Where risks or values are told."""
        ...

    @property
    def levels(self) -> tuple[float, ...]:
        """Which quantiles."""
        ...

    @property
    def scale(self) -> Scale:
        """Of values."""
        ...


def fit_calibration(
    targets: Sequence[Target], logits: Mapping[str, Array], truth: Mapping[str, Array], rule: Rule
) -> Calibration:
    """What every target needs, learned on the `tuning` split; shapes as medray.workload.Target.

    Items without truth are left out. A target with fewer than two classes keeps temperature 1 and
    threshold 0.5, and a note says so; hazards are probabilities as they are. Raises DataError when
    a target's logits or truth are absent or differ in length.
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
        fitted[target.name] = _FIT[target.kind](target, scores, observed, rule)
    return Calibration(targets=fitted)


def _classes(target: Target, logits: Array, truth: Array, rule: Rule) -> TargetCalibration:
    # Imported here: fitting needs scipy, and reading a calibration must not wait for it.
    from medray.metrics.calibration import fit_temperature, fit_temperature_multiclass
    from medray.metrics.operating import choose_threshold

    known = np.isfinite(truth) & (truth >= 0)
    known &= np.isfinite(logits.reshape(len(logits), -1)).all(axis=1)
    logits, truth = logits[known], truth[known].astype(int)
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
        threshold = float(choose_threshold(truth, sigmoid(logits / temperature), wanted))
    return TargetCalibration(
        kind=target.kind,
        classes=target.classes,
        temperature=temperature,
        threshold=threshold,
        rule=rule if binary else None,
        items=len(truth),
    )


def _survival(target: Target, logits: Array, truth: Array, rule: Rule) -> TargetCalibration:
    return TargetCalibration(
        kind=target.kind,
        classes=target.classes,
        edges_days=target.edges_days,
        horizons_days=target.horizons_days,
        items=int(np.isfinite(truth).all(axis=1).sum()),
        note=_HAZARDS,
    )


def _quantiles(target: Target, logits_BHQ: Array, truth_BH: Array, rule: Rule) -> TargetCalibration:
    """Move the outer quantiles so that the wanted share of `tuning` lies between them."""
    widths = [
        _width(logits_BHQ[:, index], truth_BH[:, index], target.levels, target.scale)
        for index in range(truth_BH.shape[1])
    ]
    return TargetCalibration(
        kind=target.kind,
        horizons_days=target.horizons_days,
        levels=target.levels,
        scale=target.scale,
        widths=tuple(0.0 if width is None else width for width in widths),
        items=int(np.isfinite(truth_BH).any(axis=1).sum()),
        note=_FEW.format(_LEAST_VALUES) if None in widths else "",
    )


def _width(
    logits_BQ: Array, truth_B: Array, levels: tuple[float, ...], scale: Scale
) -> float | None:
    known = np.isfinite(truth_B) & np.isfinite(logits_BQ).all(axis=1)
    if known.sum() < _LEAST_VALUES:
        return None
    value_N = scale.standard(truth_B[known])
    outside_N = np.maximum(logits_BQ[known, 0] - value_N, value_N - logits_BQ[known, -1])
    share = (levels[-1] - levels[0]) * (1 + 1 / len(value_N))
    return float(np.quantile(outside_N, min(share, 1.0), method="higher"))


def _value(target: Target, logits: Array, truth: Array, rule: Rule) -> TargetCalibration:
    """As far to either side as that share of residuals on `tuning`, counting the next one, lies."""
    known = np.isfinite(truth) & np.isfinite(logits)
    away_N = np.abs(logits[known] - target.scale.standard(truth[known]))
    enough = len(away_N) >= _LEAST_VALUES
    widths: tuple[float, ...] = ()
    if enough:
        share = (target.levels[-1] - target.levels[0]) * (1 + 1 / len(away_N))
        widths = (float(np.quantile(away_N, min(share, 1.0), method="inverted_cdf")),)
    return TargetCalibration(
        kind=target.kind,
        levels=target.levels,
        scale=target.scale,
        widths=widths,
        items=len(away_N),
        note="" if enough else _FEW_VALUES.format(_LEAST_VALUES),
    )


def _domain(target: Target, logits: Array, truth: Array, rule: Rule) -> TargetCalibration:
    """Less like what was learned from than all but a few items of `tuning`: outside."""
    near = logits[np.isfinite(logits)]
    return TargetCalibration(
        kind=target.kind,
        threshold=float(np.quantile(near, _OUTSIDE)) if len(near) else 1.0,
        items=len(near),
        note="" if len(near) else _NOTHING,
    )


_FIT = {
    "binary": _classes,
    "multiclass": _classes,
    "survival": _survival,
    "quantiles": _quantiles,
    "value": _value,
    "domain": _domain,
}
