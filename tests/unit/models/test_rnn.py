"""Recurrent networks against their equations in plain loops; padding and neighbours say nothing."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medray.models.rnn import Layout, Recurrent

PLAIN = Layout(
    kind="elman",
    channels=3,
    facts=2,
    codes=5,
    embedding=4,
    hidden=6,
    layers=1,
    dropout=0.0,
    input_dropout=0.0,
    pool="last",
    outputs=2,
)


def batch_of(lengths: list[int], longest: int | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Random inputs; what lies past the end of a history is noise, which must not matter."""
    rng = torch.Generator().manual_seed(seed)
    count, steps = len(lengths), longest or max(lengths)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    return {
        "carried": random(count, steps, PLAIN.channels),
        "observed": random(count, steps, PLAIN.channels) > 0,
        "since": random(count, steps, PLAIN.channels).abs() * 30,
        "gap": random(count, steps, PLAIN.channels).abs() * 30,
        "hours": random(count, steps).abs() * 100,
        "codes": torch.randint(0, PLAIN.codes + 1, (count, steps, 2), generator=rng),
        "facts": random(count, 2 * PLAIN.facts),
        "lengths": torch.tensor(lengths),
    }


def network(**changes: Any) -> Recurrent:
    torch.manual_seed(1)
    model = Recurrent(replace(PLAIN, **changes))
    for parameter in model.parameters():  # biases and decays that begin at 0 would hide a mistake
        parameter.data += 0.3 * torch.randn(parameter.shape)
    model.embed.weight.data[0] = 0  # padding
    return model.double().eval()


def doubled(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n: v.double() if v.is_floating_point() else v for n, v in batch.items()}


def inputs(model: Recurrent, batch: dict[str, Tensor], row: int, step: int) -> tuple[Tensor, ...]:
    """Of one step: the carried values, masks, what every network reads beside them."""
    embedded = sum(model.embed.weight[code] for code in batch["codes"][row, step])
    hours = torch.log1p(batch["hours"][row, step]) / 2
    rest = torch.cat([batch["facts"][row], hours[None], torch.as_tensor(embedded)])
    return batch["carried"][row, step], batch["observed"][row, step].double(), rest


def answer(model: Recurrent, batch: dict[str, Tensor], row: int, last: Tensor) -> Tensor:
    joined = torch.cat([last, batch["facts"][row]])
    return model.output.weight @ joined + model.output.bias


@torch.no_grad()
def test_elman_is_its_recurrence() -> None:
    """h_t = tanh(W x_t + U h_{t-1} + b), y = W' h_T + b'."""
    model, batch = network(), doubled(batch_of([4, 1, 3]))
    cell = model.first
    assert isinstance(cell, nn.RNN)
    w, u = cell.weight_ih_l0, cell.weight_hh_l0
    b = cell.bias_ih_l0 + cell.bias_hh_l0
    for row, length in enumerate(batch["lengths"]):
        h = torch.zeros(PLAIN.hidden).double()
        for step in range(int(length)):
            carried, observed, rest = inputs(model, batch, row, step)
            since = torch.log1p(batch["since"][row, step]) / 2
            x = torch.cat([carried, observed, since, rest])
            h = torch.tanh(w @ x + u @ h + b)
        torch.testing.assert_close(model(batch)[row], answer(model, batch, row, h))


