"""Networks that answer something about a molecule: from its fingerprint, graph or text.

Each reads what it is made for, and the descriptors of the whole molecule beside it, before fully
connected layers. Where a batch holds `weight_*`, its inputs count so much: what an explanation
takes apart.
Shapes: B molecules, F folded places, D descriptors, A atoms, E directed bonds, K properties of an
atom, L of a bond, T tokens, H hidden units, O outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["mlp", "gru", "mpnn"]
Readout = Literal["mean", "sum"]
_SIZE = 16  # atoms of a common molecule: brings sums over atoms to the size of their means
_UNKNOWN = 3  # id of tokens that are not in the vocabulary (medray.molecules.tokens)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a network is built for.

    places, descriptors, tokens  F, D, and ids of the vocabulary; with D of 0, descriptors of a
                                 batch are not read.
    atom_sizes, bond_sizes       values that each property can have.
    hidden, layers   units of a layer, and how many stand before the outputs.
    steps            mpnn: how many bonds far messages go; readout: of its atoms.
    dropout          before every layer but the first; input_dropout: of fingerprint, descriptors
                     and, of a text, whole tokens.
    """

    places: int
    descriptors: int
    tokens: int
    atom_sizes: tuple[int, ...]
    bond_sizes: tuple[int, ...]
    hidden: int
    layers: int
    steps: int
    dropout: float
    input_dropout: float
    outputs: int
    readout: Readout = "mean"


class Head(nn.Module):
    """Fully connected layers: (B, inputs) → (B, O)."""

    def __init__(self, inputs: int, layout: Layout) -> None:
        super().__init__()
        widths = [inputs, *[layout.hidden] * layout.layers]
        body: list[nn.Module] = []
        for before, after in pairwise(widths):
            body += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(layout.dropout)]
        self.body = nn.Sequential(*body, nn.Linear(widths[-1], layout.outputs))

    def forward(self, x_BX: Tensor) -> Tensor:
        """Outputs (B, O)."""
        return self.body(x_BX)


class Perceptron(nn.Module):
    """`mlp`: the counts of a fingerprint, on a logarithmic scale, and descriptors."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.descriptors = layout.descriptors
        self.input_dropout = nn.Dropout(layout.input_dropout)
        self.head = Head(layout.places + layout.descriptors, layout)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """`counts` (B, F), `descriptors` (B, D) → (B, O)."""
        counts_BF = torch.log1p(batch["counts"].float())
        if "weight_counts" in batch:
            counts_BF = counts_BF * batch["weight_counts"]
        rest_BD = batch["descriptors"][:, : self.descriptors]
        return self.head(self.input_dropout(torch.cat([counts_BF, rest_BD], 1)))


class Properties(nn.Module):
    """Vectors of things with several whole-numbered properties: the sum of one per property."""

    def __init__(self, sizes: Sequence[int], width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(sum(sizes), width)
        nn.init.normal_(self.table.weight, std=len(sizes) ** -0.5)
        starts = torch.tensor([0, *accumulate(sizes)][:-1])
        self.register_buffer("starts", starts, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """(…, K) → (…, width); zeros in padding, whose first property is 0."""
        vectors = self.table(codes.long() + self.get_buffer("starts")).sum(-2)
        return vectors * (codes[..., :1] > 0)


class MessagePassing(nn.Module):
    """`mpnn`: messages along directed bonds, never straight back (D-MPNN).

    Yang et al., J. Chem. Inf. Model. 2019, 59, 3370, section 2. The molecule is the mean of its
    atoms; or their sum over a constant, for what grows with size as contributions of groups do.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        width = layout.hidden
        self.steps, self.readout = layout.steps, layout.readout
        self.descriptors = layout.descriptors
        self.atom = Properties(layout.atom_sizes, width)
        self.bond = Properties(layout.bond_sizes, width)
        self.message = nn.Linear(width, width, bias=False)
        self.own = Properties(layout.atom_sizes, width)
        self.gather = nn.Linear(width, width)
        self.dropout = nn.Dropout(layout.dropout)
        self.input_dropout = nn.Dropout(layout.input_dropout)
        self.head = Head(width + layout.descriptors, layout)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """`atoms` (B, A, K), `bonds` (B, E, L), `ends` (B, E, 2), `descriptors` → (B, O)."""
        atoms_BAK, ends_BE2 = batch["atoms"], batch["ends"]
        start_BAH, own_BAH = self.atom(atoms_BAK), self.own(atoms_BAK)
        if "weight_atoms" in batch:
            weight_BA1 = batch["weight_atoms"][..., None]
            start_BAH, own_BAH = start_BAH * weight_BA1, own_BAH * weight_BA1
        number_A = torch.arange(atoms_BAK.shape[1], device=atoms_BAK.device)
        # as products with 0 and 1: the same sums whatever stands beside a molecule
        from_BEA = (ends_BE2[:, :, :1] == number_A).to(start_BAH.dtype)
        into_BAE = (ends_BE2[:, :, 1:] == number_A).to(start_BAH.dtype).transpose(1, 2)
        first_BEH = from_BEA @ start_BAH + self.bond(batch["bonds"])
        state_BEH = torch.relu(first_BEH)
        for _ in range(self.steps - 1):
            arriving_BEH = from_BEA @ (into_BAE @ state_BEH)
            back_BEH = state_BEH.unflatten(1, (-1, 2)).flip(2).flatten(1, 2)
            state_BEH = torch.relu(first_BEH + self.message(arriving_BEH - back_BEH))
            state_BEH = self.dropout(state_BEH)
        atom_BAH = torch.relu(own_BAH + self.gather(into_BAE @ state_BEH))
        there_BA1 = (atoms_BAK[..., :1] > 0).to(atom_BAH.dtype)
        size_B1 = there_BA1.sum(1).clamp_min(1) if self.readout == "mean" else _SIZE
        whole_BH = (atom_BAH * there_BA1).sum(1) / size_B1
        rest_BD = self.input_dropout(batch["descriptors"][:, : self.descriptors])
        return self.head(torch.cat([self.dropout(whole_BH), rest_BD], 1))


