"""The update against its theory: the best policy is the prior times exp(reward / leash)."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medray.errors import TrainingError
from medray.reinforce import learning
from medray.reinforce.learning import Policy
from medray.reinforce.rewards import Memory, Worth
from medray.spec.reinforce import ReinforceSpec, RewardSpec

WORTH = np.array([0.0, 0.5, 1.0])
SPEC = ReinforceSpec(package="prior", rewards=(RewardSpec(of="QED"),), batch_size=256, lr=0.03)


class _Choice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.log(torch.tensor([0.6, 0.3, 0.1])))


class _Three:
    """Three texts, drawn by a softmax: a policy whose optimum is known in closed form."""

    steers = ("decoder",)

    def rollout(self, modules: Any, count: int, rng: Any, *_: Any, way: str) -> Any:
        shares = torch.softmax(modules["decoder"].logits, 0)
        ids_B = torch.multinomial(shares, count, replacement=True, generator=rng)
        return [str(one) for one in ids_B.tolist()], {"ids": ids_B}

    def log_likelihood(self, modules: Any, rollout: Any, params: Any) -> torch.Tensor:
        return torch.log_softmax(modules["decoder"].logits, 0)[rollout["ids"]]


def _rewards(texts: list[str], memory: Memory) -> Worth:
    values = WORTH[[int(one) for one in texts]]
    return Worth(values, {"QED": values}, len(texts), 0, 0, 0)


def _policy() -> Policy:
    task: Any = _Three()
    return Policy(task, {"decoder": _Choice()}, None, None, "lm", torch.device("cpu"))


@pytest.mark.parametrize("leash", [0.25, 1.0])
def test_the_policy_becomes_the_prior_times_exp_of_reward_by_leash(leash: float):
    policy, spec = _policy(), SPEC.model_copy(update={"leash": leash})
    state = learning.new_state(policy, spec)
    before = policy.prior["decoder"].logits.detach().clone()
    rewards: Any = _rewards
    for _ in range(300):
        learning.update(policy, state, rewards, spec, seed=1)
    found = torch.softmax(state.modules["decoder"].logits, 0).detach().numpy()
    best = np.array([0.6, 0.3, 0.1]) * np.exp(WORTH / leash)
    assert found == pytest.approx(best / best.sum(), abs=0.04)
    assert torch.equal(policy.prior["decoder"].logits, before)
    gained = state.history[-1]["reward"] - state.history[0]["reward"]
    assert gained > 0.1


def test_a_state_that_was_kept_goes_on_to_the_bit():
    policy = _policy()
    rewards: Any = _rewards
    whole, half = (learning.new_state(policy, SPEC) for _ in range(2))
    for _ in range(8):
        learning.update(policy, whole, rewards, SPEC, seed=3)
    for _ in range(4):
        learning.update(policy, half, rewards, SPEC, seed=3)
    half.memory.seen["scaffold"] = 7
    resumed = learning.new_state(policy, SPEC)
    learning.load(policy, resumed, learning.dump(policy, half))
    assert resumed.memory.seen == {"scaffold": 7}
    for _ in range(4):
        learning.update(policy, resumed, rewards, SPEC, seed=3)
    assert resumed.history == whole.history
    assert torch.equal(resumed.modules["decoder"].logits, whole.modules["decoder"].logits)


def test_an_update_that_is_not_finite_stops_with_a_remedy():
    policy = _policy()
    state = learning.new_state(policy, SPEC)

    def broken(texts: list[str], memory: Memory) -> Worth:
        worth = _rewards(texts, memory)
        return Worth(worth.rewards * np.nan, worth.values, worth.valid, 0, 0, 0)

    wrong: Any = broken
    with pytest.raises(TrainingError, match="not finite"):
        learning.update(policy, state, wrong, SPEC, seed=0)


def test_a_damaged_checkpoint_is_refused():
    policy = _policy()
    with pytest.raises(TrainingError, match="cannot be read"):
        learning.load(policy, learning.new_state(policy, SPEC), b"nothing")
