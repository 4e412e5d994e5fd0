"""What molecules are worth: against RDKit, by hand, and by the rules of the memory."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rdkit import Chem
from rdkit.Chem import QED

from medray.errors import UsageError
from medray.reinforce.rewards import Memory, Rewards, desirability
from medray.spec.molecules import StandardSpec
from medray.spec.reinforce import ReinforceSpec, RewardSpec

ASPIRIN, PHENOL, ANISOLE = "CC(=O)Oc1ccccc1C(=O)O", "Oc1ccccc1", "COc1ccccc1"


def _rewards(*wishes: RewardSpec, **more: Any) -> Rewards:
    asked = {"package": "prior", "rewards": wishes, "filters": False, **more}
    return Rewards(ReinforceSpec.model_validate(asked), StandardSpec())


@pytest.mark.parametrize(
    ("better", "worth"),
    [
        ("higher", [0.0, 0.0, 0.5, 1.0, 1.0, 0.0]),
        ("lower", [1.0, 1.0, 0.5, 0.0, 0.0, 0.0]),
        ("between", [0.5, 1.0, 1.0, 1.0, 0.0, 0.0]),
    ],
)
def test_a_wish_is_worth_what_is_said(better: Any, worth: list[float]):
    wish = RewardSpec(of="logP", better=better, low=1, high=3)
    found = desirability(np.array([0.0, 1.0, 2.0, 3.0, 9.0, np.nan]), wish)
    assert found.tolist() == worth


@given(st.floats(-1e6, 1e6), st.sampled_from(["higher", "lower", "between"]))
def test_worth_is_always_a_share(value: float, better: Any):
    wish = RewardSpec(of="weight", better=better, low=200, high=500)
    assert 0 <= desirability(np.array([value]), wish)[0] <= 1


def test_the_weighted_mean_of_wishes():
    rewards = _rewards(RewardSpec(of="QED", weight=3), RewardSpec(similar_to=(PHENOL,), weight=1))
    found = rewards([PHENOL, "c1ccccc1O", "no molecule", "C1CC", ""], Memory(0))
    qed = QED.qed(Chem.MolFromSmiles(PHENOL))
    assert found.rewards.tolist() == pytest.approx([(3 * qed + 1) / 4, 0, 0, 0, 0])
    assert (found.valid, found.repeated) == (2, 1)  # the same molecule, written in two ways
    assert np.isnan(found.values["QED"][1:]).all()


def test_what_a_filter_holds_something_against_is_worth_nothing():
    aldehyde = "O=Cc1ccccc1"
    wish = RewardSpec(of="QED")
    assert _rewards(wish)([aldehyde], Memory(0)).rewards[0] > 0
    found = _rewards(wish, filters=True)([aldehyde, PHENOL], Memory(0))
    assert found.rewards[0] == 0
    assert found.rewards[1] > 0
    assert found.alerts == 1


def test_one_scaffold_is_rewarded_so_often_and_others_still_are():
    rewards = _rewards(RewardSpec(of="QED", low=0, high=0.4))
    memory = Memory(most=2)
    assert rewards([ASPIRIN, PHENOL, ANISOLE], memory).familiar == 1  # all are benzenes
    found = rewards([ANISOLE, "OC1CCCCC1"], memory)
    assert found.rewards.tolist() == [0, 1]
    assert dict(memory.seen) == {"c1ccccc1": 2, "C1CCCCC1": 1}


def test_a_similar_to_that_is_no_molecule_is_refused():
    with pytest.raises(UsageError, match="no SMILES"):
        _rewards(RewardSpec(similar_to=("C1CC",)))


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"of": "QED", "similar_to": ["C"]},
        {"package": "tox"},
        {"of": "QED", "low": 1, "high": 0},
    ],
)
def test_a_wish_of_nothing_or_of_two_things_is_refused(wish: dict[str, Any]):
    with pytest.raises(ValidationError):
        RewardSpec.model_validate(wish)
