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


def describe(smiles: Sequence[str], names: Sequence[str]) -> Array:
    """Descriptors of each molecule (N, D) float64; NaN where one is not defined.

    Raises KeyError for a name that this RDKit does not have.
    """
    wanted = tuple(names)
    made = [_described(one, wanted) for one in smiles]
    return np.stack(made) if made else np.zeros((0, len(wanted)))


@lru_cache(maxsize=1 << 15)
def _described(smiles: str, names: tuple[str, ...]) -> Array:
    mol = chem.MolFromSmiles(smiles)
    with rdBase.BlockLogs():
        values = np.array([_value(_FUNCTIONS[name], mol) for name in names], np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _value(function: Any, mol: Any) -> float:
    try:
        return float(function(mol))
    except (ValueError, RuntimeError, ZeroDivisionError, ArithmeticError):
        return float("nan")  # e.g. partial charges of an element without parameters
