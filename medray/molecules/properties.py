"""Properties of one molecule that generated sets are compared by. Needs RDKit."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from rdkit import RDConfig
from rdkit.Chem import Crippen, Descriptors, Mol
from rdkit.Chem.QED import qed

from medray.errors import UsageError

crippen: Any = Crippen  # RDKit makes some of these names at run time, where its stubs lack them
descriptors: Any = Descriptors


def log_p(molecule: Mol) -> float:
    """Octanol-water partition coefficient. Wildman & Crippen, J. Chem. Inf. Comput. Sci. 1999."""
    return float(crippen.MolLogP(molecule))


def synthetic_accessibility(molecule: Mol) -> float:
    """From 1, easy to make, to 10. Ertl & Schuffenhauer, J. Cheminform. 2009;1:8.

    Raises UsageError when RDKit came without its contributed code.
    """
    return float(_sascorer().calculateScore(molecule))


def drug_likeness(molecule: Mol) -> float:
    """QED, from 0 to 1. Bickerton et al., Nat. Chem. 2012;4:90."""
    return float(qed(molecule))


def weight(molecule: Mol) -> float:
    """Average molecular weight, g/mol."""
    return float(descriptors.MolWt(molecule))


PROPERTIES: Mapping[str, Callable[[Mol], float]] = {
    "logP": log_p,
    "SA": synthetic_accessibility,
    "QED": drug_likeness,
    "weight": weight,
}
"""Name → what computes it; the names are those of the MOSES table."""


@lru_cache(maxsize=1)
def _sascorer() -> Any:
    """RDKit's contributed module, which lies in no package that could be imported by name."""
    path = Path(str(RDConfig.RDContribDir)) / "SA_Score" / "sascorer.py"
    spec = spec_from_file_location("medray_sascorer", path) if path.exists() else None
    if spec is None or spec.loader is None:
        raise UsageError(
            "RDKit's Contrib/SA_Score is not installed", remedy="pip install 'medray[molecules]'"
        )
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
