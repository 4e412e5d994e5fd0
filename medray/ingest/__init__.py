"""From an archive or tables to a dataset, and to its next state: only what is new or changed."""

from medray.ingest.molecules import ingest_molecules
from medray.ingest.molecules_summary import MoleculesSummary
from medray.ingest.pipeline import ingest
from medray.ingest.records import ingest_records
from medray.ingest.records_summary import RecordsSummary
from medray.ingest.summary import IngestSummary

__all__ = [
    "IngestSummary",
    "MoleculesSummary",
    "RecordsSummary",
    "ingest",
    "ingest_molecules",
    "ingest_records",
]
