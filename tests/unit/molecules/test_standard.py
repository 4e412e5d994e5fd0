"""Standard form: salts of known drugs become the drug, and the form of a form is itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize
from rdkit.rdBase import BlockLogs

from medray.errors import Code, RejectError
from medray.molecules.standard import from_block, standardise
from medray.spec.molecules import StandardSpec

SPEC = StandardSpec()
FLAT = StandardSpec(stereo="drop")
# As sold or drawn: salts, hydrates, charged, with numbered atoms → InChIKey of the drug.
DRUGS = {
    "aspirin, sodium salt": ("CC(=O)Oc1ccccc1C(=O)[O-].[Na+]", "BSYNRYMUTXBXSQ-UHFFFAOYSA-N"),
    "caffeine, monohydrate": ("Cn1c(=O)c2c(ncn2C)n(C)c1=O.O", "RYYVLZVUVIJVGH-UHFFFAOYSA-N"),
    "ibuprofen, lysinate": (
        "CC(C)Cc1ccc(C(C)C(=O)[O-])cc1.NCCCCC([NH3+])C(=O)O",
        "HEFNNWSXXWATRW-UHFFFAOYSA-N",
    ),
    "paracetamol, mapped": ("[CH3:7][C:1](=O)Nc1ccc(O)cc1", "RZVAJINKPMORJF-UHFFFAOYSA-N"),
    "metformin, hydrochloride": ("CN(C)C(=N)NC(=N)N.Cl", "XZWYZXLIPXDOLR-UHFFFAOYSA-N"),
    "diclofenac, potassium": (
        "[K+].[O-]C(=O)Cc1ccccc1Nc1c(Cl)cccc1Cl",
        "DCOPUUMXTXDBNB-UHFFFAOYSA-N",
    ),
    "warfarin": ("CC(=O)CC(C1=CC=CC=C1)C1=C(O)C2=CC=CC=C2OC1=O", "PJVWKTKQMONHTI-UHFFFAOYSA-N"),
    "ciprofloxacin, zwitterion": (
        "[O-]C(=O)C1=CN(C2CC2)c2cc(N3CC[NH2+]CC3)c(F)cc2C1=O",
        "MYSWGUAQZAJSOK-UHFFFAOYSA-N",
    ),
    "diazepam": ("CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc21", "AAOVKJBEBIDNHE-UHFFFAOYSA-N"),
    "nicotine, bitartrate": (
        "C[NH+]1CCC[C@H]1c1cccnc1.OC(C(O)C(=O)[O-])C(=O)O",
        "SNICXCGAKADSCV-JTQLQIEISA-N",
    ),
    "morphine, sulfate": (
        "CN1CC[C@]23c4c5ccc(O)c4O[C@H]2[C@@H](O)C=C[C@H]3[C@H]1C5.OS(=O)(=O)O",
        "BQJCRHHNABKAKU-KBQPJGBKSA-N",
    ),
    "imatinib, mesylate": (
        "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1.CS(=O)(=O)O",
        "KTUFNOKKBVMGRW-UHFFFAOYSA-N",
    ),
    "fluoxetine, hydrochloride": (
        "C[NH2+]CCC(Oc1ccc(C(F)(F)F)cc1)c1ccccc1.[Cl-]",
        "RTHCYVBBDHJXIQ-UHFFFAOYSA-N",
    ),
    "lidocaine": ("CCN(CC)CC(=O)Nc1c(C)cccc1C", "NNJVILVZKWQKPM-UHFFFAOYSA-N"),
    "nitrobenzene, without charges": ("O=N(=O)c1ccccc1", "LQNUZADURLCDLV-UHFFFAOYSA-N"),
}
# Known scaffolds of drugs: rings and what joins them (Bemis and Murcko 1996).
SCAFFOLDS = {
    "CC(=O)Oc1ccccc1C(=O)O": "c1ccccc1",
    "CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc21": "O=C1CN=C(c2ccccc2)c2ccccc2N1",
    "C[C@@H]1CCCCO1": "C1CCOCC1",
    "CCCCO": "",
}
REFUSED = {
    "": Code.NO_STRUCTURE,
    "  \t": Code.NO_STRUCTURE,
    "C1CC": Code.INVALID_STRUCTURE,
    "c1ccc": Code.INVALID_STRUCTURE,
    "c1cccc1": Code.INVALID_STRUCTURE,  # no way to draw its double bonds
    "hello": Code.INVALID_STRUCTURE,
    "CC\N{LATIN CAPITAL LETTER O WITH DIAERESIS}": Code.INVALID_STRUCTURE,  # RDKit reads CC
    "C C": Code.INVALID_STRUCTURE,  # RDKit reads methane named C
    "C\x00C": Code.INVALID_STRUCTURE,
    "\x00C": Code.INVALID_STRUCTURE,  # RDKit reads methane
    "C\x01": Code.INVALID_STRUCTURE,  # and here
    "*c1ccccc1": Code.INVALID_STRUCTURE,
    "CC>>CO": Code.INVALID_STRUCTURE,
    "C(C)(C)(C)(C)C": Code.IMPOSSIBLE_VALENCE,
    "CN(C)(C)C": Code.IMPOSSIBLE_VALENCE,
    "[Pt](Cl)(Cl)(N)N": Code.METAL,
    "CC(=O)O[Na]": Code.METAL,
    "[Fe+2].[Fe+3]": Code.METAL,
    "[H][H]": Code.NO_ATOMS,
    "[H+]": Code.NO_ATOMS,
    "N" + "CC(=O)N" * 125: Code.TOO_MANY_ATOMS,  # 500 atoms of a peptide
    "C" * 100_000: Code.TOO_MANY_ATOMS,
    ".".join(["C" * 100] * 50): Code.TOO_MANY_ATOMS,
}


def refusal(structure: str, spec: StandardSpec = SPEC) -> Code:
    with BlockLogs(), pytest.raises(RejectError) as error:
        standardise(structure, spec)
    return error.value.code


def whole_way(smiles: str, spec: StandardSpec) -> str:
    """Every step for every molecule, until nothing changes."""
    chooser = rdMolStandardize.LargestFragmentChooser(preferOrganic=True)
    uncharger = rdMolStandardize.Uncharger()
    for _ in range(10):
        mol = uncharger.uncharge(chooser.choose(Chem.MolFromSmiles(smiles)))
        for atom in mol.GetAtoms():
            atom.SetAtomMapNum(0)
        if spec.stereo == "drop":
            Chem.RemoveStereochemistry(mol)
        before, smiles = smiles, Chem.MolToSmiles(mol)
        if before == smiles:
            return smiles
    raise AssertionError("does not come to rest")


@pytest.mark.parametrize(("smiles", "key"), DRUGS.values(), ids=DRUGS)
def test_a_drug_as_sold_becomes_the_drug(smiles: str, key: str) -> None:
    assert Chem.MolToInchiKey(Chem.MolFromSmiles(standardise(smiles, SPEC).smiles)) == key


@pytest.mark.parametrize("spec", [SPEC, FLAT], ids=["keep", "drop"])
@pytest.mark.parametrize("smiles", [smiles for smiles, _ in DRUGS.values()], ids=DRUGS)
def test_nothing_that_matters_is_skipped(smiles: str, spec: StandardSpec) -> None:
    assert standardise(smiles, spec).smiles == whole_way(smiles, spec)


@given(st.sampled_from(list(DRUGS.values())), st.integers(0, 2**31), st.sampled_from([SPEC, FLAT]))
def test_any_way_of_writing_it_is_the_same(
    drug: tuple[str, str], seed: int, spec: StandardSpec
) -> None:
    mol = Chem.MolFromSmiles(drug[0])
    written = Chem.MolToRandomSmilesVect(mol, 1, seed)[0]
    form = standardise(written, spec)
    assert form == standardise(drug[0], spec) == standardise(mol, spec)
    assert standardise(form.smiles, spec) == form
    block = Chem.MolToMolBlock(Chem.MolFromSmiles(form.smiles))
    assert from_block(block, FLAT) == standardise(form.smiles, FLAT)


@pytest.mark.parametrize(("smiles", "scaffold"), SCAFFOLDS.items())
def test_scaffold(smiles: str, scaffold: str) -> None:
    assert standardise(smiles, SPEC).scaffold == scaffold


@pytest.mark.parametrize(("structure", "code"), REFUSED.items(), ids=lambda v: str(v)[:20])
def test_refused(structure: str, code: Code) -> None:
    assert refusal(structure) == code


def test_what_the_spec_switches_off() -> None:
    kept = StandardSpec(largest_fragment=False, neutralise=False, metals="keep")
    assert standardise("CC(=O)[O-].[Na+]", kept).smiles == "CC(=O)[O-].[Na+]"
    assert standardise("CC(=O)O[Na]", kept).heavy_atoms == 5
    assert refusal("CCCC", StandardSpec(max_heavy_atoms=3)) == Code.TOO_MANY_ATOMS
    assert standardise("C[C@H](N)C(=O)O", FLAT).smiles == "CC(N)C(=O)O"
    assert standardise("F/C=C/F", FLAT).smiles == "FC=CF"
    assert standardise("C[C@H](N)C(=O)O", SPEC).smiles == "C[C@H](N)C(=O)O"


def test_a_block_that_is_none() -> None:
    for block, code in [
        ("nothing\n", Code.INVALID_STRUCTURE),
        ("\n\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n", Code.NO_ATOMS),
    ]:
        with BlockLogs(), pytest.raises(RejectError) as error:
            from_block(block, SPEC)
        assert error.value.code == code


def test_extended_smiles() -> None:
    assert standardise("C[C@H](N)C(=O)O |o1:1|", SPEC).smiles == "C[C@H](N)C(=O)O"
    assert refusal("CCO |broken") == Code.INVALID_STRUCTURE
