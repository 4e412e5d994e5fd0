"""Networks on molecules: against messages passed by hand, and what must not change an answer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from rdkit import Chem
from torch import Tensor

from medray.models.properties import Kind, Layout, MessagePassing, Readout, build
from medray.molecules.graphs import ATOM_SIZES, BOND_SIZES, graphs

LAYOUT = Layout(
    places=32,
    descriptors=3,
    tokens=9,
    atom_sizes=ATOM_SIZES,
    bond_sizes=BOND_SIZES,
    hidden=16,
    layers=1,
    steps=3,
    dropout=0.0,
    input_dropout=0.0,
    outputs=2,
)
SMILES = ("CC(=O)Nc1ccc(O)cc1", "C", "C1CC1C(F)(F)Br")


def _graph_batch(smiles: tuple[str, ...]) -> dict[str, Tensor]:
    found = graphs(smiles)
    return {
        "atoms": torch.from_numpy(found.atoms),
        "bonds": torch.from_numpy(found.bonds),
        "ends": torch.from_numpy(found.ends),
        "descriptors": torch.zeros(len(smiles), 3),
    }


def _network(kind: Kind, layout: Layout = LAYOUT) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(kind, layout).eval()


def _by_hand(network: MessagePassing, smiles: str, readout: Readout) -> Tensor:
    """D-MPNN as the paper's equations say, one bond after another."""
    found = graphs([smiles])
    atoms, bonds = torch.from_numpy(found.atoms[0]), torch.from_numpy(found.bonds[0])
    ends = [tuple(pair) for pair in found.ends[0].tolist()]
    first = [
        network.atom(atoms[a : a + 1])[0] + network.bond(bonds[e : e + 1])[0]
        for e, (a, _) in enumerate(ends)
    ]
    state = [torch.relu(one) for one in first]
    for _ in range(network.steps - 1):
        message = [
            sum((state[k] for k, (w, to) in enumerate(ends) if to == a and w != b), first[e] * 0)
            for e, (a, b) in enumerate(ends)
        ]
        state = [torch.relu(first[e] + network.message(one)) for e, one in enumerate(message)]
    zero = torch.zeros(LAYOUT.hidden)
    hidden = [
        torch.relu(
            network.own(atoms[a : a + 1])[0]
            + network.gather(sum((state[e] for e, (_, to) in enumerate(ends) if to == a), zero))
        )
        for a in range(len(atoms))
    ]
    stacked = torch.stack(hidden)
    whole = {"mean": stacked.mean(0), "sum": stacked.sum(0) / 16}[readout]
    return network.head(torch.cat([whole, torch.zeros(3)])[None])[0]


@torch.no_grad()
@pytest.mark.parametrize("readout", ["mean", "sum"])
def test_messages_go_as_the_equations_say(readout: Readout) -> None:
    network = _network("mpnn", replace(LAYOUT, readout=readout))
    assert isinstance(network, MessagePassing)
    answers = network(_graph_batch(SMILES))
    for answer, smiles in zip(answers, SMILES, strict=True):
        torch.testing.assert_close(answer, _by_hand(network, smiles, readout))
        torch.testing.assert_close(answer, network(_graph_batch((smiles,)))[0])


@torch.no_grad()
def test_the_order_of_atoms_is_nothing_to_a_graph() -> None:
    network = _network("mpnn")
    mol = Chem.MolFromSmiles(SMILES[0])
    other = Chem.MolToSmiles(
        Chem.RenumberAtoms(mol, list(range(mol.GetNumAtoms()))[::-1]), canonical=False
    )
    pair = network(_graph_batch((SMILES[0], other)))
    torch.testing.assert_close(pair[0], pair[1])


@torch.no_grad()
def test_a_text_is_read_to_its_end_and_no_further() -> None:
    network = _network("gru")
    ids = torch.tensor([[4, 5, 6, 2, 0, 0], [7, 2, 0, 0, 0, 0]], dtype=torch.int16)
    batch = {"ids": ids, "descriptors": torch.zeros(2, 3)}
    whole = network(batch)
    for row, length in enumerate((4, 2)):
        alone = {"ids": ids[row : row + 1, :length], "descriptors": torch.zeros(1, 3)}
        torch.testing.assert_close(whole[row : row + 1], network(alone))
    backwards = network({"ids": ids[:1, [2, 1, 0, 3, 4, 5]], "descriptors": torch.zeros(1, 3)})
    assert not torch.allclose(whole[:1], backwards), "order says something"


@torch.no_grad()
@pytest.mark.parametrize("kind", ["mlp", "gru", "mpnn"])
def test_descriptors_are_read(kind: Kind) -> None:
    network = _network(kind)
    batch = _graph_batch(SMILES[:1]) | {
        "counts": torch.ones(1, 32, dtype=torch.uint8),
        "ids": torch.tensor([[4, 2]], dtype=torch.int16),
    }
    other = batch | {"descriptors": torch.ones(1, 3)}
    assert not torch.allclose(network(batch), network(other))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["mlp", "gru", "mpnn"])
def test_a_network_made_without_descriptors_reads_none(kind: Kind) -> None:
    network = _network(kind, replace(LAYOUT, descriptors=0))
    batch = _graph_batch(SMILES[:1]) | {
        "counts": torch.ones(1, 32, dtype=torch.uint8),
        "ids": torch.tensor([[4, 2]], dtype=torch.int16),
    }
    other = batch | {"descriptors": torch.ones(1, 3)}
    torch.testing.assert_close(network(batch), network(other), rtol=0, atol=0)


def test_hidden_tokens_are_hidden_in_training_alone() -> None:
    network = _network("gru", replace(LAYOUT, input_dropout=0.9))
    batch = {"ids": torch.full((1, 30), 4, dtype=torch.int16), "descriptors": torch.zeros(1, 3)}
    torch.testing.assert_close(network(batch), network(batch))
    network.train()
    torch.manual_seed(1)
    assert not torch.allclose(network(batch), network(batch))


@pytest.mark.parametrize("kind", ["mlp", "gru", "mpnn"])
def test_each_learns_a_few_molecules_by_heart(kind: Kind) -> None:
    torch.manual_seed(0)
    network = build(kind, LAYOUT)
    rng = np.random.default_rng(0)
    smiles = ("CCO", "CCN", "CCF", "CCCl", "CC=O", "CC#N", "CBr", "CS")
    batch = _graph_batch(smiles) | {
        "counts": torch.from_numpy(rng.integers(0, 3, (8, 32)).astype(np.uint8)),
        "ids": torch.from_numpy(rng.integers(4, 9, (8, 5)).astype(np.int16)),
    }
    wanted = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(4, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(150):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(batch), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1
