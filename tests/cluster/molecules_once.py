"""Ingest of molecules for `killing`: molecules_once.py ROOT."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

from medray.ingest import ingest_molecules
from medray.molecules import standard  # noqa: F401 - before the forks
from medray.spec.models import RunSpec
from tests.cluster.killing import serve


def spec(root: Path) -> dict[str, Any]:
    """Two sources below `root`, in chunks of 20 rows."""
    lines = {"path": str(root / "lines"), "split": "held_out"}
    table = {"path": str(root / "table.csv")}
    molecules = {"sources": [lines, table], "rows_per_task": 20}
    return {"name": "m", "output": str(root / "out"), "molecules": molecules}


if __name__ == "__main__":
    serve(partial(ingest_molecules, RunSpec.model_validate(spec(Path(sys.argv[1])))))
