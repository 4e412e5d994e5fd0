"""Rows of the MOSES benchmark as published, to stand beside one's own.

Polykovskiy et al., Front. Pharmacol. 2020;11:565644, the table of the molecularsets/moses
repository: 30,000 molecules of each model, mean of three trainings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

_NAMES = ("valid", "unique@10000", "FCD", "SNN", "Frag", "Scaf", "IntDiv", "Filters", "Novelty")
# Pairs are distances to Test and to TestSF; SNN and Frag are to Test.
_MOSES: Mapping[str, Sequence[Any]] = {
    "Train": (1, 1, (0.008, 0.4755), 0.6419, 1.0, (0.9907, 0), 0.8567, 1, None),
    "CharRNN": (
        *(0.9748, 0.9994, (0.0732, 0.5204), 0.6015, 0.9998),
        *((0.9242, 0.1101), 0.8562, 0.9943, 0.8419),
    ),
    "AAE": (
        *(0.9368, 0.9973, (0.5555, 1.0572), 0.6081, 0.9910),
        *((0.9022, 0.0789), 0.8557, 0.9960, 0.7931),
    ),
    "VAE": (
        *(0.9767, 0.9984, (0.0990, 0.5670), 0.6257, 0.9994),
        *((0.9386, 0.0588), 0.8558, 0.9970, 0.6949),
    ),
    "JTN-VAE": (
        *(1.0, 0.9996, (0.3954, 0.9382), 0.5477, 0.9965),
        *((0.8964, 0.1009), 0.8551, 0.9760, 0.9143),
    ),
    "LatentGAN": (
        *(0.8966, 0.9968, (0.2968, 0.8281), 0.5371, 0.9986),
        *((0.8867, 0.1072), 0.8565, 0.9735, 0.9498),
    ),
}
_OF_REFERENCES = frozenset({"FCD", "SNN", "Frag", "Scaf"})


def published_rows(references: Sequence[str]) -> dict[str, dict[str, float]]:
    """Model → column → value, columns named as `Metrics.to_dict` names them.

    references  names of the sets that stand for Test and, if there is a second, TestSF.
    """
    return {model: _row(values, references) for model, values in _MOSES.items()}


def _row(values: Sequence[Any], references: Sequence[str]) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, value in zip(_NAMES, values, strict=True):
        each = value if isinstance(value, tuple) else (value,)
        names = [f"{name}/{one}" for one in references] if name in _OF_REFERENCES else [name]
        row |= {one: float(v) for one, v in zip(names, each, strict=False) if v is not None}
    return row
