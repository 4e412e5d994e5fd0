"""Recurrent networks over the time steps of a record.

Shapes: B histories, T steps of the longest, V channels, S facts, K codes of a step, H hidden
units, O outputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Kind = Literal["elman", "lstm", "gru", "gru_d"]
Pool = Literal["last", "max", "mean", "all"]
_FIRST_DECAY = 0.1  # a value a day old starts as 85 % of what it was
_CELLS: Mapping[str, Callable[..., nn.Module]] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@dataclass(frozen=True, slots=True)
class Layout:
    """What a network is built for.

    channels, facts  V and S. codes: size of the table of codes without channel (0: none).
    hidden, layers   units of a layer, and how many are stacked.
    input_dropout    share of the channels of a history that are hidden from the network, whole.
    dropout          before the output, and between layers.
    recurrent_dropout  share of the weights from state to state that an update does without
                     (DropConnect; Merity et al. 2018, arXiv:1708.02182).
    bidirectional    a second set of units reads from the end (not gru_d).
    extremes         the least and greatest value of a step are read beside its mean.
    """

    kind: Kind
    channels: int
    facts: int
    codes: int
    embedding: int
    hidden: int
    layers: int
    dropout: float
    input_dropout: float
    pool: Pool
    outputs: int
    recurrent_dropout: float = 0.0
    bidirectional: bool = False
    extremes: bool = False

    @property
    def width(self) -> int:
        """Numbers in the state of a layer after one step."""
        return self.hidden * (2 if self.bidirectional else 1)


class Recurrent(nn.Module):
    """Time steps → outputs (B, O), read from the state after the last step and the facts.

    With `max` or `mean` the states of all steps are pooled and read beside the last one; with `all`
    their maximum and their mean are.
    elman is h_t = tanh(W x_t + U h_{t-1} + b), y = W' h_T + b' (Elman 1990); lstm and gru are
    torch's; gru_d lets values and states decay over gaps (Che et al. 2018, arXiv:1606.01865).
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        facts = 2 * layout.facts
        self.embed = nn.Embedding(layout.codes + 1, layout.embedding, padding_idx=0)
        codes = layout.embedding if layout.codes else 0
        others = facts + codes + 1  # and how long it is until the prediction
        others += 2 * layout.channels if layout.extremes else 0
        if layout.kind == "gru_d":
            self.first: nn.Module = DecayGru(layout.channels, others, layout.hidden)
        else:
            width = 3 * layout.channels + others
            self.first = _layer(layout, width)
        self.others = nn.ModuleList(_layer(layout, layout.width) for _ in range(layout.layers - 1))
        self.dropout = nn.Dropout(layout.dropout)
        pooled = layout.width * {"last": 1, "max": 2, "mean": 2, "all": 3}[layout.pool]
        self.output = nn.Linear(pooled + facts, layout.outputs)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """`carried`, `observed`, `since`, `gap` (B, T, V), `hours` (B, T), `lengths` (B,), `facts`
        (B, 2S), `codes` (B, T, K), with extremes `least`, `greatest` (B, T, V) → (B, O). `present`
        (B, T, K), if it is there, is how much of each code."""  # noqa: D205, D209
        state_BTH = self.states(batch)
        return self.read(state_BTH, batch)

    def states(self, batch: Mapping[str, Tensor]) -> Tensor:
        """States of the uppermost layer after every step: (B, T, H); zeros past the end."""
        keep = _hidden_channels(batch["carried"], self.layout.input_dropout, self.training)
        carried, observed = batch["carried"] * keep, batch["observed"].float() * keep
        facts_BTS = batch["facts"][:, None].expand(-1, carried.shape[1], -1)
        hours_BT1 = _compressed(batch["hours"])[..., None]
        parts = [facts_BTS, hours_BT1]
        if self.layout.codes:
            vectors = self.embed(batch["codes"])
            if "present" in batch:
                vectors = vectors * batch["present"][..., None]
            parts.append(vectors.sum(dim=2))
        if self.layout.extremes:
            parts += [batch["least"] * keep, batch["greatest"] * keep]
        rest = torch.cat(parts, dim=2)
        lengths = batch["lengths"].clamp(min=1)
        if isinstance(self.first, DecayGru):
            drop = self.layout.recurrent_dropout if self.training else 0.0
            state = self.first(carried, observed, batch["gap"] * keep, rest, lengths, drop)
        else:
            since = _compressed(batch["since"]) * keep
            state = self._run(self.first, torch.cat([carried, observed, since, rest], 2), lengths)
        for layer in self.others:
            state = self._run(layer, self.dropout(state), lengths)
        return state

    def _run(self, layer: nn.Module, x_BTX: Tensor, lengths_B: Tensor) -> Tensor:
        """States of one of torch's layers (B, T, H); zeros past the end."""
        drop = self.layout.recurrent_dropout if self.training else 0.0
        packed = pack_padded_sequence(
            x_BTX, lengths_B.cpu(), batch_first=True, enforce_sorted=False
        )
        fewer = {  # the same weights are missing at every step
            name: functional.dropout(weights, drop)
            for name, weights in layer.named_parameters()
            if drop and name.startswith("weight_hh")
        }
        states, _ = functional_call(layer, fewer, (packed,))
        return pad_packed_sequence(states, True, total_length=x_BTX.shape[1])[0]

    def read(self, state_BTH: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Outputs (B, O) from states and facts."""
        lengths = batch["lengths"].clamp(min=1)
        last_BH = state_BTH[torch.arange(len(lengths), device=lengths.device), lengths - 1]
        if self.layout.bidirectional:  # whose second half has read all at the first step
            half = self.layout.hidden
            last_BH = torch.cat([last_BH[:, :half], state_BTH[:, 0, half:]], dim=1)
        seen = torch.arange(state_BTH.shape[1], device=lengths.device)[None] < lengths[:, None]
        parts = [last_BH]
        if self.layout.pool in ("max", "all"):
            parts.append(state_BTH.masked_fill(~seen[..., None], -torch.inf).amax(dim=1))
        if self.layout.pool in ("mean", "all"):
            total = (state_BTH * seen[..., None]).sum(dim=1)
            parts.append(total / lengths[:, None])
        return self.output(torch.cat([self.dropout(torch.cat(parts, 1)), batch["facts"]], dim=1))


class DecayGru(nn.Module):
    """GRU-D: between observations values fall back to the mean and states fade.

    Che et al. 2018, section 2.3, with three of our own: values are standardised, so that their mean
    is 0; gaps are on the scale of `_compressed`; the reset gate is that of torch's cell, which acts
    after the matrix.
    """

    def __init__(self, channels: int, others: int, hidden: int) -> None:
        super().__init__()
        # diagonal, as in the paper; above 0, where the decay has a gradient
        self.value_decay = nn.Parameter(torch.full((channels,), _FIRST_DECAY))
        self.value_bias = nn.Parameter(torch.zeros(channels))
        self.state_decay = nn.Linear(channels, hidden)
        self.cell = nn.GRUCell(2 * channels + others, hidden)
        self.hidden = hidden

    def forward(
        self,
        carried_BTV: Tensor,
        observed_BTV: Tensor,
        gap_BTV: Tensor,
        rest_BTR: Tensor,
        lengths_B: Tensor,
        drop: float = 0.0,
    ) -> Tensor:
        """States after every step (B, T, H); zeros past the end. `gap`: of `records.steps.gaps`."""
        gap_BTV = _compressed(gap_BTV)
        fade_BTV = torch.exp(-torch.relu(gap_BTV * self.value_decay + self.value_bias))
        value_BTV = carried_BTV * torch.where(observed_BTV > 0, 1.0, fade_BTV)
        fade_BTH = torch.exp(-torch.relu(self.state_decay(gap_BTV)))
        x_BTX = torch.cat([value_BTV, observed_BTV, rest_BTR], dim=2)
        weight_GH = functional.dropout(self.cell.weight_hh, drop)
        # what the inputs add to the gates does not wait for the states
        x_BTG = functional.linear(x_BTX, self.cell.weight_ih, self.cell.bias_ih)
        state_BH = x_BTX.new_zeros(len(x_BTX), self.hidden)
        states: list[Tensor] = []
        for step in range(x_BTX.shape[1]):
            faded_BH = state_BH * fade_BTH[:, step]
            h_BG = functional.linear(faded_BH, weight_GH, self.cell.bias_hh)
            state_BH = _gated(x_BTG[:, step], h_BG, faded_BH)
            states.append(state_BH)
        state_BTH = torch.stack(states, dim=1)
        seen = torch.arange(state_BTH.shape[1], device=lengths_B.device)[None] < lengths_B[:, None]
        return state_BTH * seen[..., None]


def _layer(layout: Layout, width: int) -> nn.Module:
    kind = _CELLS["gru" if layout.kind == "gru_d" else layout.kind]
    return kind(width, layout.hidden, batch_first=True, bidirectional=layout.bidirectional)


def _gated(x_BG: Tensor, h_BG: Tensor, state_BH: Tensor) -> Tensor:
    """The next state of a GRU, in torch's order of gates: reset, update, new."""
    reset_x, update_x, new_x = x_BG.chunk(3, dim=1)
    reset_h, update_h, new_h = h_BG.chunk(3, dim=1)
    update_BH = torch.sigmoid(update_x + update_h)
    new_BH = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
    return (1 - update_BH) * new_BH + update_BH * state_BH


def _compressed(hours: Tensor) -> Tensor:
    """Hours on a scale where a day is near 1.6: from minutes to years without large numbers."""
    return torch.log1p(hours) / 2


def _hidden_channels(like_BTV: Tensor, share: float, training: bool) -> Tensor:
    """1 for the channels of each history that are kept, (B, 1, V), or one 1 when all are."""
    if not training or not share:
        return like_BTV.new_ones(1, 1, 1)
    kept = torch.rand(like_BTV.shape[0], 1, like_BTV.shape[2], device=like_BTV.device) >= share
    return kept.to(like_BTV.dtype)
