"""Tanimoto similarities of many molecules to many, in blocks: memory stays small at any size.

Fingerprints are bits packed into bytes, (N, F) uint8. Knows nothing of molecules. Two molecules
without any bit are as similar as can be: 1 (as in MOSES).

Shapes: G generated, R reference, F bytes and 8·F bits of a fingerprint.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Packed = NDArray[np.uint8]
Floats = NDArray[np.float64]
_BLOCK = 2048  # a product of two blocks is 16 MiB


def nearest(generated_GF: Packed, reference_RF: Packed) -> Floats:
    """Tanimoto similarity of each molecule to the most similar reference (G,); NaN without any.

    Among references with as many bits the most similar shares the most: only that count is turned
    into a similarity.
    """
    counts_R = _counts(reference_RF)
    order = np.argsort(counts_R, kind="stable")
    best_G = np.full(len(generated_GF), np.nan)
    for rows in _blocks(len(order)):
        at = order[rows]
        bits_R, bits = _bits(reference_RF[at]), counts_R[at]
        starts = np.flatnonzero(np.diff(bits, prepend=-1))
        for columns in _blocks(len(generated_GF)):
            block_GF = generated_GF[columns]
            shared_RG = bits_R @ _bits(block_GF).T
            own_G = _counts(block_GF)
            for start, stop in zip(starts, [*starts[1:], len(bits)], strict=True):
                most_G = shared_RG[start:stop].max(axis=0).astype(np.float64)
                found_G = _tanimoto(most_G, own_G + float(bits[start]))
                best_G[columns] = np.fmax(best_G[columns], found_G)
    return best_G


def internal_diversity(generated_GF: Packed) -> tuple[float, float]:
    """1 − mean similarity within a set, and 1 − mean of root mean squares; NaN of no molecules.

    IntDiv and IntDiv2 of MOSES: for each molecule (mean of sᵖ over all, itself included)^(1/p),
    then the mean over molecules, p = 1 and 2.
    """
    size = len(generated_GF)
    if size == 0:
        return float("nan"), float("nan")
    sums_2G = np.zeros((2, size))
    blocks = list(_blocks(size))
    for i, rows in enumerate(blocks):
        left, counts = _bits(generated_GF[rows]), _counts(generated_GF[rows]).astype(np.float32)
        for columns in blocks[i:]:  # similarity is symmetric: half of the blocks say all
            block = generated_GF[columns]
            both = counts[:, None] + _counts(block).astype(np.float32)
            for power, similar in enumerate(_powers(left @ _bits(block).T, both)):
                sums_2G[power, rows] += similar.sum(axis=1, dtype=np.float64)
                if rows != columns:
                    sums_2G[power, columns] += similar.sum(axis=0, dtype=np.float64)
    means_2G = sums_2G / size
    return float(1.0 - means_2G[0].mean()), float(1.0 - np.sqrt(means_2G[1]).mean())


def _powers(shared: NDArray[Any], both: NDArray[Any]) -> Iterator[NDArray[Any]]:
    similar = _tanimoto(shared, both)
    yield similar
    yield np.square(similar, out=similar)


def _tanimoto(shared: NDArray[Any], both: NDArray[Any]) -> NDArray[Any]:
    """Shared bits over bits of either; `both` is the sum of the two counts."""
    either = both - shared
    return np.divide(shared, either, out=np.ones_like(either), where=either > 0)


def _blocks(size: int) -> Iterator[slice]:
    return (slice(at, min(at + _BLOCK, size)) for at in range(0, size, _BLOCK))


def _bits(packed: Packed) -> NDArray[np.float32]:
    """Bits as numbers: a matrix product counts shared ones, exactly below 2**24."""
    return np.unpackbits(packed, axis=1).astype(np.float32)


def _counts(packed: Packed) -> NDArray[np.int64]:
    return np.bitwise_count(packed).sum(axis=1, dtype=np.int64)
