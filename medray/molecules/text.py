"""SMILES as columns: fixed-width bytes in memory, numbers in a package's self-test.

Shapes: N molecules, L characters of the longest.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def as_bytes(smiles: Sequence[str]) -> Array:
    """Texts (N,) → (N,) of fixed-width bytes. SMILES are ASCII; anything else is refused before."""
    return np.array([one.encode("ascii") for one in smiles], dtype=np.bytes_)


def as_codes(smiles: Array) -> Array:
    """(N,) of bytes → their ASCII codes (N, L) uint8, 0 after the end."""
    width = max(1, smiles.dtype.itemsize)
    return np.frombuffer(smiles.astype(f"S{width}").tobytes(), np.uint8).reshape(-1, width).copy()


def strings(column: Array) -> list[str]:
    """A column of SMILES in any of its forms → texts: bytes (N,), codes (N, L) or objects (N,)."""
    if column.dtype.kind == "S":
        return [one.decode("ascii") for one in column.tolist()]
    if column.dtype == np.uint8:
        return [bytes(row).rstrip(b"\0").decode("ascii") for row in column]
    return [str(one) for one in column.tolist()]
