"""What a recurrent network may read beside the last state, and what training leaves out.

Against torch's own layers run one history at a time, in both directions.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medray.models.rnn import Layout, Recurrent

PLAIN = Layout(
    kind="gru",
    channels=3,
    facts=1,
    codes=0,
    embedding=4,
    hidden=5,
    layers=1,
    dropout=0.0,
    input_dropout=0.0,
    pool="last",
    outputs=2,
)
LENGTHS = (4, 1, 3)
TORCH = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


def batch() -> dict[str, Tensor]:
    """Random inputs, also past the end of the shorter histories."""
    rng = torch.Generator().manual_seed(3)
    shape = (len(LENGTHS), max(LENGTHS), PLAIN.channels)
    found = {
        name: torch.randn(*shape, generator=rng).double()
        for name in ("carried", "least", "greatest")
    }
    return found | {
        "observed": torch.rand(*shape, generator=rng) > 0.5,
        "since": torch.rand(*shape, generator=rng).double() * 30,
        "gap": torch.rand(*shape, generator=rng).double() * 30,
        "hours": torch.rand(*shape[:2], generator=rng).double() * 48,
        "codes": torch.zeros(*shape[:2], 0, dtype=torch.int64),
        "facts": torch.randn(shape[0], 2, generator=rng).double(),
        "lengths": torch.tensor(LENGTHS),
    }


def network(**changes: Any) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(replace(PLAIN, **changes)).double().eval()


def read_by_hand(model: Recurrent, inputs: dict[str, Tensor], row: int) -> Tensor:
    """States (T, H or 2H) of one history, each direction a layer of torch's own."""
    end = LENGTHS[row]
    one = {name: values[row, :end] for name, values in inputs.items() if name != "lengths"}
    parts = [
        one["carried"],
        one["observed"].double(),
        torch.log1p(one["since"]) / 2,
        inputs["facts"][row].expand(end, -1),
        torch.log1p(one["hours"])[:, None] / 2,
    ]
    if model.layout.extremes:
        parts += [one["least"], one["greatest"]]
    x_TX = torch.cat(parts, dim=1)
    states = []
    for suffix in ("", "_reverse") if model.layout.bidirectional else ("",):
        layer = TORCH[model.layout.kind](x_TX.shape[1], PLAIN.hidden).double()
        for name, values in layer.named_parameters():
            values.data = model.first.get_parameter(name + suffix).data
        read = layer(x_TX.flip(0) if suffix else x_TX)[0]
        states.append(read.flip(0) if suffix else read)
    return torch.cat(states, dim=1)


@pytest.mark.parametrize("kind", sorted(TORCH))
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("extremes", [False, True])
@torch.no_grad()
def test_states_of_both_directions_and_their_pools(
    kind: Any, bidirectional: bool, extremes: bool
) -> None:
    inputs = batch()
    for pool in ("last", "max", "mean", "all"):
        model = network(kind=kind, bidirectional=bidirectional, extremes=extremes, pool=pool)
        answers = model(inputs)
        for row in range(len(LENGTHS)):
            state_TH = read_by_hand(model, inputs, row)
            last = state_TH[-1, : PLAIN.hidden]
            if bidirectional:  # the reverse direction has read everything at the first step
                last = torch.cat([last, state_TH[0, PLAIN.hidden :]])
            pools = {"max": [state_TH.max(0).values], "mean": [state_TH.mean(0)], "last": []}
            pooled = pools.get(pool, pools["max"] + pools["mean"])
            joined = torch.cat([last, *pooled, inputs["facts"][row]])
            expected = model.output.weight @ joined + model.output.bias
            torch.testing.assert_close(answers[row], expected)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_all_layers_read_in_both_directions(bidirectional: bool) -> None:
    """The second layer learns from what the first read from either end."""
    model = network(layers=2, bidirectional=bidirectional)
    model(batch()).square().sum().backward()
    for name, parameter in model.named_parameters():
        if name != "embed.weight":
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", [*sorted(TORCH), "gru_d"])
def test_recurrent_dropout_leaves_out_weights_between_states_in_training_only(kind: Any) -> None:
    """Dropped to the last, a state is that of its own step alone: what comes before says nothing.

    A dropped share of nearly 1 takes all weights; those that are left grow by 1 / (1 - share).
    """
    inputs = batch()
    model = network(kind=kind, recurrent_dropout=1 - 1e-12, layers=1)
    plain = network(kind=kind)
    torch.testing.assert_close(model(inputs), plain(inputs))
    model.train()
    apart = network(kind=kind).train()
    for name, values in apart.named_parameters():
        if "weight_hh" in name:
            values.data.zero_()
    torch.testing.assert_close(model(inputs), apart(inputs))
    torch.testing.assert_close(model.eval()(inputs), plain(inputs))


@pytest.mark.parametrize("kind", [*sorted(TORCH), "gru_d"])
def test_recurrent_dropout_takes_the_same_weights_at_every_step(kind: Any) -> None:
    """Two equal histories of one batch stay equal, and a draw of weights is some weights' own."""
    inputs = {name: values[[0, 0]] for name, values in batch().items()}
    model = network(kind=kind, recurrent_dropout=0.5).train()
    torch.manual_seed(5)
    first = model(inputs)
    torch.testing.assert_close(first[0], first[1])
    torch.manual_seed(5)
    weights = next(p for n, p in model.named_parameters() if "weight_hh" in n)
    drawn = nn.functional.dropout(weights.detach(), 0.5)
    plain = network(kind=kind)
    next(p for n, p in plain.named_parameters() if "weight_hh" in n).data = drawn
    torch.testing.assert_close(first, plain(inputs))


def test_hidden_channels_hide_their_extremes_too() -> None:
    model = network(extremes=True, input_dropout=1 - 1e-12).train()
    inputs = batch()
    other = inputs | {name: inputs[name] + 1 for name in ("carried", "least", "greatest", "since")}
    torch.testing.assert_close(model(inputs), model(other))
