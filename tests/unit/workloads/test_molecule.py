"""The workload that makes molecules: what it learns, what each objective moves, how it draws."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medray.errors import DataError, PackageError, UsageError
from medray.molecules import tokens
from medray.molecules.text import as_bytes
from medray.workload import GenerativeWorkload
from medray.workloads.molecule import Molecule
from medray.workloads.molecule.params import MoleculeParams

TASK = Molecule()
SMILES = ["CCO", "CCN", "c1ccccc1", "CC(=O)O", "CCCl", "C1CC1", "CCOC", "CNC", "OCCO", "CC#N"]


def asked(**more: Any) -> MoleculeParams:
    small: dict[str, Any] = {
        "hidden": 16,
        "embedding": 8,
        "min_molecules": 1,
        "latent": {"dim": 4, "encoder": 8},
        **more,
    }
    return MoleculeParams.model_validate(small)


def columns(smiles: list[str] = SMILES) -> dict[str, Any]:
    return {
        "item_id": np.array([str(i) for i in range(len(smiles))], object),
        "smiles": as_bytes(smiles),
        "logS": np.arange(len(smiles)),
    }


def learned(params: MoleculeParams) -> tuple[Any, dict[str, torch.nn.Module]]:
    items = TASK.items(columns(), params)
    fitted = TASK.fit(TASK.summarize(items, params), params)
    torch.manual_seed(0)
    return fitted, TASK.build_modules(params, fitted)


def test_it_makes_items_and_predicts_nothing() -> None:
    params = asked()
    fitted, _ = learned(params)
    assert isinstance(TASK, GenerativeWorkload)
    assert TASK.targets(params, fitted) == ()
    assert set(TASK.items(columns(), params)) == {"item_id", "smiles"}


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    import pyarrow as pa

    params, whole = asked(), columns()
    parts = [
        TASK.summarize({name: values[at : at + 3] for name, values in whole.items()}, params)
        for at in range(0, len(SMILES), 3)
    ]
    assert TASK.fit(pa.concat_tables(parts), params) == TASK.fit(
        TASK.summarize(whole, params), params
    )
    assert TASK.fit(pa.concat_tables(parts), params).molecules == len(SMILES)


def test_nothing_to_write_with_is_said() -> None:
    params = asked(min_molecules=50)
    with pytest.raises(DataError, match="min_molecules"):
        TASK.fit(TASK.summarize(columns(), params), params)


@pytest.mark.parametrize("dim", [0, 4])
def test_each_objective_moves_only_what_it_trains(dim: int) -> None:
    params = asked(latent={"dim": dim, "encoder": 8})
    fitted, modules = learned(params)
    batch = TASK.collate(columns(), params, fitted)
    rng = torch.Generator().manual_seed(0)
    objectives = TASK.objectives(params, fitted)
    assert [one.name for one in objectives] == (
        ["write", "critic", "generator"] if dim else ["write"]
    )
    trained: set[str] = set()
    for objective in objectives:
        for module in modules.values():
            module.zero_grad()
        for name, module in modules.items():
            module.requires_grad_(name in objective.trains)
        objective.loss(modules, batch, rng).backward()
        moved = {
            name
            for name, module in modules.items()
            if any(
                p.grad is not None and float(p.grad.abs().sum()) > 0 for p in module.parameters()
            )
        }
        assert moved == set(objective.trains)
        trained |= moved
    assert trained == set(modules)


def test_the_critic_learns_more_often_than_the_generator() -> None:
    params = asked(gan={"critic_steps": 4})
    fitted, _ = learned(params)
    every = {one.name: one.every for one in TASK.objectives(params, fitted)}
    assert every == {"write": 1, "critic": 1, "generator": 4}


def test_cost_is_that_of_the_tokens_and_of_no_padding() -> None:
    params = asked()
    fitted, modules = learned(params)
    for module in modules.values():
        module.eval()
    batch = TASK.collate(columns(), params, fitted)
    found = TASK.predict(modules, batch, params)
    assert found["tokens"].tolist() == [
        len(tokens.split(one, "smiles")) + 1
        for one in SMILES  # and the end
    ]
    alone = TASK.predict(modules, TASK.trim({"ids": batch["ids"][:1]}), params)
    torch.testing.assert_close(alone["nats"][0], found["nats"][0])
    numbers = {name: values.detach().numpy() for name, values in found.items()}
    measured = TASK.measure(numbers, {}, params, fitted)
    assert measured["loss"] == pytest.approx(numbers["nats"].sum() / numbers["tokens"].sum())


def test_the_same_draw_gives_the_same_molecules() -> None:
    params = asked()
    fitted, modules = learned(params)

    def drawn(way: str, seed: int) -> list[str]:
        rng = torch.Generator().manual_seed(seed)
        return TASK.sample(modules, 9, rng, params, fitted, way=way)

    assert TASK.ways(params) == ("gan", "normal")
    assert drawn("gan", 1) == drawn("gan", 1)
    assert len({tuple(drawn(way, seed)) for way in ("gan", "normal") for seed in (1, 2)}) == 4
    assert set("".join(drawn("gan", 3))) <= set("".join(SMILES))
    with pytest.raises(UsageError, match="lm"):
        drawn("lm", 1)


def test_without_latents_it_is_a_language_model() -> None:
    params = asked(latent={"dim": 0})
    fitted, modules = learned(params)
    assert set(modules) == {"decoder"}
    assert TASK.ways(params) == ("lm",)
    rng = torch.Generator().manual_seed(0)
    assert len(TASK.sample(modules, 3, rng, params, fitted, way="lm")) == 3
    assert TASK.latents(modules, {}, rng, params, fitted) == {}
    with pytest.raises(ValidationError, match="latent"):
        asked(latent={"dim": 0}, gan={"hidden": 8})


def test_latents_of_data_and_of_every_way() -> None:
    params = asked()
    fitted, modules = learned(params)
    batch = TASK.collate(columns(), params, fitted)
    found = TASK.latents(modules, batch, torch.Generator().manual_seed(0), params, fitted)
    assert {name: tuple(z_BD.shape) for name, z_BD in found.items()} == {
        "data": (10, 4),
        "gan": (10, 4),
        "normal": (10, 4),
    }


@pytest.mark.parametrize("notation", ["smiles", "selfies"])
def test_the_example_is_read_by_collate_and_known(notation: str) -> None:
    params = asked(notation=notation)
    fitted, modules = learned(params)
    example = TASK.example(params, fitted, 2)
    ids_BT = TASK.collate(example, params, fitted)["ids"]
    assert len(ids_BT) == 2
    assert TASK.predict(modules, {"ids": ids_BT}, params)["nats"].isfinite().all()
    assert np.array_equal(example["smiles"], TASK.example(params, fitted, 2)["smiles"])


def test_tokens_never_seen_are_counted() -> None:
    params = asked()
    fitted, _ = learned(params)
    unseen = TASK.unseen({"smiles": as_bytes(["CCO", "CC[Se]C", "BrBr"])}, params, fitted)
    assert unseen is not None
    assert unseen.tolist() == [0, 1, 2]


def test_there_is_nothing_to_explain() -> None:
    params = asked()
    fitted, modules = learned(params)
    with pytest.raises(PackageError):
        TASK.explain(modules, columns(), "x", 0, params, fitted)
