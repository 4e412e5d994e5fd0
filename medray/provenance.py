"""What made this: versions and platform for every artefact, and one way to hash a value.

Holds nothing that names a machine or a person.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import medray

_LIBRARIES = (
    "ray",
    "torch",
    "monai",
    "numpy",
    "pyarrow",
    "deltalake",
    "pydicom",
    "imagecodecs",
    "pillow",
    "scikit-learn",
    "rdkit",
)


def provenance() -> dict[str, Any]:
    """Collect versions of medray, Python and libraries, git commit (or None), platform, CPUs."""
    return {
        "medray": medray.__version__,
        "commit": _commit(Path(medray.__file__).parent),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
    }


def canonical_sha256(value: Any) -> str:
    """SHA-256 (hex) of a value's JSON with sorted keys: equal values, equal hashes.

    Pydantic models are dumped in JSON mode first, tuples count as lists. Raises TypeError for
    what JSON cannot say and ValueError for NaN.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_as_json
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _as_json(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(f"{type(value).__name__} has no canonical form")
    return dump(mode="json")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit(package: Path) -> str | None:
    """Name the commit of the checkout the package lies in, "-dirty" when it was changed since."""
    git = shutil.which("git")
    if git is None or not (package.parent / ".git").exists():
        return None
    answer = subprocess.run(  # noqa: S603 - fixed arguments
        [git, "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return answer.stdout.strip() or None
