"""The most similar of many molecules to each of a few: exact Tanimoto, without a matrix product.

A fingerprint of a small molecule has some 45 of 1,024 bits. Bits shared with every reference are
therefore the sum of few columns of the references' bits, which costs a twentieth of the product of
both matrices. Knows fingerprints alone: packed bits, (N, F) uint8.

Shapes: G molecules asked about, R references, F bytes of a fingerprint, K references of a block.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Packed = NDArray[np.uint8]
_BLOCK = 4096  # references unpacked at once: 4 MiB of bits, which the processor's cache holds


def neighbours(
    asked_GF: Packed, references_RF: Packed
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Similarity (G,) to the most similar reference and its row (G,); of equals the first row.

    NaN and -1 without references. Two molecules without any bit are as similar as can be: 1.
    """
    best_G = np.full(len(asked_GF), np.nan)
    row_G = np.full(len(asked_GF), -1, np.int64)
    on_G = [np.flatnonzero(np.unpackbits(one)) for one in asked_GF]
    for start, bits_BK, count_K in _blocks(references_RF):
        low, high = int(count_K.min()), int(count_K.max())
        for at, on in enumerate(on_G):
            if _most(len(on), low, high) < best_G[at]:  # false of NaN: nothing is known yet
                continue
            shared_K = bits_BK[on].sum(axis=0, dtype=np.uint16)
            either_K = len(on) + count_K - shared_K
            similar_K = np.divide(shared_K, either_K, out=np.ones(len(count_K)), where=either_K > 0)
            nearest = int(similar_K.argmax())
            found, row = float(similar_K[nearest]), start + nearest
            if not found <= best_G[at]:
                best_G[at], row_G[at] = found, row
    return best_G, row_G


def by_bits(fingerprints_NF: Packed) -> NDArray[np.int64]:
    """Order (N,) of fingerprints by how many bits they have: whole blocks are then ruled out."""
    return np.argsort(_counts(fingerprints_NF), kind="stable")


def _blocks(
    references_RF: Packed,
) -> Iterator[tuple[int, Packed, NDArray[np.int64]]]:
    """First row, bits by column (8·F, K) and their counts (K,) of some references at a time."""
    for start in range(0, len(references_RF), _BLOCK):
        block_KF = references_RF[start : start + _BLOCK]
        bits_BK = np.ascontiguousarray(np.unpackbits(block_KF, axis=1).T)
        yield start, bits_BK, _counts(block_KF)


def _most(own: int, low: int, high: int) -> float:
    """The highest similarity that `own` bits can have with anything of low to high bits."""
    if low <= own <= high:
        return 1.0
    return high / own if own > high else own / low


def _counts(packed: Packed) -> NDArray[Any]:
    return np.bitwise_count(packed).sum(axis=1, dtype=np.int64)