@torch.no_grad()
def test_gru_d_is_that_of_its_paper() -> None:
    """Che et al. 2018, section 2.3: decays of inputs and states, and the mask as an input."""
    model, batch = network(kind="gru_d"), doubled(batch_of([4, 2, 3]))
    first: Any = model.first
    wi, wh = first.cell.weight_ih.chunk(3), first.cell.weight_hh.chunk(3)
    bi, bh = first.cell.bias_ih.chunk(3), first.cell.bias_hh.chunk(3)
    for row, length in enumerate(batch["lengths"]):
        h = torch.zeros(PLAIN.hidden).double()
        for step in range(int(length)):
            last, mask, rest = inputs(model, batch, row, step)
            delta = torch.log1p(batch["gap"][row, step]) / 2
            gamma_x = torch.exp(-torch.clamp(first.value_decay * delta + first.value_bias, min=0))
            w_h, b_h = first.state_decay.weight, first.state_decay.bias
            gamma_h = torch.exp(-torch.clamp(w_h @ delta + b_h, min=0))
            value = mask * last + (1 - mask) * gamma_x * last  # the mean of train is 0
            h = gamma_h * h
            x = torch.cat([value, mask, rest])
            r = torch.sigmoid(wi[0] @ x + bi[0] + wh[0] @ h + bh[0])
            z = torch.sigmoid(wi[1] @ x + bi[1] + wh[1] @ h + bh[1])
            n = torch.tanh(wi[2] @ x + bi[2] + r * (wh[2] @ h + bh[2]))
            h = (1 - z) * n + z * h
        torch.testing.assert_close(model(batch)[row], answer(model, batch, row, h))


KINDS = ("elman", "lstm", "gru", "gru_d")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pool", ["last", "max", "mean"])
@torch.no_grad()
def test_neighbours_and_padding_never_change_an_answer(kind: Any, pool: Any) -> None:
    model = network(kind=kind, pool=pool, layers=2).float()
    batch = batch_of([5, 1, 3, 2])
    together = model(batch)
    wide = batch_of([5, 1, 3, 2], longest=9, seed=8)
    for name in ("carried", "observed", "since", "gap", "hours", "codes"):
        wide[name][:, :5] = batch[name]
    wide["facts"] = batch["facts"]
    torch.testing.assert_close(model(wide), together, rtol=0, atol=1e-6)
    turn = torch.tensor([2, 0, 3, 1])
    turned = model({name: values[turn] for name, values in batch.items()})
    torch.testing.assert_close(turned, together[turn], rtol=0, atol=1e-6)
    for row, length in enumerate(batch["lengths"].tolist()):
        alone = {
            name: values[row : row + 1, :length]
            if values.dim() > 1 and name != "facts"
            else values[row : row + 1]
            for name, values in batch.items()
        }
        torch.testing.assert_close(model(alone)[0], together[row], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind: Any) -> None:
    """As it is built: a decay that begins where its gradient is 0 would never move."""
    torch.manual_seed(0)
    model = Recurrent(replace(PLAIN, kind=kind, layers=2, pool="mean"))
    model(batch_of([5, 4, 3])).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if name != "embed.weight":
            assert parameter.grad.abs().sum() > 0, name


def test_later_steps_never_change_earlier_states() -> None:
    for kind in KINDS:
        model, batch = network(kind=kind, layers=2), doubled(batch_of([6, 6]))
        before = model.states(batch)[:, :3]
        changed = {name: values.clone() for name, values in batch.items()}
        for name in ("carried", "since", "gap", "hours"):
            changed[name][:, 3:] += 1
        torch.testing.assert_close(model.states(changed)[:, :3], before, rtol=0, atol=1e-12)


def test_hidden_channels_are_hidden_whole() -> None:
    """In training, a channel that is left out says nothing: neither values, masks nor gaps."""
    for kind in KINDS:
        model = network(kind=kind, input_dropout=0.999999).train()
        batch = doubled(batch_of([4, 2]))
        nothing = {name: values.clone() for name, values in batch.items()}
        for name in ("carried", "since", "gap"):
            nothing[name] = torch.zeros_like(nothing[name])
        nothing["observed"] = torch.zeros_like(nothing["observed"])
        torch.testing.assert_close(model(batch), network(kind=kind)(nothing))


def test_a_history_without_steps_still_answers() -> None:
    for kind in KINDS:
        model = network(kind=kind)
        batch = doubled(batch_of([3, 1]))
        batch["lengths"] = torch.tensor([3, 0])
        assert torch.isfinite(model(batch)).all()
