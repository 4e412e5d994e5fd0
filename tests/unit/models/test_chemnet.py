"""ChemNet's activations against those of the package that its weights come from."""

import numpy as np
import pytest
from fcd_torch import FCD

from medray.errors import UsageError
from medray.models.chemnet import ACTIVATIONS, ChemNet
from medray.molecules.metrics.distributions import Moments, frechet_distance

SMILES = [
    f"{head}c1ccc({rest})cc1{tail}"
    for head in ("", "C", "COC(=O)", "Cl", "[O-][N+](=O)")
    for rest in ("Br", "N2CCOCC2", "C#N", "S(N)(=O)=O")
    for tail in ("", "F", "C(C)(C)C")
]


@pytest.fixture(scope="module")
def oracle() -> FCD:
    return FCD(canonize=False)


@pytest.fixture(scope="module")
def network() -> ChemNet:
    return ChemNet()


@pytest.mark.filterwarnings("ignore:`row_stack` alias:DeprecationWarning")
def test_activations_are_fcd_torchs(oracle: FCD, network: ChemNet) -> None:
    expected = oracle.get_predictions(SMILES)
    found = network.activations(SMILES)
    assert found.shape == (len(SMILES), ACTIVATIONS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:`row_stack` alias:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
def test_distance_is_fcd_torchs(oracle: FCD, network: ChemNet) -> None:
    one, other = SMILES[:25], SMILES[25:]
    found = [Moments.of(network.activations(part)) for part in (one, other)]
    assert frechet_distance(*found) == pytest.approx(oracle(one, other), rel=1e-4)


def test_blocks_do_not_change_an_answer(network: ChemNet) -> None:
    many = [SMILES[at % 7] for at in range(260)]  # more than a block
    found = network.activations(many)
    for at in (0, 100, 259):
        np.testing.assert_allclose(found[at], network.activations([many[at]])[0], atol=1e-5)


def test_nothing_and_very_much_to_read(network: ChemNet) -> None:
    assert network.activations([]).shape == (0, ACTIVATIONS)
    long = "C" * 349
    same = network.activations([long + "C" * 5, long + "N" * 200])
    np.testing.assert_allclose(same[0], same[1], atol=1e-6)


def test_a_device_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UsageError, match="no CUDA device"):
        ChemNet("cuda")
