"""Encoder, decoder, generator and critic: what they may see, and what they must not."""

import math

import pytest
import torch

from medray.models import molecule as networks
from medray.models.molecule import END, PAD, START, UNKNOWN, Critic, Decoder, Encoder

V, T, D = 11, 7, 5


def sequences(count: int) -> torch.Tensor:
    """Ids of different length, each with its end."""
    ids_BT = torch.randint(4, V, (count, T), generator=torch.Generator().manual_seed(0))
    for row in range(count):
        ids_BT[row, 2 + row % (T - 2)] = END
        ids_BT[row, 3 + row % (T - 2) :] = PAD
    return ids_BT


def decoder(latent: int = D, layers: int = 1) -> Decoder:
    torch.manual_seed(0)
    return Decoder(V, 6, 8, layers, 0.0, latent).eval()


@pytest.mark.parametrize("latent", [0, D])
def test_a_token_is_written_from_those_before_it_alone(latent: int) -> None:
    net, ids_BT = decoder(latent), torch.randint(4, V, (3, T))
    z_BD = torch.randn(3, latent)
    logits_BTV = net(ids_BT, z_BD)
    for place in range(T):
        other = ids_BT.clone()
        other[:, place] = (other[:, place] - 3) % (V - 4) + 4
        moved = net(other, z_BD)
        assert torch.equal(moved[:, : place + 1], logits_BTV[:, : place + 1])
        if place + 1 < T:
            assert not torch.allclose(moved[:, place + 1], logits_BTV[:, place + 1])


@pytest.mark.parametrize("layers", [1, 2])
def test_step_by_step_it_says_what_it_says_at_once(layers: int) -> None:
    net, ids_BT, z_BD = decoder(layers=layers), sequences(4), torch.randn(4, D)
    at_once = net(ids_BT, z_BD)
    state, before = None, torch.full((4,), START)
    for place in range(T):
        logits_BV, state = net.step(before, z_BD, state)
        torch.testing.assert_close(logits_BV, at_once[:, place])
        before = ids_BT[:, place]


def test_the_latent_is_seen_at_every_step() -> None:
    net, ids_BT = decoder(), sequences(2)
    one, other = net(ids_BT, torch.zeros(2, D)), net(ids_BT, torch.ones(2, D))
    assert ((one - other).abs().amax(dim=(0, 2)) > 1e-4).all()


def test_padding_does_not_reach_the_latent_and_latents_are_standardised() -> None:
    torch.manual_seed(0)
    net, ids_BT = Encoder(V, 6, 8, D), sequences(64)
    z_BD = net(ids_BT)
    torch.testing.assert_close(z_BD.mean(0), torch.zeros(D), atol=1e-5, rtol=0)
    torch.testing.assert_close(z_BD.var(0, unbiased=False), torch.ones(D), atol=5e-2, rtol=0)
    net.eval()
    wider = torch.cat([ids_BT, torch.full((64, 9), PAD)], 1)
    torch.testing.assert_close(net(wider), net(ids_BT))


def test_the_penalty_of_a_linear_critic_is_known() -> None:
    critic = torch.nn.Linear(D, 1)
    expected = (float(critic.weight.detach().norm()) - 1) ** 2
    rng = torch.Generator().manual_seed(0)
    found = networks.gradient_penalty(critic, torch.randn(9, D), torch.randn(9, D), rng)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)
    found.backward()
    assert critic.weight.grad is not None
    assert float(critic.weight.grad.abs().sum()) > 0


def test_the_penalty_is_taken_between_both() -> None:
    seen: list[torch.Tensor] = []

    def critic(x_BD: torch.Tensor) -> torch.Tensor:
        seen.append(x_BD)
        return x_BD.sum(1, keepdim=True)

    rng = torch.Generator().manual_seed(0)
    networks.gradient_penalty(critic, torch.zeros(50, D), torch.ones(50, D), rng)
    between = seen[0].detach()
    assert float(between.min()) >= 0
    assert float(between.max()) <= 1
    assert torch.equal(between, between[:, :1].expand(-1, D))  # one place on the line for each
    assert float(between[:, 0].std()) > 0.1


def test_sampled_sequences_end_once_and_hold_no_special_id() -> None:
    drawn = networks.sample(decoder(), torch.randn(40, D), 30, torch.Generator().manual_seed(1))
    assert drawn.shape[0] == 40
    assert drawn.shape[1] <= 30
    assert not ((drawn == START) | (drawn == UNKNOWN)).any()
    for row in drawn.tolist():
        if END in row:
            assert set(row[row.index(END) + 1 :]) <= {PAD}
            assert PAD not in row[: row.index(END)]


def test_sampling_follows_the_decoder() -> None:
    """Shares of the first token are those of the softmax, within four standard errors."""
    net, count, temperature = decoder(), 20_000, 0.7
    z_BD = torch.randn(1, D)
    logits_BV, _ = net.step(torch.tensor([START]), z_BD, None)
    logits_BV[:, [PAD, START, UNKNOWN]] = -math.inf
    expected = torch.softmax(logits_BV / temperature, 1)[0]
    rng = torch.Generator().manual_seed(2)
    drawn = networks.sample(net, z_BD.expand(count, -1), 1, rng, temperature)[:, 0]
    found = torch.bincount(drawn, minlength=V) / count
    error = (expected * (1 - expected) / count).sqrt()
    assert ((found - expected).abs() <= 4 * error + 1e-9).all()


def test_the_critic_gives_one_number() -> None:
    assert Critic(D, 8, 2, 1)(torch.randn(3, D)).shape == (3, 1)
