"""SMILES and SELFIES as tokens: nothing is lost, and what cannot be written is said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem

from medray.molecules import tokens
from medray.molecules.text import as_bytes, as_codes, strings

# aspirin, caffeine, a nitrile, a quaternary ammonium, two-digit rings, a chlorinated thiazole
DRUGS = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "N#Cc1ccccc1Br",
    "C[N+](C)(C)CC(=O)[O-]",
    "C%10CCCC%10",
    "Clc1ncc(s1)C[C@H](N)C(=O)O",
)


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("CCl", ["C", "Cl"]),
        ("CBr", ["C", "Br"]),
        ("C[C@@H](N)O", ["C", "[C@@H]", "(", "N", ")", "O"]),
        ("C%12CC%12", ["C", "%12", "C", "C", "%12"]),
        ("c1ccsc1", ["c", "1", "c", "c", "s", "c", "1"]),
        ("[nH]", ["[nH]"]),
        ("C/C=C\\F", ["C", "/", "C", "=", "C", "\\", "F"]),
    ],
)
def test_smiles_are_cut_as_their_grammar_says(smiles: str, expected: list[str]) -> None:
    assert tokens.split(smiles, "smiles") == expected


@pytest.mark.parametrize("notation", ["smiles", "selfies"])
def test_ids_and_back_give_the_same_molecule(notation: tokens.Notation) -> None:
    counts, longest = tokens.count(DRUGS, notation)
    words = tokens.learn(counts, longest, notation, 1)
    ids_NT = words.encode(DRUGS)
    assert ids_NT.shape == (len(DRUGS), longest + 1)
    assert (ids_NT == tokens.END).sum(axis=1).tolist() == [1] * len(DRUGS)
    assert not (ids_NT == tokens.UNKNOWN).any()
    for one, back in zip(DRUGS, words.decode(ids_NT), strict=True):
        plain = Chem.MolToSmiles(Chem.MolFromSmiles(one), isomericSmiles=False)
        assert Chem.MolToSmiles(Chem.MolFromSmiles(back), isomericSmiles=False) == plain


@given(st.lists(st.sampled_from(["[C]", "[=C]", "[O]", "[Ring1]", "[Branch1]", "[#N]"])))
def test_every_sequence_of_selfies_is_a_molecule(drawn: list[str]) -> None:
    words = tokens.Vocabulary(notation="selfies", tokens=tuple(sorted(set(drawn))), longest=9)
    ids = [[tokens.SPECIAL + words.tokens.index(one) for one in drawn] + [tokens.END]]
    import numpy as np

    (smiles,) = words.decode(np.array(ids))
    assert Chem.MolFromSmiles(smiles) is not None


def test_rare_tokens_are_unknown_and_left_out_of_text() -> None:
    counts, longest = tokens.count(["CCO", "CCN", "CC[Se]"], "smiles")
    assert counts == {"C": 3, "O": 1, "N": 1, "[Se]": 1}
    words = tokens.learn(counts, longest, "smiles", 2)
    assert words.tokens == ("C",)
    ids_NT = words.encode(["CCO"])
    assert ids_NT.tolist() == [[4, 4, tokens.UNKNOWN, tokens.END]]
    assert words.decode(ids_NT) == ["CC"]


def test_what_selfies_cannot_write_is_one_unknown() -> None:
    words = tokens.Vocabulary(notation="selfies", tokens=("[C]",), longest=3)
    assert words.encode(["C(C)(C)(C)(C)(C)(C)C"])[0].tolist()[:2] == [tokens.UNKNOWN, tokens.END]
    assert tokens.count(["C(C)(C)(C)(C)(C)(C)C"], "selfies") == ({}, 0)


@given(st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126)), min_size=1))
def test_text_survives_every_form_of_a_column(texts: list[str]) -> None:
    column = as_bytes(texts)
    assert strings(column) == texts
    assert strings(as_codes(column)) == texts
    assert as_codes(column).shape[0] == len(texts)
