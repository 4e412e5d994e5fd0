"""Pieces that results of every kind are made of: numbers with intervals, curves, groups.

An undefined number is null here, never NaN or 0.
"""

import math
from collections.abc import Sequence

from pydantic import Field

from medray.metrics import Interval
from medray.spec.base import Section


class Estimate(Section):
    """A number with its confidence interval; all three null where it is undefined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    method: str = ""

    @classmethod
    def of(cls, interval: Interval) -> "Estimate":
        """Take over an interval, with NaN as null."""
        return cls(
            value=number(interval.value),
            low=number(interval.low),
            high=number(interval.high),
            level=interval.level,
            method=interval.method,
        )


def number(value: float) -> float | None:
    """`value` as JSON can hold it: null for NaN and infinities."""
    return float(value) if math.isfinite(value) else None


class Curve(Section):
    """Points of a curve, thinned for drawing; x and y have the same length."""

    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()


class ReliabilityBin(Section):
    """One filled bin: items, mean predicted probability, observed share with Wilson bounds."""

    items: int
    predicted: float
    observed: float
    low: float
    high: float


class Reliability(Section):
    """How honest probabilities are: ECE and Brier score (0 is best), slope (1 is best)."""

    ece: float | None
    brier: float | None
    slope: float | None
    in_the_large: float | None
    bins: tuple[ReliabilityBin, ...]


class Subgroup(Section):
    """One group of patients. A suppressed group has its name and nothing else."""

    group: str
    suppressed: bool = False
    patients: int | None = None
    items: int | None = None
    positives: int | None = None
    mean_predicted: float | None = None
    measures: dict[str, Estimate] = Field(default={})


class SubgroupTable(Section):
    """The groups of one column. `rounded`: counts are to the nearest 5 (see `note`)."""

    attribute: str
    rounded: bool = False
    note: str = ""
    rows: tuple[Subgroup, ...] = ()


def thinned(x: Sequence[float], y: Sequence[float], most: int = 400) -> Curve:
    """Curve (N,) with corners only and at most about `most` points; both ends are kept."""
    pairs = [(float(a), float(b)) for a, b in zip(x, y, strict=True)]
    corners = [
        pair
        for i, pair in enumerate(pairs)
        if i in (0, len(pairs) - 1) or not _straight(pairs[i - 1], pair, pairs[i + 1])
    ]
    if len(corners) > most:
        step = (len(corners) - 1) / (most - 1)
        corners = [corners[round(i * step)] for i in range(most)]
    return Curve(x=tuple(a for a, _ in corners), y=tuple(b for _, b in corners))


def _straight(
    before: tuple[float, float], at: tuple[float, float], after: tuple[float, float]
) -> bool:
    """Whether `at` lies on a horizontal or vertical run between its neighbours."""
    return before[0] == at[0] == after[0] or before[1] == at[1] == after[1]