class TextReader(nn.Module):
    """`gru`: tokens read from both ends; maximum, mean and last states, and descriptors.

    Not packed: a row's sums must not depend on the lengths beside it.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.hidden_tokens, self.descriptors = layout.input_dropout, layout.descriptors
        width = max(16, layout.hidden // 4)
        self.embedding = nn.Embedding(layout.tokens, width, padding_idx=0)
        self.onwards = nn.GRU(width, layout.hidden, batch_first=True)
        self.back = nn.GRU(width, layout.hidden, batch_first=True)
        self.dropout = nn.Dropout(layout.dropout)
        self.input_dropout = nn.Dropout(layout.input_dropout)
        self.head = Head(6 * layout.hidden + layout.descriptors, layout)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """`ids` (B, T), `descriptors` → (B, O)."""
        ids_BT = batch["ids"].long()
        if self.training and self.hidden_tokens:
            hidden_BT = torch.rand(ids_BT.shape, device=ids_BT.device) < self.hidden_tokens
            ids_BT = ids_BT.masked_fill(hidden_BT & (ids_BT > _UNKNOWN), _UNKNOWN)
        x_BTW = self.embedding(ids_BT)
        if "weight_tokens" in batch:
            x_BTW = x_BTW * batch["weight_tokens"][..., None]
        there_BT = ids_BT > 0
        length_B = there_BT.sum(1).clamp_min(1)
        number_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        turned_BT = (length_B[:, None] - 1 - number_T).clamp_min(0)
        parts: list[Tensor] = []
        for reader, order_BT in (
            (self.onwards, number_T.expand_as(ids_BT)),
            (self.back, turned_BT),
        ):
            across_BTW = order_BT[..., None].expand_as(x_BTW)
            state_BTH, _ = reader(x_BTW.gather(1, across_BTW))
            parts += _pooled(state_BTH, there_BT, length_B)
        rest_BD = batch["descriptors"][:, : self.descriptors]
        parts = [self.dropout(torch.cat(parts, 1)), self.input_dropout(rest_BD)]
        return self.head(torch.cat(parts, 1))


def _pooled(state_BTH: Tensor, there_BT: Tensor, length_B: Tensor) -> list[Tensor]:
    """Maximum, mean and last of the states of the tokens that are there."""
    mask_BT1 = there_BT[..., None]
    rows = torch.arange(len(state_BTH), device=state_BTH.device)
    return [
        state_BTH.masked_fill(~mask_BT1, -1.0).amax(1),  # states of a GRU lie above -1
        (state_BTH * mask_BT1).sum(1) / length_B[:, None],
        state_BTH[rows, length_B - 1],
    ]


_NETWORKS = {"mlp": Perceptron, "mpnn": MessagePassing, "gru": TextReader}


def build(kind: Kind, layout: Layout) -> nn.Module:
    """A fresh network; initialised from torch's global generator."""
    return _NETWORKS[kind](layout)
