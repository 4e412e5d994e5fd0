"""Splits of molecules: drawn, by scaffold as chemprop draws them, by sources and columns."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medray.errors import DataError, LeakError
from medray.ingest import molecule_splits as splits
from medray.ingest.molecule_rounds import draw
from medray.spec.models import SPLITS, SplitSpec

Fractions = dict[str, float]
THREE = st.sampled_from(
    [
        {"train": 0.8, "tuning": 0.1, "held_out": 0.1},
        {"train": 0.5, "tuning": 0.2, "held_out": 0.3},
        {"train": 0.9, "held_out": 0.1},
        {"train": 0.99, "tuning": 0.01},
    ]
)
SCAFFOLDS = st.lists(st.sampled_from([f"ring {n}" for n in range(30)] + ["", "common"]), min_size=1)


def chemprop(sets: list[list[int]], count: int, fractions: Fractions) -> tuple[list[int], ...]:
    """`scaffold_split` of chemprop 1 with balanced=True, given scaffolds in the shuffled order."""
    train_size, val_size, test_size = (fractions.get(s, 0) * count for s in SPLITS)
    big = [one for one in sets if len(one) > val_size / 2 or len(one) > test_size / 2]
    small = [one for one in sets if not (len(one) > val_size / 2 or len(one) > test_size / 2)]
    train: list[int] = []
    val: list[int] = []
    test: list[int] = []
    for one in big + small:
        if len(train) + len(one) <= train_size:
            train += one
        elif len(val) + len(one) <= val_size:
            val += one
        else:
            test += one
    return train, val, test


@given(SCAFFOLDS, st.integers(0, 5))
def test_scaffolds_as_chemprop_splits_them(scaffolds: list[str], seed: int) -> None:
    fractions = {"train": 0.6, "tuning": 0.2, "held_out": 0.2}
    found = splits.by_scaffold(pa.chunked_array([scaffolds]), fractions, seed)
    names = sorted(set(scaffolds), key=lambda name: draw(name, seed))
    sets = [[i for i, one in enumerate(scaffolds) if one == name] for name in names]
    for index, members in enumerate(chemprop(sets, len(scaffolds), fractions)):
        assert np.flatnonzero(found == index).tolist() == sorted(members)


@given(SCAFFOLDS, THREE, st.integers(0, 5))
def test_a_scaffold_stands_in_one_split(
    scaffolds: list[str], fractions: Fractions, seed: int
) -> None:
    found = splits.by_scaffold(pa.chunked_array([scaffolds]), fractions, seed)
    pairs = set(zip(scaffolds, found.tolist(), strict=True))
    assert len(pairs) == len(set(scaffolds))
    assert {SPLITS[index] for _, index in pairs} <= {s for s in SPLITS if fractions.get(s)}


def test_large_scaffolds_are_learned_from_and_the_seed_draws_the_rest() -> None:
    scaffolds = pa.chunked_array([["common"] * 70 + [f"rare {n}" for n in range(100)]])
    fractions = {"train": 0.8, "tuning": 0.1, "held_out": 0.1}
    a, b = (splits.by_scaffold(scaffolds, fractions, seed) for seed in (0, 1))
    assert set(a[:70].tolist()) == set(b[:70].tolist()) == {0}
    assert a.tolist() != b.tolist()
    assert np.bincount(a).tolist() == np.bincount(b).tolist() == [136, 17, 17]


@given(THREE)
def test_draws(fractions: Fractions) -> None:
    draws = np.array([draw(f"molecule {n}", 0) for n in range(4000)])
    assert ((draws >= 0) & (draws < 1)).all()
    found = splits.by_draw(draws, fractions)
    for index, split in enumerate(SPLITS):
        assert abs((found == index).mean() - fractions.get(split, 0)) < 0.03
        assert fractions.get(split) or not (found == index).any()
    assert splits.by_draw(np.array([np.nextafter(1, 0)]), fractions)[0] == max(
        SPLITS.index(split) for split in fractions
    )


def test_the_draw_is_the_same_everywhere() -> None:
    # printf '7\\0abc' | sha256sum
    assert draw("abc", 7) == (0x746AF616BFCD576A >> 11) / 2**53


def rows(*ids: str) -> tuple[pa.Table, np.ndarray]:
    table = pa.table({"draw": [draw(i, 0) for i in ids], "scaffold": list(ids)})
    starts = [n for n, one in enumerate(ids) if n == 0 or ids[n - 1] != one]
    return table, np.array(starts)


def test_what_sources_say_counts_and_the_others_are_drawn() -> None:
    table, starts = rows("a", "a", "b", "b", "c", "d")
    told = np.array([-1, 2, 0, 0, -1, 1], np.int8)
    given_ = splits.assign(table, starts, told, SplitSpec(fractions={"train": 1}))
    assert [None if i < 0 else SPLITS[i] for i in given_.split_N] == [
        "held_out",
        "train",
        "train",
        "tuning",
    ]
    assert given_.teller_N.tolist() == [1, 2, 4, 5]  # of `a`: the row that says held_out
    assert given_.put_into_several == 0
    with_column = splits.assign(table, starts, told, SplitSpec(column="part"))
    assert with_column.split_N.tolist() == [2, 0, -1, 1]
    assert splits.names_of(with_column.split_N).to_pylist() == ["held_out", "train", None, "tuning"]


def test_a_molecule_in_two_splits() -> None:
    table, starts = rows("a", "a", "b", "b", "c")
    told = np.array([0, 2, 0, 1, 1], np.int8)
    with pytest.raises(LeakError, match="2 of 3 molecules"):
        splits.assign(table, starts, told, SplitSpec())
    dropped = splits.assign(table, starts, told, SplitSpec(identical_images="drop"))
    assert (dropped.split_N.tolist(), dropped.put_into_several) == ([2, 1, 1], 2)


def test_tuning_is_carved_out_of_a_column_without_it() -> None:
    ids = [f"m{n}" for n in range(1000)]
    table, starts = rows(*ids)
    told = np.array([0, 2] * 500, np.int8)
    spec = SplitSpec(column="part", fractions={"train": 0.6, "tuning": 0.2, "held_out": 0.2})
    found = splits.assign(table, starts, told, spec)
    assert found.carved == pytest.approx(0.25)
    assert (found.split_N[1::2] == 2).all()
    assert abs((found.split_N == 1).sum() - 125) < 40


def test_a_column_must_name_splits() -> None:
    column = pa.chunked_array([["Train", None, "val", "TEST", "held-out"]])
    assert splits.told_by_column(column, "part").tolist() == [0, -1, 1, 2, 2]
    with pytest.raises(DataError, match="1 values that name no split"):
        splits.told_by_column(pa.chunked_array([["train", "later"]]), "part")
    with pytest.raises(DataError, match="empty"):
        splits.told_by_column(pa.chunked_array([pa.nulls(3, pa.string())]), "part")
