"""Patients' records: recurrent networks over timelines."""

from medray.workloads.timeline.workload import Timeline

__all__ = ["Timeline"]
