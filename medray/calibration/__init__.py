"""From logits to probabilities, decisions and values: what was learned on `tuning`.

model  what a package keeps, and how it is applied
fit    how it is learned
"""

from medray.calibration.fit import fit_calibration
from medray.calibration.model import Answer, Calibration, Kind, Rule, TargetCalibration, within_days

__all__ = [
    "Answer",
    "Calibration",
    "Kind",
    "Rule",
    "TargetCalibration",
    "fit_calibration",
    "within_days",
]
