"""From an archive to a dataset, and to the next state of it: only what is new or changed."""

from medray.ingest.pipeline import ingest
from medray.ingest.summary import IngestSummary

__all__ = ["IngestSummary", "ingest"]
