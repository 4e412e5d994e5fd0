"""A held-out item as a picture beside what the model went by: PNG bytes, by its input column.

Shapes: N items.
"""

import logging
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from medray.errors import RejectError
from medray.explain.heatmap import as_uint8, encode_png, heatmap_png
from medray.score.predictor import Predictor
from medray.workload import AtomCredits, Target

Array = NDArray[Any]

_log = logging.getLogger(__name__)


def _picture(predictor: Predictor, target: Target, columns: Mapping[str, Array], row: int) -> bytes:
    """PNG of one item with its heat map beside it; alone where none can be made."""
    pixels = columns["pixels"][row]
    try:
        return heatmap_png(pixels, predictor.heatmap(pixels, target.name)[1])
    except RejectError as reject:
        _log.warning("no heat map for an item: %s", reject.code)
        return encode_png(as_uint8(pixels))


def _structure(
    predictor: Predictor, target: Target, columns: Mapping[str, Array], row: int
) -> bytes:
    """PNG of one molecule, its atoms coloured by what they added to the answer."""
    from medray.molecules.drawing import png
    from medray.molecules.text import strings

    item = columns["smiles"][row : row + 1]
    _, credits = predictor.explain_columns({"smiles": item}, target.name)
    return png(strings(item)[0], credits.atoms[0] if isinstance(credits, AtomCredits) else None)


PICTURES = {"pixels": _picture, "smiles": _structure}
"""Input column → how a mistake on it is drawn; of other items the events are told."""
