"""Where data lies that the project does not ship."""

import os
from pathlib import Path


def shared(path: str) -> Path:
    """A file or folder of the shared data. Raises FileNotFoundError saying what to set."""
    root = Path(os.environ.get("MEDRAY_SHARED", "../shared"))
    found = (root / path).resolve()
    if not found.exists():
        raise FileNotFoundError(
            f"this figure needs {path}; set MEDRAY_SHARED to the folder that holds it"
        )
    return found
