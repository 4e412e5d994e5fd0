"""What networks read of molecules: fingerprints, descriptors, graphs; how near molecules are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem, DataStructs
from rdkit.Chem import Descriptors, rdFingerprintGenerator

from medray.molecules import descriptors, drawing, fingerprints, graphs
from medray.molecules.domain import Known
from medray.molecules.scaling import DescriptorScale

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
SOME = (ASPIRIN, "C", "c1ccncc1", "C[N+](C)(C)CC(=O)[O-]", "F/C=C/Cl", "N#Cc1ccccc1Br", "[2H]C")


def _renumbered(smiles: str, seed: int) -> str:
    mol = Chem.MolFromSmiles(smiles)
    order = np.random.default_rng(seed).permutation(mol.GetNumAtoms()).tolist()
    return Chem.MolToSmiles(Chem.RenumberAtoms(mol, order), canonical=False)


def test_counts_are_those_of_the_library() -> None:
    found = fingerprints.counts(SOME, 512, 2)
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=512)
    for row, smiles in zip(found, SOME, strict=True):
        expected = generator.GetCountFingerprint(Chem.MolFromSmiles(smiles)).GetNonzeroElements()
        assert {int(place): int(row[place]) for place in np.flatnonzero(row)} == expected
    assert fingerprints.counts([], 64, 2).shape == (0, 64)


@given(st.sampled_from(SOME), st.integers(0, 99))
def test_the_order_of_the_atoms_says_nothing(smiles: str, seed: int) -> None:
    other = _renumbered(smiles, seed)
    pair = fingerprints.counts([smiles, other], 256, 2)
    assert (pair[0] == pair[1]).all()
    both = descriptors.describe([smiles, other], descriptors.NAMES)
    np.testing.assert_allclose(both[0], both[1], rtol=1e-6, atol=1e-6)


def test_an_atom_takes_its_surroundings_along() -> None:
    """Propane at radius 1: an end is in its own two surroundings and in the middle's wider one."""
    whole, lost = fingerprints.by_atom("CCC", 2048, 1)
    assert whole.sum() == 6
    assert lost.sum(axis=1).tolist() == [3, 4, 3]
    assert (lost.max(axis=0) <= whole).all()
    assert ((whole > 0) == (lost.sum(axis=0) > 0)).all()


def test_descriptors_are_those_of_the_library_and_may_be_undefined() -> None:
    found = descriptors.describe([ASPIRIN], ["MolWt", "TPSA"])
    assert found[0].tolist() == [
        Descriptors.MolWt(Chem.MolFromSmiles(ASPIRIN)),
        Descriptors.TPSA(Chem.MolFromSmiles(ASPIRIN)),
    ]
    assert np.isnan(descriptors.describe(["C[Se]C"], ["MaxPartialCharge"])).all()
    with pytest.raises(KeyError):
        descriptors.describe(["C"], ["no such thing"])


def test_scaling_keeps_what_is_missing_apart() -> None:
    values = np.array(
        [[1.0, 5.0, 7.0, np.nan], [2.0, np.nan, 7.0, np.nan], [3.0, 9.0, 7.0, np.nan]]
    )
    scale = DescriptorScale.learn(["a", "b", "same", "never"], values)
    assert (scale.names, scale.missing, scale.width) == (("a", "b"), ("b",), 3)
    applied = scale.apply(values[:, :2])
    assert applied[1].tolist()[1:] == [0.0, 1.0]
    assert applied[:, 2].tolist() == [0.0, 1.0, 0.0]
    np.testing.assert_allclose(applied[:, 0].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(applied[:, 0].std(), 1, atol=1e-5)
    far = scale.apply(np.array([[1e9, -1e9]]))
    assert np.abs(far).max() < 4, "what lies beyond train is cut"
    assert DescriptorScale.model_validate_json(scale.model_dump_json()) == scale


@pytest.mark.parametrize("smiles", SOME)
def test_graphs_hold_every_atom_and_bond_both_ways(smiles: str) -> None:
    found, mol = graphs.graphs([smiles]), Chem.MolFromSmiles(smiles)
    assert found.atoms.shape == (1, mol.GetNumAtoms(), len(graphs.ATOM_SIZES))
    bonds = {(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()}
    ends = [tuple(pair) for pair in found.ends[0].tolist()]
    assert set(ends) == bonds | {(b, a) for a, b in bonds}
    assert all(ends[i] == ends[i ^ 1][::-1] for i in range(len(ends)))
    assert (found.atoms >= 1).all()
    assert (found.atoms < graphs.ATOM_SIZES).all()
    assert (found.bonds[..., : len(graphs.BOND_SIZES)] < graphs.BOND_SIZES).all()


def test_graphs_tell_what_differs() -> None:
    def atoms(smiles: str) -> list[list[int]]:
        return graphs.graphs([smiles]).atoms[0].tolist()

    assert atoms("CO") != atoms("CN")
    assert atoms("C[O-]") != atoms("CO")
    assert atoms("C[C@H](N)O") != atoms("C[C@@H](N)O")
    cis, trans = (graphs.graphs([one]).bonds for one in ("F/C=C\\F", "F/C=C/F"))
    assert (cis != trans).any()


def test_padding_is_recognised() -> None:
    both = graphs.graphs(["C", ASPIRIN])
    assert both.atoms[0, 1:].max() == 0
    assert both.ends[0].max() == -1
    assert both.bonds[0].max() == 0


def test_nearness_is_the_best_tanimoto_similarity() -> None:
    known = Known.of(fingerprints.packed(SOME[:4]))
    known = Known.model_validate_json(known.model_dump_json())
    generator = rdFingerprintGenerator.GetMorganGenerator(
        radius=fingerprints.DOMAIN_RADIUS, fpSize=fingerprints.DOMAIN_BITS
    )
    prints = [generator.GetFingerprint(Chem.MolFromSmiles(one)) for one in SOME]
    expected = [max(DataStructs.BulkTanimotoSimilarity(one, prints[:4])) for one in prints]
    assert known.nearest(fingerprints.packed(SOME)) == pytest.approx(expected, abs=1e-6)
    assert Known.of(np.zeros((0, 128), np.uint8)).nearest(fingerprints.packed(SOME)).max() == 0


def test_atoms_are_coloured_by_what_they_added() -> None:
    plain = drawing.svg("CCO")
    assert plain.lstrip().startswith("<?xml")
    added = drawing.svg("CCO", np.array([0.0, -0.5, 1.0]))
    assert "#E59E00" in added.upper(), "the greatest part has the full colour"
    assert added != plain
    assert len(added) < 50_000
    assert drawing.svg("CCO", np.zeros(3)) == plain
    assert drawing.png("CCO", np.array([0.0, -0.5, 1.0]))[:4] == b"\x89PNG"
