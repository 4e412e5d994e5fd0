"""Cross-validation by patient: every fold trained and judged on its own, side by side on Ray."""

from medray.crossval.run import CrossvalResult, crossval

__all__ = ["CrossvalResult", "crossval"]
