"""The filters of MOSES, case by case, and against RDKit's own matching of all patterns."""

import csv
from pathlib import Path

import pytest
from combinatorial import MOLECULES, ODD
from rdkit import Chem, RDConfig
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

from medray.molecules.metrics.filters import alert, alerts

# A structure for every rule, with what MOSES says it breaks first.
BROKEN = {
    "C1CCCCCCC1": "ring_size",
    "C[N+](C)(C)C": "charge",
    "CP(C)C": "element",
    "[SiH3]C": "element",
    "C=CC#N": "MCF1",
    "C=CS(C)(=O)=O": "MCF2",
    "C=CC(=O)NC": "MCF3",
    "CCCl": "MCF4",
    "CC1CO1": "MCF5",
    "CN=C=O": "MCF6",
    "CC=O": "MCF7",
    "CC(C)=N": "MCF8",
    "CC1CN1": "MCF9",
    "CNNC": "MCF10",
    "CN=NC": "MCF10",
    "N=N": "MCF11",
    "Cc1ccco1": None,
    "Clc1ncccn1": "MCF14",
    "CSSC": "MCF16",
    "NNN": "MCF17",
    "NCN": "MCF18",
    "CC(N)N": None,
    "CC(O)O": "MCF19",
    "Brc1cc(Br)cc(Br)c1": "MCF20",
    "Clc1cc(Cl)c(Cl)cc1Cl": "MCF21",
    "FC(F)(F)C(F)(F)C(F)(F)F": "MCF22",
    "Oc1ccccc1O": "PAINS catechol_A(92)",
    "O=C1C=CC(=O)C=C1": "PAINS quinone_A(370)",
    "CCCCO": None,
    "C1CCCCCC1": None,
    "[2H]C": None,
}


@pytest.mark.parametrize("smiles", BROKEN)
def test_the_first_rule_that_is_broken(smiles: str) -> None:
    assert alert(Chem.MolFromSmiles(smiles)) == BROKEN[smiles]


def test_the_screen_loses_no_match() -> None:
    """Every pattern against every molecule, one by one."""
    names = [name for name, _ in alerts()]
    assert [sum(name.startswith(kind) for name in names) for kind in ("MCF", "PAINS")] == [22, 480]
    patterns = [Chem.MolFromSmarts(smarts) for _, smarts in alerts()]
    hits = 0
    for smiles in (*MOLECULES, *ODD, *BROKEN):
        molecule = Chem.MolFromSmiles(smiles)
        whole = Chem.AddHs(molecule)
        matched = [
            name
            for name, pattern in zip(names, patterns, strict=True)
            if whole.HasSubstructMatch(pattern)
        ]
        found = alert(molecule)
        if found not in ("ring_size", "charge", "element"):
            assert found == (matched[0] if matched else None), smiles
            hits += bool(matched)
    assert hits >= 20


def test_pains_are_those_that_rdkit_knows() -> None:
    """Name by name, but for the 17 that RDKit has since corrected."""
    parameters = FilterCatalogParams()
    parameters.AddCatalog(FilterCatalogParams.FilterCatalogs.PAINS)
    catalogue = FilterCatalog(parameters)
    known = {catalogue.GetEntryWithIdx(at).GetDescription() for at in range(480)}
    ours = {name.removeprefix("PAINS ") for name, _ in alerts() if name.startswith("PAINS")}
    assert {name.lower() for name in ours} == {name.lower() for name in known}
    path = Path(RDConfig.RDDataDir) / "Pains" / "wehi_pains.csv"
    with path.open(encoding="utf-8", newline="") as lines:
        theirs = {smarts for smarts, _ in csv.reader(lines)}
    assert sum(smarts not in theirs for name, smarts in alerts() if name.startswith("PAINS")) == 17
