"""Descriptors brought to like size: squashed, cut at what `train` showed, standardised.

Needs no RDKit. Shapes: N molecules, D descriptors, M of them with a mask.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from medray.spec.base import Section

Array = np.ndarray[Any, Any]

_TAIL = 0.005  # share of `train` beyond either cut


class DescriptorScale(Section):
    """What was learned of every descriptor, after a signed logarithm.

    low, high  cuts: what lies beyond says no more than that it does.
    missing    names of those that are not defined for some molecules of `train`.
    """

    names: tuple[str, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    missing: tuple[str, ...] = ()

    @classmethod
    def learn(cls, names: Sequence[str], values_ND: Array) -> "DescriptorScale":
        """Learn from `train`; descriptors that nobody has, or all have alike, are left out."""
        squashed_ND = _squashed(values_ND)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of descriptors that nobody has
            low_D, high_D = np.nanquantile(squashed_ND, [_TAIL, 1 - _TAIL], axis=0)
            cut_ND = np.clip(squashed_ND, low_D, high_D)
            mean_D, std_D = np.nanmean(cut_ND, axis=0), np.nanstd(cut_ND, axis=0)
        kept: list[int] = np.flatnonzero(np.isfinite(std_D) & (std_D > 1e-9)).tolist()
        gaps = set(np.flatnonzero(np.isnan(values_ND).any(axis=0)).tolist())
        return cls(
            names=tuple(names[place] for place in kept),
            low=tuple(low_D[kept].tolist()),
            high=tuple(high_D[kept].tolist()),
            mean=tuple(mean_D[kept].tolist()),
            std=tuple(std_D[kept].tolist()),
            missing=tuple(names[place] for place in kept if place in gaps),
        )

    @property
    def width(self) -> int:
        """Numbers that `apply` gives of a molecule."""
        return len(self.names) + len(self.missing)

    def apply(self, values_ND: Array) -> Array:
        """(N, D + M) float32: standardised, the mean where one is not defined; then 1 where so."""
        cut_ND = np.clip(_squashed(values_ND), np.array(self.low), np.array(self.high))
        standard_ND = (cut_ND - np.array(self.mean)) / np.array(self.std)
        absent_ND = np.isnan(values_ND)
        masked = [self.names.index(name) for name in self.missing]
        filled_ND = np.where(absent_ND, 0.0, standard_ND)
        return np.concatenate([filled_ND, absent_ND[:, masked]], axis=1).astype(np.float32)


def _squashed(values: Array) -> Array:
    return np.sign(values) * np.log1p(np.abs(values))
