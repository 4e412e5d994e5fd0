"""The metrics as their authors wrote them, from the published wheel, mended for today's libraries.

Loaded for comparison alone: the project neither ships nor installs it.
"""

import importlib
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import moses

_UTILS = "moses/metrics/utils.py"
# File, what numpy, pandas and RDKit no longer have, what says the same today.
MENDED = (
    (_UTILS, "_mcf.append(_pains, sort=True)", "pd.concat([_mcf, _pains], sort=True)"),
    (_UTILS, "np.NaN", "np.nan"),
    (_UTILS, "from rdkit.Chem import Descriptors", "from rdkit.Chem import Crippen, Descriptors"),
    (
        "moses/metrics/SA_Score/sascorer.py",
        "from rdkit.six import iteritems",
        "iteritems = dict.items",
    ),
)


@contextmanager
def all_metrics() -> Iterator[Callable[..., dict[str, Any]]]:
    """`moses.metrics.get_all_metrics` of molsets 0.3.1.

    Raises ValueError when a mended line is not in the wheel.
    """
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(moses.wheel()) as archive:
            for name in archive.namelist():
                if name.startswith("moses/") and not name.startswith("moses/dataset/data/"):
                    archive.extract(name, folder)
        for name, old, new in MENDED:
            path = Path(folder) / name
            text = path.read_text(encoding="utf-8")
            if old not in text:
                raise ValueError(f"{name} of {moses.RELEASE} has no {old!r}")
            path.write_text(text.replace(old, new), encoding="utf-8")
        sys.path.insert(0, folder)
        try:
            yield importlib.import_module("moses.metrics").get_all_metrics
        finally:
            sys.path.remove(folder)
