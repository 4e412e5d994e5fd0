"""Results on timelines: when something happens, and what a value will be.

Owns the shape of the document; computes nothing.
"""

from typing import Literal

from medray.report.elements import Curve, Estimate, ReliabilityBin, SubgroupTable
from medray.spec.base import Section


class SurvivalHorizon(Section):
    """What holds of the risk up to one horizon.

    events, at_risk  items with the outcome by then, and those followed past it without any.
    predicted        mean predicted risk; observed: incidence, by Aalen and Johansen.
    brier_null       Brier score when everybody is given the incidence of `train`.
    bins             groups of like predicted risk; difference: the mean of |observed − predicted|.
    """

    horizon_days: float
    events: int
    at_risk: int
    predicted: float | None
    observed: Estimate
    uno: Estimate
    auc: Estimate
    brier: float | None
    brier_null: float | None
    difference: float | None
    bins: tuple[ReliabilityBin, ...]


class SurvivalModel(Section):
    """One model on the same items; lists are by horizon.

    note  why it could not be fitted, when it could not.
    gain  Uno's C of the network at the last horizon less its own; null for the network.
    """

    name: str
    note: str = ""
    harrell: float | None = None
    antolini: float | None = None
    integrated_brier: float | None = None
    uno: tuple[float | None, ...] = ()
    brier: tuple[float | None, ...] = ()
    gain: Estimate | None = None


class RiskThird(Section):
    """Items of like predicted risk, and what happened to them. `at_risk` is at `ticks_days`."""

    name: str
    items: int
    events: int
    incidence: Curve
    low: Curve
    high: Curve
    ticks_days: tuple[float, ...]
    at_risk: tuple[int, ...]


class SurvivalResult(Section):
    """Everything about one outcome that comes at some time, or not before follow-up ends.

    competing   items that another outcome came first to; censored: lost before any.
    follow_up_days  median, by the reversed Kaplan-Meier estimate.
    integrated_brier  mean Brier score from 0 to the last horizon; null: of `train`'s incidence.
    replicates  of the bootstrap, fewer where the items are many.
    """

    kind: Literal["survival"] = "survival"
    name: str
    undefined: str = ""
    items: int
    patients: int
    events: int
    competing: int
    censored: int
    not_scored: int = 0
    follow_up_days: float | None = None
    harrell: Estimate | None = None
    antolini: float | None = None
    mean_auc: float | None = None
    integrated_brier: float | None = None
    integrated_brier_null: float | None = None
    horizons: tuple[SurvivalHorizon, ...] = ()
    thirds: tuple[RiskThird, ...] = ()
    logrank_p: float | None = None
    models: tuple[SurvivalModel, ...] = ()
    subgroups: tuple[SubgroupTable, ...] = ()
    replicates: int = 0


class ForecastHorizon(Section):
    """What holds of the values at one horizon; errors and widths are in the code's unit.

    coverage  share of values within the outer quantiles; width: their mean distance.
    """

    horizon_days: float
    values: int
    error: Estimate
    pinball: float | None
    coverage: Estimate
    width: float | None
    seen: Curve


class ForecastModel(Section):
    """One model on the same values; lists are by horizon.

    note  why it could not be fitted, when it could not.
    gain  by how much the network's mean absolute error is smaller; null for the network.
    """

    name: str
    note: str = ""
    error: tuple[float | None, ...] = ()
    pinball: tuple[float | None, ...] = ()
    coverage: tuple[float | None, ...] = ()
    gain: tuple[Estimate, ...] = ()


class ForecastResult(Section):
    """Everything about the course of one measured value.

    levels  quantiles; wanted: the share of values that should lie within the outer ones.
    """

    kind: Literal["quantiles"] = "quantiles"
    name: str
    undefined: str = ""
    items: int
    patients: int
    not_scored: int = 0
    levels: tuple[float, ...]
    wanted: float
    calibration_note: str = ""
    horizons: tuple[ForecastHorizon, ...] = ()
    models: tuple[ForecastModel, ...] = ()
    subgroups: tuple[SubgroupTable, ...] = ()
    replicates: int = 0
