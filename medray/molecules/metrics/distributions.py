"""How far two sets lie apart: Fréchet distance of activations, cosine of counts.

Shapes: N items, D dimensions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean (D,) and scatter (D, D) of `count` vectors: all that a Fréchet distance needs.

    scatter  sum of the outer products of deviations from the mean.
    """

    count: int
    mean: Floats
    scatter: Floats

    @classmethod
    def of(cls, vectors_ND: NDArray[Any]) -> Self:
        """Moments of vectors, added up in double precision."""
        vectors = np.asarray(vectors_ND, np.float64)
        if len(vectors) == 0:
            return cls.none(vectors.shape[1])
        mean = vectors.mean(axis=0)
        deviations = vectors - mean
        return cls(len(vectors), mean, deviations.T @ deviations)

    @classmethod
    def none(cls, dimensions: int) -> Self:
        """Moments of no vectors."""
        return cls(0, np.zeros(dimensions), np.zeros((dimensions, dimensions)))

    def __add__(self, other: "Moments") -> "Moments":
        """Moments of both sets together. Chan, Golub & LeVeque 1979."""
        count = self.count + other.count
        if count == 0:
            return self
        apart = other.mean - self.mean
        between = np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(
            count,
            self.mean + apart * (other.count / count),
            self.scatter + other.scatter + between,
        )

    def covariance(self) -> Floats:
        """Unbiased covariance (D, D); of at least two vectors."""
        return self.scatter / (self.count - 1)


def frechet_distance(one: Moments, other: Moments) -> float:
    """|μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½); NaN where a set has fewer than two vectors.

    It is biased upward by about c/n in finite sets: compare sets of one size. Dowson & Landau,
    J. Multivar. Anal. 1982; of ChemNet's activations: Preuer et al., J. Chem. Inf. Model. 2018.
    """
    if min(one.count, other.count) < 2:
        return float("nan")
    first, second = one.covariance(), other.covariance()
    # tr (AB)^½ of positive semi-definite A, B is that of (A^½ B A^½)^½, which is symmetric.
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    shared = np.linalg.eigvalsh(root @ second @ root)
    overlap = np.sqrt(np.maximum(shared, 0.0)).sum()
    apart = one.mean - other.mean
    return float(apart @ apart + np.trace(first) + np.trace(second) - 2.0 * overlap)


def cosine(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """Cosine similarity of two tables of counts, absent names counting 0; NaN where one is empty.

    Frag and Scaf of MOSES.
    """
    if not one or not other:
        return float("nan")
    dot = sum(count * other[name] for name, count in one.items() if name in other)
    return float(dot / (_norm(one.values()) * _norm(other.values())))


def _norm(counts: Iterable[int]) -> float:
    return float(np.sqrt(sum(count * count for count in counts)))
