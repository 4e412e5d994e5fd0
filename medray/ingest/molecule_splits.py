"""Which split every molecule stands in: by its sources, a column, its own draw or its scaffold.

No key: structures are nobody's secret, and the same draw on every machine makes results comparable.

Shapes: R rows, sorted by molecule; N molecules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medray.dataset.columns import Array
from medray.errors import DataError, LeakError
from medray.ingest.molecule_rounds import draw
from medray.ingest.scan import split_of_folder
from medray.spec.models import SPLITS, SplitSpec

compute: Any = pc
NONE = -1  # in place of an index into SPLITS
_KEEP_ORDER = ("held_out", "tuning", "train")  # where a molecule stays that is put into several


@dataclass(frozen=True, slots=True)
class Splits:
    """Indices into SPLITS, NONE for none.

    split_N           what counts.
    random_N          by the molecule's own draw; scaffold_N: by its scaffold.
    teller_N          the row that a molecule has its split from, else its first.
    put_into_several  molecules that sources or the column put into more than one.
    carved            share of train that became tuning, because the column names none.
    """

    split_N: Array
    random_N: Array
    scaffold_N: Array
    teller_N: Array
    put_into_several: int
    carved: float


def assign(rows: pa.Table, starts_N: Array, told_R: Array, spec: SplitSpec) -> Splits:
    """Give every molecule its splits.

    rows    with `draw` and `scaffold`; starts_N: where each molecule's rows begin.
    told_R  what sources and the column say of each row, NONE for nothing. A molecule of which they
            say nothing is drawn where there is no column; with one, it stands in none.
    Raises LeakError for molecules put into several splits, unless `identical_images` is `drop`.
    """
    first = rows.select(["draw", "scaffold"]).take(pa.array(starts_N))
    draw_N = first["draw"].to_numpy()
    fractions: dict[str, float] = {**spec.fractions}
    random_N = by_draw(draw_N, fractions)
    scaffold_N = by_scaffold(first["scaffold"], fractions, spec.seed)
    split_N, several_N = _told(told_R, starts_N)
    several, carved = int(several_N.sum()), 0.0
    if several and spec.identical_images == "fail":
        raise LeakError(
            f"{several} of {len(several_N)} molecules stand in more than one split",
            remedy="set split.identical_images: drop to leave each in the first of held_out, "
            "tuning and train alone, or correct the sources",
        )
    teller_N = _tellers(told_R, split_N, starts_N)
    if spec.column is None:
        drawn_N = scaffold_N if spec.by == "scaffold" else random_N
        split_N = np.where(split_N == NONE, drawn_N, split_N)
    elif not (told_R == code("tuning")).any():
        carved = spec.tuning_share
        split_N[(split_N == code("train")) & (draw_N < carved)] = code("tuning")
    return Splits(split_N, random_N, scaffold_N, teller_N, several, carved)


def in_words(
    spec: SplitSpec, names: Sequence[str], fixed: Sequence[str | None], carved: float
) -> str:
    """How it was done. `names` of the sources, `fixed`: the split that each says of itself."""
    by_source = [name for name, split in zip(names, fixed, strict=True) if split]
    said = [f"{', '.join(by_source)} by source"] if by_source else []
    if len(by_source) == len(names):
        return said[0]
    if spec.column is not None:
        said.append(f"by the column {spec.column}")
        said += [f"it names no tuning, so {carved:.0%} of train became it"] if carved else []
        return "; ".join(said)
    fractions: dict[str, float] = {**spec.fractions}
    shares = ", ".join(f"{name} {fractions.get(name, 0):g}" for name in SPLITS)
    what = "whole scaffolds" if spec.by == "scaffold" else "molecules"
    return "; ".join([*said, f"{what} drawn with seed {spec.seed} ({shares})"])


# ---------------------------------------------------------------- what is drawn


def by_draw(draw_N: Array, fractions: Mapping[str, float]) -> Array:
    """Splits (N,) int8 from draws in [0, 1): a molecule never moves when others come or go."""
    edges = np.cumsum([fractions.get(split, 0.0) for split in SPLITS])
    last = max(index for index, split in enumerate(SPLITS) if fractions.get(split, 0.0) > 0)
    return np.minimum(np.searchsorted(edges, draw_N, side="right"), last).astype(np.int8)


def by_scaffold(scaffolds: pa.ChunkedArray, fractions: Mapping[str, float], seed: int) -> Array:
    """Splits (N,) int8 in which molecules of one scaffold stand together.

    Balanced, as in chemprop (`scaffold_split` with balanced=True; Yang et al., J. Chem. Inf. Model.
    2019, 59, 3370): scaffolds of more molecules than half of what tuning or held_out shall have
    come first, then all others, each in an order drawn by `seed`; each goes to train while that
    has room for it, else to tuning while that has, else to held_out. Molecules without rings are of
    one scaffold, as there.
    """
    scaffold_N, names = _coded(scaffolds)
    sizes_S = np.bincount(scaffold_N, minlength=len(names))
    wanted = {split: fractions.get(split, 0.0) * len(scaffold_N) for split in SPLITS}
    halves = [wanted[split] / 2 for split in SPLITS[1:] if wanted[split] > 0]
    large_S = sizes_S > min(halves, default=0.0)
    draws_S = np.array([draw(name or "", seed) for name in names])
    rest = code("held_out" if wanted["held_out"] else "train")
    split_S = np.full(len(names), rest, np.int8)
    held = dict.fromkeys(SPLITS, 0)
    for place in np.lexsort((draws_S, ~large_S)):
        size = int(sizes_S[place])
        for split in SPLITS[:2]:
            if held[split] + size <= wanted[split]:
                held[split] += size
                split_S[place] = code(split)
                break
    return split_S[scaffold_N]


def _coded(column: pa.ChunkedArray) -> tuple[Array, list[str | None]]:
    """Texts (N,) as indices into the list of those that there are, -1 for null."""
    coded = compute.dictionary_encode(pa.concat_arrays(column.chunks))
    index_N = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return index_N, coded.dictionary.to_pylist()


# ---------------------------------------------------------------- what is said


def code(split: str | None) -> int:
    """Index into SPLITS; NONE for none."""
    return NONE if split is None else SPLITS.index(split)


def names_of(split_N: Array) -> pa.Array:
    """Names of splits; null for NONE."""
    return pa.array(SPLITS, pa.string()).take(pa.array(split_N, mask=split_N == NONE))


def told_by_column(column: pa.ChunkedArray, name: str) -> Array:
    """Splits (R,) int8 that a column names. Raises DataError for values that name none."""
    index_R, values = _coded(column)
    splits = [split_of_folder(value) for value in values if value is not None]
    if None in splits or not splits:
        raise DataError(
            f"the split column {name!r} holds {splits.count(None)} values that name no split"
            if splits
            else f"the split column {name!r} is empty for every molecule",
            remedy="it must hold train, tuning (or val, validation) and held_out (or test)",
        )
    codes = np.array([code(split) for split in splits], np.int8)
    return np.where(index_R < 0, np.int8(NONE), codes[index_R])


def _told(told_R: Array, starts_N: Array) -> tuple[Array, Array]:
    """Splits (N,) int8, of several the first of _KEEP_ORDER; and where there are several (N,)."""
    bits_R = np.where(told_R == NONE, 0, 1 << np.maximum(told_R, 0).astype(np.int64))
    bits_N = np.bitwise_or.reduceat(bits_R, starts_N)
    split_N = np.full(len(bits_N), NONE, np.int8)
    for split in reversed(_KEEP_ORDER):
        split_N[(bits_N >> code(split)) & 1 == 1] = code(split)
    return split_N, (bits_N & (bits_N - 1)) != 0


def _tellers(told_R: Array, split_N: Array, starts_N: Array) -> Array:
    """First row of every molecule (N,) that says the split it stands in; else its first row."""
    count = len(told_R)
    molecule_R = np.repeat(np.arange(len(starts_N)), np.diff(starts_N, append=count))
    place_R = np.where(told_R == split_N[molecule_R], np.arange(count), count)
    place_N = np.minimum.reduceat(place_R, starts_N)
    return np.where(place_N == count, starts_N, place_N)
