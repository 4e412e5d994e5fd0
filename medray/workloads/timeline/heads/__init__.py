"""What differs between the questions asked of a timeline: one head each, in a dict.

binary     whether an outcome happens                    → a logit
hazard     when one of several outcomes happens          → hazards of intervals of time
quantiles  what a measured value will be at horizons     → quantiles of each
"""

from collections.abc import Mapping

from medray.workloads.timeline.heads.binary import BINARY
from medray.workloads.timeline.heads.hazard import HAZARD
from medray.workloads.timeline.heads.head import Head
from medray.workloads.timeline.heads.quantiles import QUANTILES
from medray.workloads.timeline.params import TaskName

HEADS: Mapping[TaskName, Head] = {
    "event_within": BINARY,
    "time_to_event": HAZARD,
    "recurrence": HAZARD,
    "forecast": QUANTILES,
}

__all__ = ["HEADS", "Head"]
