"""Results on single numbers that are predicted of an item. Owns their shape; computes nothing."""

from typing import Literal

from medray.report.elements import Curve, Estimate, SubgroupTable
from medray.spec.base import Section


class ValueModel(Section):
    """One model on the same items; errors are in the unit of the source.

    note  why it could not be fitted, when it could not.
    gain  by how much the network's RMSE is smaller; null for the network.
    """

    name: str
    note: str = ""
    rmse: Estimate | None = None
    mae: Estimate | None = None
    r_squared: Estimate | None = None
    gain: Estimate | None = None


class ValueResult(Section):
    """Everything about one number.

    wanted    share of values that should lie in the interval given with each answer; coverage: that
              do. width: its mean, in the unit of the source. All null where there is no interval.
    seen      answer (x) and value (y) of a part of the items.
    """

    kind: Literal["value"] = "value"
    name: str
    undefined: str = ""
    items: int
    patients: int
    not_scored: int = 0
    wanted: float | None = None
    calibration_note: str = ""
    rmse: Estimate | None = None
    mae: Estimate | None = None
    r_squared: Estimate | None = None
    pearson: Estimate | None = None
    spearman: Estimate | None = None
    coverage: Estimate | None = None
    width: float | None = None
    seen: Curve = Curve()
    models: tuple[ValueModel, ...] = ()
    subgroups: tuple[SubgroupTable, ...] = ()
    replicates: int = 0
