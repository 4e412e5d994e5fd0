"""The whole row, against what the authors of MOSES expect of theirs and counts by hand."""

import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from combinatorial import MOLECULES
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from medray.molecules.metrics.moses import (
    Metrics,
    moses_metrics,
    novel_share,
    property_distances,
    unique_share,
)
from medray.molecules.metrics.profile import Profile, Role
from medray.score.profiles import known_smiles, profiled

# molsets 0.3.1, tests/test_metrics.py.
GENERATED = [
    "CNC",
    "Oc1ccccc1-c1cccc2cnccc12",
    "INVALID",
    "CCCP",
    "Cc1noc(C)c1CN(C)C(=O)Nc1cc(F)cc(F)c1",
    "Cc1nc(NCc2ccccc2)no1-c1ccccc1",
]
TEST = ["Oc1ccccc1-c1cccc2cnccc12", "COc1cccc(NC(=O)Cc2coc3ccc(OC)cc23)c1"]
TEST_SF = [
    "COCc1nnc(NC(=O)COc2ccc(C(C)(C)C)cc2)s1",
    "O=C(C1CC2C=CC1C2)N1CCOc2ccccc21",
    "Nc1c(Br)cccc1C(=O)Nc1ccncn1",
]
EXPECTED = {  # but SA, which RDKit has come to compute otherwise
    "valid": 2 / 3,
    "unique@3": 1.0,
    "FCD/Test": 52.58371754126664,
    "SNN/Test": 0.3152585653588176,
    "Frag/Test": 0.3,
    "Scaf/Test": 0.5,
    "IntDiv": 0.7189187309761661,
    "Filters": 0.75,
    "logP": 1.63229,
    "QED": 0.20370891752648637,
    "weight": 106.87,
}
COLUMNS = [
    *("n", "valid", "unique@3", "FCD/Test", "FCD/TestSF", "SNN/Test", "SNN/TestSF"),
    *("Frag/Test", "Frag/TestSF", "Scaf/Test", "Scaf/TestSF", "IntDiv", "IntDiv2", "Filters"),
    *("logP", "SA", "QED", "weight", "Novelty"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profiles")


def of(smiles: Sequence[str], role: Role, folder: Path) -> Profile:
    return profiled(smiles, role, str(folder))


def row(folder: Path, generated: Sequence[str], known: Sequence[str]) -> Metrics:
    references = {"Test": of(TEST, "reference", folder), "TestSF": of(TEST_SF, "reference", folder)}
    known_ones = known_smiles(known, str(folder))
    return moses_metrics(of(generated, "generated", folder), references, known_ones, unique_at=(3,))


def test_the_authors_own_example(folder: Path) -> None:
    found = row(folder, GENERATED, ["C(N)C", "c1cc(O)c(cc1)-c1cccc2cnccc12"]).to_dict()
    assert list(found) == COLUMNS
    assert found["n"] == 6
    assert {name: found[name] for name in EXPECTED} == pytest.approx(EXPECTED, rel=1e-5)
    assert found["Novelty"] == 0.75  # one of the two known was generated, the other never


def test_a_set_beside_itself(folder: Path) -> None:
    known = MOLECULES[:12]
    itself = {"Test": of(known, "reference", folder)}
    found = moses_metrics(
        of(known, "generated", folder), itself, known_smiles(known, str(folder)), unique_at=(12, 13)
    ).to_dict()
    assert found["unique@12"] == 1.0
    assert math.isnan(found["unique@13"])
    assert found["Novelty"] == 0.0
    assert [found[name] for name in ("SNN/Test", "Frag/Test", "Scaf/Test")] == pytest.approx(
        [1.0] * 3
    )
    assert found["FCD/Test"] == pytest.approx(0.0, abs=1e-3)
    assert [found[name] for name in ("logP", "SA", "QED", "weight")] == [0.0] * 4


def test_nothing_valid_is_nan_but_its_share(folder: Path) -> None:
    found = row(folder, ["INVALID", ""], ["C"]).to_dict()
    assert found.pop("n") == 2
    assert found.pop("valid") == 0.0
    assert all(math.isnan(value) for value in found.values())
    assert math.isnan(row(folder, [], ["C"]).valid)


def test_no_reference_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="no reference"):
        moses_metrics(of(TEST, "generated", folder), {})


def test_properties_are_scipys(folder: Path) -> None:
    one, other = (of(MOLECULES[part], "reference", folder) for part in (slice(12), slice(12, 30)))
    found = property_distances(one, other)
    for name, value in found.items():
        values = [[row[name] for row in p.molecules.to_pylist()] for p in (one, other)]
        assert value == pytest.approx(wasserstein_distance(*values))


@given(st.lists(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")), st.integers(1, 9))
def test_shares_are_those_of_sets(made: list[str], known: set[str], k: int) -> None:
    smiles = pa.array(made, pa.string())
    expected = len(set(made[:k])) / k if len(made) >= k else math.nan
    assert unique_share(smiles, k) == pytest.approx(expected, nan_ok=True)
    expected = len(set(made) - known) / len(set(made)) if made else math.nan
    found = novel_share(smiles, pa.array(sorted(known), pa.string()))
    assert found == pytest.approx(expected, nan_ok=True)
