"""A dataset of timelines in forms that other tools read."""

from medray.export.meds import MedsSummary, export_meds

__all__ = ["MedsSummary", "export_meds"]
