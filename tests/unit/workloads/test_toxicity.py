"""The workload of molecules' properties: labels, features, losses, explanations, baselines."""

from typing import Any

import molecules as made
import numpy as np
import pytest
import torch
from pydantic import ValidationError

from medray.errors import DataError
from medray.models.properties import Kind
from medray.molecules.text import as_bytes, as_codes
from medray.package import forward
from medray.workload import Columns, RaggedWorkload
from medray.workloads.toxicity import Toxicity, ToxicityFitted, ToxicityParams
from medray.workloads.toxicity.params import SIMILARITY

TASK = Toxicity()
SMILES = made.some(40)
KINDS: tuple[Kind, ...] = ("mlp", "gru", "mpnn")


def _columns(**labels: Any) -> Columns:
    return {"smiles": as_bytes(SMILES), **{k: np.array(v) for k, v in labels.items()}}


def _params(**changes: Any) -> ToxicityParams:
    plain = {"targets": ("ring",), "hidden": 8, "fingerprint": {"places": 128}, "steps": 2}
    return ToxicityParams.model_validate(plain | changes)


def _fit(columns: Columns, params: ToxicityParams) -> ToxicityFitted:
    fitted = TASK.fit(TASK.summarize(columns, params), params)
    return ToxicityFitted.model_validate_json(fitted.model_dump_json())


def _modules(params: ToxicityParams, fitted: ToxicityFitted) -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    built = TASK.build_modules(params, fitted)
    return {name: module.eval() for name, module in built.items()}


