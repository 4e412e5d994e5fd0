"""Whether the libraries of an extra, as `medray[serve]`, are there, said in words that help."""

from importlib.util import find_spec
from typing import Literal

from medray.errors import UsageError

_EXTRAS = {
    "molecules": ("molecules need", ("rdkit", "selfies", "fcd_torch")),
    "serve": ("a service needs", ("jwt", "python_multipart", "nibabel", "highdicom")),
}


def require(extra: Literal["molecules", "serve"]) -> None:
    """Raise UsageError that names the extra when a library of it is absent."""
    what, needed = _EXTRAS[extra]
    absent = [name for name in needed if find_spec(name) is None]
    if absent:
        raise UsageError(f"{what} {', '.join(absent)}", remedy=f"pip install 'medray[{extra}]'")
