"""What is described of each molecule, and that parts add up."""

from itertools import pairwise

import pytest
from combinatorial import MOLECULES, ODD
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from medray.molecules.metrics.distributions import Moments
from medray.molecules.metrics.profile import (
    PROFILE,
    Profile,
    Role,
    describe,
    fragments,
    merge,
    scaffold,
)
from medray.molecules.metrics.reading import canonical
from medray.molecules.properties import PROPERTIES

# The first molecules of MOSES' test set, with the values its authors published of them.
PUBLISHED = {
    "CC1C2CCC(C2)C1CN(CCO)C(=O)c1ccc(Cl)cc1": {
        "logP": 3.4567000000000023,
        "SA": 4.128087184861868,
        "QED": 0.9019483275398106,
        "weight": 321.84799999999996,
    },
    "COc1ccc(-c2cc(=O)c3c(O)c(OC)c(OC)cc3o2)cc1O": {
        "logP": 2.8970000000000016,
        "SA": 2.3716371893538994,
        "QED": 0.750637703843906,
        "weight": 344.3190000000001,
    },
    "CCOC(=O)c1ncn2c1CN(C)C(=O)c1cc(F)ccc1-2": {
        "logP": 1.7736999999999998,
        "SA": 2.5284532436936917,
        "QED": 0.793247744649229,
        "weight": 303.293,
    },
    "Clc1ccccc1-c1nc(-c2ccncc2)no1": {
        "logP": 3.4520000000000017,
        "SA": 1.9148090399251494,
        "QED": 0.7055128012009179,
        "weight": 257.68,
    },
    "CC(C)(Oc1ccc(Cl)cc1)C(=O)OCc1cccc(CO)n1": {
        "logP": 3.128100000000001,
        "SA": 2.2553335229738334,
        "QED": 0.8213078893389296,
        "weight": 335.78700000000003,
    },
    "Cc1nc2c(OCc3ccccc3)cccn2c1CC#N": {
        "logP": 3.2878000000000016,
        "SA": 2.2687843518319184,
        "QED": 0.7349516807834908,
        "weight": 277.327,
    },
}


@pytest.mark.parametrize("smiles", PUBLISHED)
def test_properties_are_those_published(smiles: str) -> None:
    molecule = Chem.MolFromSmiles(smiles)
    assert {name: of(molecule) for name, of in PROPERTIES.items()} == pytest.approx(
        PUBLISHED[smiles], abs=1e-9
    )


def test_fragments_are_cut_where_brics_cuts() -> None:
    """Degen et al. 2008, table 1: an amide to an aryl is cut on both sides of its nitrogen."""
    found = fragments(Chem.MolFromSmiles("CC(=O)Nc1ccc(O)cc1"))
    assert sorted(found) == ["[1*]C(C)=O", "[16*]c1ccc(O)cc1", "[5*]N[5*]"]
    assert fragments(Chem.MolFromSmiles("CCC")) == ["CCC"]


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("Cc1ccc(CCc2ccccc2)cc1", "c1ccc(CCc2ccccc2)cc1"),
        ("O=C1CCC2CCCCC2C1", "O=C1CCC2CCCCC2C1"),
        ("CCc1ccccc1", None),
        ("CCO", None),
    ],
)
def test_scaffold_is_rings_and_links(smiles: str, expected: str | None) -> None:
    assert scaffold(Chem.MolFromSmiles(smiles)) == expected


@pytest.mark.parametrize("smiles", ["", " ", "C1", "c1cc1", "C(C)(C)(C)(C)C", "not", "\x00"])
@pytest.mark.parametrize("role", ["known", "reference", "generated"])
def test_what_is_no_molecule_is_null(smiles: str, role: Role) -> None:
    (row,) = describe([smiles], role, 5).to_pylist()
    assert row == dict.fromkeys(PROFILE[role].names) | {"at": 5}


def test_a_role_asks_for_no_more_than_it_needs() -> None:
    asked = {}
    for role in ("known", "reference", "generated"):
        (row,) = describe(["Cc1ccc(-c2ccccc2)cc1"], role).to_pylist()
        assert None not in row.values()
        asked[role] = set(row)
    assert asked["known"] == {"at", "smiles"}
    assert asked["reference"] > {"fingerprint", "fragments", "scaffold", *PROPERTIES}
    assert asked["generated"] - asked["reference"] == {"passes"}


def test_odd_molecules_are_described() -> None:
    rows = describe(ODD, "generated").to_pylist()
    assert all(row["smiles"] and row["QED"] is not None for row in rows)


@given(st.sampled_from([*MOLECULES, *ODD]), st.integers(0, 2**31))
@settings(max_examples=50)
def test_one_molecule_however_it_is_written(smiles: str, seed: int) -> None:
    """Bonds of a scrambled SMILES come in another order; everything described is the same."""
    molecule = Chem.MolFromSmiles(smiles)
    order = sorted(range(molecule.GetNumAtoms()), key=lambda at: hash((seed, at)))
    scrambled = Chem.MolToSmiles(Chem.RenumberAtoms(molecule, order), canonical=False)
    assert describe([scrambled], "generated") == describe([smiles], "generated")


def test_a_canonical_form_is_read_once() -> None:
    found = canonical("OCC")
    assert found is not None
    assert found[1] == "CCO"
    assert canonical(found[1]) is not None


@given(st.lists(st.sampled_from([*MOLECULES[:6], "", "C1"]), max_size=9), st.data())
@settings(max_examples=30)
def test_parts_add_up_in_any_order(smiles: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(smiles)))) | {0, len(smiles)})
    parts = [
        Profile(describe(smiles[start:stop], "reference", start), Moments.none(2))
        for start, stop in pairwise(cuts)
    ] or [Profile(PROFILE["reference"].empty_table(), Moments.none(2))]
    merged = merge(data.draw(st.permutations(parts)))
    whole = Profile(describe(smiles, "reference"), Moments.none(2))
    assert merged.molecules.to_pylist() == whole.molecules.to_pylist()
    assert merged.given == len(smiles)
    assert sum(whole.fragments().values()) == sum(
        len(fragments(Chem.MolFromSmiles(one))) for one in whole.smiles().to_pylist()
    )