RING = [made.aromatic(one) for one in SMILES]
ALL = _params(members=3, variants=[{"network": kind} for kind in KINDS])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": ("a", "a")}, "each once"),
        ({"targets": (SIMILARITY,)}, SIMILARITY),
        ({"variants": [{}, {}]}, "members"),
        ({"monitor": "rmse"}, "no rmse"),
        ({"task": "regression", "monitor": "auroc"}, "no auroc"),
        ({"transform": "log"}, "regression"),
        ({"task": "regression", "class_weights": "balanced"}, "binary"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        _params(**changes)


def test_params_of_older_packages_mean_the_same_networks() -> None:
    """Neither readout nor a variant's descriptors were written then: means, and all as asked."""
    for described in (True, False):
        old = _params(members=2, variants=[{"network": "mpnn"}, {}], descriptors=described)
        assert [(one.readout, one.descriptors) for one in old.ensemble] == [("mean", described)] * 2


@pytest.mark.parametrize(("around", "read"), [(True, [True, False]), (False, [True, False])])
def test_members_differ_in_what_they_read(around: bool, read: list[bool]) -> None:
    """Descriptors are learned where one member reads them, and change no other's answer."""
    variants = [{"network": "mpnn", "readout": "sum", "descriptors": one} for one in read]
    params = _params(members=2, variants=variants, descriptors=around)
    columns = _columns(ring=RING)
    fitted = _fit(columns, params)
    assert fitted.descriptors.width > 0
    modules = _modules(params, fitted)
    batch = dict(TASK.collate(columns, params, fitted))
    other = batch | {"descriptors": batch["descriptors"] + 1}
    with torch.no_grad():
        same = [torch.equal(one(batch), one(other)) for one in modules.values()]
    assert same == [not one for one in read]


def test_descriptors_that_nobody_reads_are_not_learned() -> None:
    params = _params(members=2, variants=[{"descriptors": False}] * 2)
    columns = _columns(ring=RING)
    fitted = _fit(columns, params)
    assert fitted.descriptors.width == 0
    assert (
        _modules(params, fitted)["network_1"](TASK.collate(columns, params, fitted)).shape[1] == 1
    )


def test_labels_that_make_no_sense_are_refused() -> None:
    params = _params()
    with pytest.raises(DataError, match="no column 'ring'"):
        TASK.truth(_columns(), params)
    with pytest.raises(DataError, match="other values than 0 and 1"):
        TASK.truth(_columns(ring=[2.0] * 40), params)
    with pytest.raises(DataError, match="no number"):
        TASK.truth(_columns(ring=["yes"] * 40), params)
    with pytest.raises(DataError, match="nothing to tell apart"):
        _fit(_columns(ring=[1.0] * 39 + [np.nan]), params)
    with pytest.raises(DataError, match="nothing to learn"):
        _fit(_columns(ring=[1.5] * 40), _params(task="regression"))
    with pytest.raises(DataError, match="no logarithm"):
        _fit(_columns(ring=[-1.0] + [2.0] * 39), _params(task="regression", transform="log"))


def test_a_missing_label_teaches_nothing() -> None:
    """The loss, and so the weights, are as if the molecule's label had never been there."""
    params = _params(targets=("ring", "other"))
    other = [float(row % 2) for row in range(40)]
    columns = _columns(ring=RING, other=other)
    fitted = _fit(columns, params)
    modules = _modules(params, fitted)
    (objective,) = TASK.objectives(params, fitted)

    def loss(labels: np.ndarray) -> torch.Tensor:
        batch = dict(TASK.collate(columns, params, fitted))
        return objective.loss(
            modules, batch | {"labels": torch.from_numpy(labels)}, torch.Generator()
        )

    labels = np.stack([RING, other], axis=1).astype(np.float32)
    with torch.no_grad():
        output = modules["network"](TASK.collate(columns, params, fitted)).double().numpy()
    labels[:30, 0] = np.nan
    cost = np.logaddexp(0, output) - labels * output
    assert float(loss(labels).detach()) == pytest.approx(np.nanmean(cost), rel=1e-5)
    labels[:] = np.nan
    nothing = loss(labels)
    nothing.backward()
    assert float(nothing.detach()) == 0
    assert all(float(p.grad.abs().sum()) == 0 for p in modules["network"].parameters())


def test_balanced_weights_make_both_answers_count_alike() -> None:
    """A network that knows nothing has the loss ln 2, whatever the share of positives."""
    params = _params(class_weights="balanced")
    columns = _columns(ring=[1.0] * 4 + [0.0] * 36)
    fitted = _fit(columns, params)
    modules = _modules(params, fitted)
    last = list(modules["network"].parameters())[-2:]
    with torch.no_grad():
        last[0].zero_()
        last[1].fill_(1.0)
    (objective,) = TASK.objectives(params, fitted)
    batch = TASK.collate(columns, params, fitted)
    found = float(objective.loss(modules, batch, torch.Generator()).detach())
    assert found == pytest.approx((np.log1p(np.exp(1)) - 1 + np.log1p(np.exp(1))) / 2, rel=1e-5)


def test_numbers_are_learned_in_standard_deviations_and_told_in_the_unit() -> None:
    params = _params(task="regression", targets=("dose",), transform="log")
    dose = np.exp(np.linspace(0, 3, 40))
    columns = _columns(dose=dose)
    fitted = _fit(columns, params)
    target = TASK.targets(params, fitted)[0]
    standard = target.scale.standard(dose)
    assert standard.mean() == pytest.approx(0, abs=1e-9)
    assert standard.std() == pytest.approx(1)
    told = TASK.measure({"dose": standard}, columns, params, fitted)
    assert told == pytest.approx({"loss": 0.0, "rmse": 0.0}, abs=1e-9)
    off = TASK.measure({"dose": standard + 1}, columns, params, fitted)
    assert off["loss"] == pytest.approx(1)
    expected = np.sqrt(np.mean((target.scale.back(standard + 1) - dose) ** 2))
    assert off["rmse"] == pytest.approx(expected)


def test_smiles_are_read_in_every_form() -> None:
    columns = _columns(ring=RING)
    fitted = _fit(columns, ALL)
    batch = TASK.collate(columns, ALL, fitted)
    objects = np.array(SMILES, object)
    for form in (as_codes(as_bytes(SMILES)), objects):
        other = TASK.collate({"smiles": form}, ALL, fitted)
        assert set(batch) - set(other) == {"labels"}
        assert all(torch.equal(batch[name], other[name]) for name in other)


def test_what_was_learned_from_is_near() -> None:
    columns = _columns(ring=RING)
    fitted = _fit(columns, ALL)
    batch = TASK.collate({"smiles": as_bytes([SMILES[0], "OB(O)c1ccsc1"])}, ALL, fitted)
    assert batch["similarity"][0] == 1
    assert batch["similarity"][1] < 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_framing_and_neighbours_change_no_answer(kind: Kind) -> None:
    assert isinstance(TASK, RaggedWorkload)
    params = _params(network=kind)
    columns = _columns(ring=RING)
    fitted = _fit(columns, params)
    modules = _modules(params, fitted)
    with torch.no_grad():
        whole = TASK.predict(modules, TASK.collate(columns, params, fitted), params)["ring"]
        for row in (0, 17, 39):
            one = TASK.collate({"smiles": as_bytes([SMILES[row]])}, params, fitted)
            framed = TASK.framed(one)
            answer = TASK.predict(modules, framed, params)["ring"]
            torch.testing.assert_close(answer[0], whole[row], rtol=1e-4, atol=1e-5)
            shapes = {v.shape for v in TASK.framed(TASK.trim(framed)).values()}
            assert shapes == {v.shape for v in framed.values()}


@pytest.mark.parametrize("network", [*KINDS, "all"])
def test_what_atoms_add_sums_up_to_the_answer(network: str) -> None:
    params = ALL if network == "all" else _params(network=network)
    columns = _columns(ring=RING)
    fitted = _fit(columns, params)
    modules = _modules(params, fitted)
    some = {"smiles": as_bytes([SMILES[3], SMILES[30], "C[C@H](Cl)Br"])}
    found = TASK.explain(modules, some, "ring", 0, params, fitted)
    with torch.no_grad():
        batch = TASK.collate(some, params, fitted)
        answer = TASK.predict(modules, batch, params)["ring"].numpy()
    assert found.answer == pytest.approx(answer, abs=1e-4)
    assert [len(one) for one in found.atoms][2] == 4
    for atoms, rest, whole in zip(found.atoms, found.rest, found.answer, strict=True):
        assert np.abs(atoms).sum() > 0
        reach = max(abs(whole - rest), np.abs(atoms).max())
        assert atoms.sum() + rest == pytest.approx(whole, abs=0.02 * reach + 2e-4)
    with pytest.raises(DataError, match="no answer of a network"):
        TASK.explain(modules, some, SIMILARITY, 0, params, fitted)


def test_only_atoms_that_say_something_are_credited() -> None:
    """An answer that hangs on bromine alone: bromine has all of it."""
    params = _params(network="mpnn", descriptors=False)
    columns = {"smiles": as_bytes(["CCO", "CCBr"]), "ring": np.array([0.0, 1.0])}
    fitted = _fit(columns, params)
    modules = _modules(params, fitted)
    network: Any = modules["network"]
    with torch.no_grad():
        for table in (network.atom.table, network.bond.table, network.own.table):
            table.weight.zero_()
        network.gather.weight.zero_()
        network.gather.bias.zero_()
        network.own.table.weight[9] = 1.0  # element bromine: the ninth that has its own code
    found = TASK.explain(modules, {"smiles": as_bytes(["OCCBr"])}, "ring", 0, params, fitted)
    assert found.atoms[0][:3] == pytest.approx([0, 0, 0], abs=1e-6)
    assert abs(found.atoms[0][3]) > 1e-3


def test_forests_stand_beside_the_network() -> None:
    params = _params(targets=("ring", "other"))
    other = [np.nan if row % 3 else float(row % 2) for row in range(40)]
    columns = _columns(ring=RING, other=other)
    fitted = _fit(columns, params)
    ((name, answers),) = TASK.baselines(columns, columns, params, fitted, 0).items()
    assert "forest" in name
    assert not isinstance(answers, str)
    ring = answers["ring"]
    assert ((ring > 0.5) == (np.array(RING) == 1)).mean() > 0.9
    assert ((answers["other"] >= 0) & (answers["other"] <= 1)).all()
    alone = _columns(ring=RING, other=[1.0] * 40)
    (why,) = TASK.baselines(alone, columns, params, fitted, 0).values()
    assert isinstance(why, str)
    assert "other" in why


def test_the_example_is_answered() -> None:
    columns = _columns(ring=RING)
    fitted = _fit(columns, ALL)
    example = TASK.example(ALL, fitted, 3)
    assert example["smiles"].dtype == np.uint8
    answers = forward(TASK, _modules(ALL, fitted), example, ALL, fitted, torch.device("cpu"))
    assert set(answers) == {"ring", SIMILARITY}
    assert all(np.isfinite(one).all() for one in answers.values())
