"""Ingest of records for `killing`: records_once.py ROOT."""

import sys
from functools import partial
from pathlib import Path

from medray.ingest import ingest_records
from medray.spec.models import RunSpec
from tests.cluster.killing import serve
from tests.timelines import records_spec

if __name__ == "__main__":
    serve(partial(ingest_records, RunSpec.model_validate(records_spec(Path(sys.argv[1])))))
