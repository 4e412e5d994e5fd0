"""Whether the libraries of `medray[molecules]` are there, said in words that help."""

from importlib.util import find_spec

from medray.errors import UsageError

_NEEDED = ("rdkit", "selfies", "fcd_torch")


def require() -> None:
    """Raise UsageError that names the extra when a library of it is absent."""
    absent = [name for name in _NEEDED if find_spec(name) is None]
    if absent:
        raise UsageError(
            f"molecules need {', '.join(absent)}", remedy="pip install 'medray[molecules]'"
        )
