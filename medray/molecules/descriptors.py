"""Numbers that RDKit computes of a whole molecule: size, shape, charges, groups.

Left out are those that cost more than all others together or grow without bound with size.
Shapes: N molecules, D descriptors.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import Descriptors

Array = np.ndarray[Any, Any]
chem: Any = Chem
library: Any = Descriptors

_LEFT_OUT = ("qed", "SPS", "Ipc", "AvgIpc")
_FUNCTIONS: dict[str, Any] = {
    name: function for name, function in library._descList if name not in _LEFT_OUT
}
NAMES = tuple(_FUNCTIONS)
_PLACES = {name: place for place, name in enumerate(NAMES)}


def describe(smiles: Sequence[str], names: Sequence[str]) -> Array:
    """Descriptors of each molecule (N, D) float64; NaN where one is not defined.

    Raises KeyError for a name that this RDKit does not have.
    """
    wanted = [_PLACES[name] for name in names]
    if not wanted or not len(smiles):
        return np.zeros((len(smiles), len(wanted)))
    return np.stack([_described(one)[wanted] for one in smiles])


@lru_cache(maxsize=1 << 15)
def _described(smiles: str) -> Array:
    """All of one molecule; the same structures come again and again in a run."""
    mol = chem.MolFromSmiles(smiles)
    with rdBase.BlockLogs():
        values = np.array([_value(function, mol) for function in _FUNCTIONS.values()], np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _value(function: Any, mol: Any) -> float:
    try:
        return float(function(mol))
    except (ValueError, RuntimeError, ZeroDivisionError, ArithmeticError):
        return float("nan")  # e.g. partial charges of an element without parameters
