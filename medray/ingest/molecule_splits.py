"""Which split every molecule stands in: by its sources, a column, its own draw or its scaffold.

No key: structures are nobody's secret, and the same draw on every machine makes results comparable.

Shapes: N molecules.
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from medray.dataset.columns import Array
from medray.ingest.molecule_rounds import draw
from medray.spec.models import SPLITS

NONE = -1  # in place of an index into SPLITS
_KEEP_ORDER = ("held_out", "tuning", "train")  # where a molecule stays that is put into several


def by_draw(draw_N: Array, fractions: Mapping[str, float]) -> Array:
    """Index into SPLITS (N,) int8, from draws in [0, 1)."""
    edges = np.cumsum([fractions.get(split, 0.0) for split in SPLITS])
    last = max(index for index, split in enumerate(SPLITS) if fractions.get(split, 0.0) > 0)
    return np.minimum(np.searchsorted(edges, draw_N, side="right"), last).astype(np.int8)


def by_scaffold(scaffolds: pa.ChunkedArray, fractions: Mapping[str, float], seed: int) -> Array:
    """Index into SPLITS (N,) int8: molecules of one scaffold stand in one split.

    Balanced, as in chemprop (`scaffold_split` with balanced=True; Yang et al., J. Chem. Inf. Model.
    2019, 59, 3370): scaffolds of more molecules than half of what tuning or held_out shall have
    come first, then all others, each in an order drawn by `seed`; each goes to train while that
    has room for it, else to tuning while that has, else to held_out. Molecules without rings are of
    one scaffold, as there.
    """
    coded = scaffolds.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    scaffold_N = coded.indices.to_numpy(zero_copy_only=False)
    names: list[str] = coded.dictionary.to_pylist()
    sizes = np.bincount(scaffold_N, minlength=len(names))
    wanted = {split: fractions.get(split, 0.0) * len(scaffold_N) for split in SPLITS}
    halves = [wanted[split] / 2 for split in SPLITS[1:] if wanted[split] > 0]
    large = sizes > min(halves, default=0.0)
    draws = np.array([draw(name, seed) for name in names])
    split_of = np.full(len(names), SPLITS.index("held_out"), np.int8)
    held = dict.fromkeys(SPLITS, 0)
    for place in np.lexsort((draws, ~large)):
        fits = (s for s in SPLITS[:2] if held[s] + sizes[place] <= wanted[s])
        split = next(fits, "held_out" if wanted["held_out"] else "train")
        held[split] += int(sizes[place])
        split_of[place] = SPLITS.index(split)
    return split_of[scaffold_N]


def declared(codes_R: Array, group_starts: Array) -> tuple[Array, Array]:
    """What sources and columns say of each molecule, from codes (R,) of its rows, NONE for nothing.

    Gives the index into SPLITS (N,) int8, and where a molecule is put into several (N,) bool: such
    a one gets the first of held_out, tuning, train.
    """
    bits_R = np.where(codes_R == NONE, 0, 1 << np.maximum(codes_R, 0).astype(np.int64))
    bits_N = np.bitwise_or.reduceat(bits_R, group_starts) if len(bits_R) else bits_R
    found_N = np.full(len(bits_N), NONE, np.int8)
    for split in reversed(_KEEP_ORDER):
        found_N[(bits_N >> SPLITS.index(split)) & 1 == 1] = SPLITS.index(split)
    return found_N, (bits_N & (bits_N - 1)) != 0


def tellers(codes_R: Array, split_N: Array, group_starts: Array) -> Array:
    """First row of every molecule (N,) that says the split it stands in; else its first row."""
    count = len(codes_R)
    group_R = np.repeat(np.arange(len(group_starts)), np.diff(group_starts, append=count))
    place_R = np.where(codes_R == split_N[group_R], np.arange(count), count)
    place_N = np.minimum.reduceat(place_R, group_starts)
    return np.where(place_N == count, group_starts, place_N)


def names_of(index_N: Array) -> pa.Array:
    """Names of splits; null for NONE."""
    names = pa.array(SPLITS, pa.string())
    return names.take(pa.array(index_N, pa.int8(), mask=index_N == NONE))
