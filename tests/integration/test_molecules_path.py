"""Molecules from a dataset to scores: train, evaluate, predict, and nights of files."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import molecules as made
import pytest
from rdkit import Chem
from rdkit.Chem.Descriptors import MolWt
from typer.testing import CliRunner

from medray import api, storage
from medray.cli import app
from medray.errors import PackageError, UsageError
from medray.package import open_package
from medray.report.document import RESEARCH_USE
from medray.score import molecules as nights
from medray.score.night import Night, Scored, places_of
from medray.score.predictor import Predictor
from medray.score.timelines import Timelines
from medray.serve.asked import Part, Request
from medray.serve.model import open_model
from medray.serve.problems import ProblemError
from medray.spec.models import RunSpec, ScoreSpec
from medray.workloads.toxicity.params import SIMILARITY

KINDS = ("mlp", "gru", "mpnn")


def _spec(folder: Path, name: str, params: dict[str, Any], epochs: int) -> RunSpec:
    return RunSpec.model_validate(
        {
            "name": name,
            "output": str(folder / name),
            "dataset": str(folder / "dataset"),
            "workload": "toxicity",
            "params": {"hidden": 16, "steps": 2, "fingerprint": {"places": 256}, **params},
            "train": {"epochs": epochs, "batch_size": 32, "optimizer": {"lr": 5e-3}},
            "evaluate": {"subgroups": [], "replicates": 100, "mistakes": 2},
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pseudonym_key: None) -> Path:
    """A dataset of 200 molecules: who has an aromatic ring, some unknown; and weights."""
    home = tmp_path_factory.mktemp("molecules")
    smiles = made.some(200)
    ring = [made.aromatic(one) if row % 7 else None for row, one in enumerate(smiles)]
    nitrogen = [float("N" in one or "n" in one) for one in smiles]
    weight = [MolWt(Chem.MolFromSmiles(one)) for one in smiles]
    made.write_molecules(home, smiles, {"ring": ring, "nitrogen": nitrogen, "weight": weight})
    return home


@pytest.fixture(scope="module")
def binary(folder: Path) -> RunSpec:
    """A trained ensemble of one network of each kind."""
    variants = [{"network": kind} for kind in KINDS]
    params = {"targets": ["ring", "nitrogen"], "members": 3, "variants": variants}
    spec = _spec(folder, "binary", params, 12)
    api.train(spec)
    return spec


def _package(spec: RunSpec) -> str:
    return f"{spec.output_uri}/package"


def _predicted(spec: RunSpec, *arguments: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, ["predict", _package(spec), *arguments, "--json"])
    assert done.exit_code in (0, 3), done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def _scores(answer: dict[str, Any]) -> dict[str, float]:
    return {score["target"]: score["score"] for score in answer["scores"]}


def test_a_report_says_what_the_network_is_worth(binary: RunSpec) -> None:
    result = api.evaluate(binary)
    report = result.report
    ring, nitrogen = report.targets
    assert (ring.kind, ring.name, nitrogen.name) == ("binary", "ring", "nitrogen")
    assert ring.auroc is not None
    assert (ring.auroc.value or 0) > 0.9
    assert report.cohort.unit == "molecules"
    assert [row.model for row in report.means] == [
        "the network",
        "random forest on count fingerprints",
    ]
    both = [one.auroc.value for one in (ring, nitrogen) if one.auroc and one.auroc.value]
    assert report.means[0].measures["AUROC"].value == pytest.approx(sum(both) / 2)
    assert [table.attribute for table in ring.subgroups] == [SIMILARITY, "domain"]
    page = Path(result.html_uri).read_text()
    assert "molecules drawn with seed 0" in page
    assert "Means over the targets" in page
    assert "patient" not in page.partition("Spec</h2>")[0].replace(RESEARCH_USE, "")
    card = (Path(_package(binary)) / "MODEL_CARD.md").read_text()
    assert "Mean of 2 targets, the network: AUROC" in card
    assert "patient" not in card.replace(RESEARCH_USE, "")


def test_a_number_is_reported_with_its_interval(folder: Path) -> None:
    params = {"task": "regression", "targets": ["weight"], "dropout": 0.0, "input_dropout": 0.0}
    spec = _spec(folder, "number", params, 20)
    api.train(spec)
    result = api.evaluate(spec)
    (weight,) = result.report.targets
    assert weight.kind == "value"
    assert weight.r_squared is not None
    assert (weight.r_squared.value or 0) > 0.8
    assert weight.wanted == pytest.approx(0.8)
    assert weight.coverage is not None
    assert 0.5 < (weight.coverage.value or 0) <= 1
    assert [model.name for model in weight.models] == [
        "the network",
        "random forest on count fingerprints",
    ]
    assert "Measured against predicted" in Path(result.html_uri).read_text()
    (answer,) = _predicted(spec, "CCCCO")
    value, low, high, near = answer["scores"]
    assert [one["text_value"] for one in (value, low, high)] == [None, "q0.1", "q0.9"]
    assert low["score"] < value["score"] < high["score"]
    assert value["score"] == pytest.approx(74, abs=15)
    assert near["target"] == SIMILARITY


def test_a_score_is_the_same_alone_in_a_batch_and_at_night(binary: RunSpec, tmp_path: Path) -> None:
    """To the bit, whatever form the structure comes in."""
    smiles = made.some(120)[::3]
    lines = tmp_path / "some.smi"
    lines.write_text("".join(f"{one} name\n" for one in smiles))
    whole = {one["item_id"]: _scores(one) for one in _predicted(binary, str(lines))}
    assert len(whole) == len(smiles)
    for row in (0, 13, 39):
        (alone,) = _predicted(binary, smiles[row])
        assert _scores(alone) == whole[alone["item_id"]]
    table = tmp_path / "night.csv"
    table.write_text("smiles\n" + "\n".join(reversed(smiles)))
    night = _night(binary, tmp_path, table)
    api.score(night)
    rows = storage.read_table(f"{night.output_uri}/predictions").to_pylist()
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row["item_id"], {})[row["target"]] = row["score"]
    assert found == whole
    assert len(rows) == 3 * len(smiles)


def test_files_of_every_kind_and_rows_that_are_none(
    binary: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    sdf = tmp_path / "some.sdf"
    sdf.write_text(block + "$$$$\n" + "broken\n\n\n  1  0\n$$$$\n")
    packed = tmp_path / "some.smi.gz"
    packed.write_bytes(gzip.compress(b"OCC\n\n[Na+]\nC(C)(C)(C)(C)C\nCCO\n"))
    answers = _predicted(binary, str(sdf), str(packed), "not a molecule")
    assert [one["reason"] for one in answers] == [
        None,
        "invalid_structure",
        None,
        "no_structure",
        "metal",
        "impossible_valence",
        None,
        "invalid_structure",
    ]
    ethanol = [one for one in answers if one["smiles"] == "CCO"]
    assert len(ethanol) == 3
    assert all(_scores(one) == _scores(ethanol[0]) for one in ethanol)
    monkeypatch.setattr("sys.stdin", io.StringIO("CCO ethanol\n\nCCN\n"))
    (told,) = api.predict(_package(binary), ["-"], device="cpu")
    assert [line.split()[0] for line in told.lines()] == ["CCO", "CCN"]
    assert "domain" in next(iter(told.lines()))


def test_what_cannot_be_given_is_refused(binary: RunSpec, tmp_path: Path) -> None:
    package = _package(binary)
    with pytest.raises(UsageError, match="no file of molecules"):
        api.predict(package, [str(tmp_path / "absent.csv")], device="cpu")
    odd = tmp_path / "odd.csv"
    odd.write_text("structure\nCCO\n")
    with pytest.raises(UsageError, match="none of the columns 'smiles'"):
        api.predict(package, [str(odd)], device="cpu")
    with pytest.raises(UsageError, match="--all"):
        api.predict(package, ["CCO"], device="cpu", every=True)
    with pytest.raises(UsageError, match="no number 2"):
        api.predict(package, [str(odd)], device="cpu", source=2)
    with pytest.raises(PackageError, match="records"):
        Timelines(Predictor(package))


def test_structures_are_drawn_with_what_their_atoms_add(binary: RunSpec, tmp_path: Path) -> None:
    (answer,) = _predicted(binary, "c1ccccc1CCO", "--explain", str(tmp_path / "drawn"))
    drawn = Path(answer["picture"])
    assert drawn.parent == tmp_path / "drawn"
    assert drawn.read_text().count("<ellipse") >= 3
    assert drawn.stat().st_size < 50_000
    assert SIMILARITY not in drawn.name, "what is explained is an answer of the network"


def test_online_the_answers_are_those_of_predict(binary: RunSpec) -> None:
    model = open_model(_package(binary))

    def read(body: bytes) -> Any:
        return model.read(Request((Part("json", body),)))

    (said,) = model.answer([read(b'{"smiles": ["OCC", "nothing", "c1ccccc1"]}')])
    expected = _predicted(binary, "OCC", "nothing", "c1ccccc1")
    for one, other in zip(said["predictions"], expected, strict=True):
        assert [{**score, "threshold": 0} for score in one["scores"]] == [
            {**score, "threshold": 0} for score in other["scores"]
        ]
    assert [one["reason"] for one in said["predictions"]] == [None, "invalid_structure", None]
    with pytest.raises(ProblemError) as problem:
        read(b'{"smiles": "CCO"}')
    assert problem.value.status == 422
    explained = model.explain(read(b'{"smiles": ["nothing", "c1ccccc1CCO"]}'), None)
    (told,) = explained.content["explanations"]
    assert (told["part"], len(told["atoms"])) == (1, 9)
    assert "<svg" in explained.drawings[told["smiles"]]


def _night(spec: RunSpec, folder: Path, table: Path, **section: Any) -> RunSpec:
    score = {"package": _package(spec), "molecules": [{"path": str(table)}], **section}
    changes = {"output": str(folder / "night"), "score": ScoreSpec.model_validate(score)}
    return spec.model_copy(update=changes)


def test_a_molecule_is_scored_once_in_whatever_row_it_comes(
    binary: RunSpec, tmp_path: Path
) -> None:
    table = tmp_path / "new.csv"
    table.write_text("smiles,id\nCCO,1\nOCC,2\nCCN,3\nnothing,4\n")
    night = _night(binary, tmp_path, table, reject_limit=1.0)
    first = api.score(night)
    assert (first.unit, first.files_seen, first.items) == ("molecules", 3, 2)
    assert first.rejected_by_reason == {"invalid_structure": 1}
    assert api.score(night).files_new == 0
    table.write_text("smiles,id\nC(O)C,9\nCCCl,7\nnothing,4\n")
    second = api.score(night)
    assert (second.files_seen, second.files_new, second.items) == (3, 2, 1)
    rows = storage.read_table(f"{night.output_uri}/predictions").to_pylist()
    keys = [(row["item_id"], row["target"]) for row in rows]
    assert len(keys) == len(set(keys)) == 3 * 3 + 2, "the refused rows of both versions"
    assert {row["decision"] for row in rows if row["target"] == SIMILARITY} <= {True, False}


def test_what_an_interrupted_night_has_done_stays_done(binary: RunSpec, tmp_path: Path) -> None:
    table = tmp_path / "new.smi"
    table.write_text("\n".join(made.some(50)))
    spec = _night(binary, tmp_path, table, batch_size=8)
    assert spec.score is not None
    package = open_package(str(spec.score.package))
    places = places_of(spec, package)
    before = Scored(places.predictions, package.ref)
    night = Night(spec, spec.score, package, places, before, lambda _: None, None)
    nights.work(night, nights.find(night).sources[:20], "interrupted")  # and then: killed
    summary = api.score(spec)
    assert (summary.files_resumed, summary.items) == (20, 50)
    rows = storage.read_table(f"{spec.output_uri}/predictions").to_pylist()
    assert len({(row["item_id"], row["target"]) for row in rows}) == len(rows) == 150
    assert {row["run"] for row in rows} == {summary.run}


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_night_on_ray_says_the_same(
    binary: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "new.smi"
    table.write_text("\n".join(made.some(40)))
    (here,) = api.predict(_package(binary), [str(table)], device="cpu")
    monkeypatch.setenv("RAY_ADDRESS", "joined already")  # few molecules are else done in process
    night = _night(binary, tmp_path, table, batch_size=8, actors=2)
    api.score(night)
    rows = storage.read_table(f"{night.output_uri}/predictions").to_pylist()
    told = {(row["item_id"], row["target"]): row["score"] for row in rows}
    answers = [row for one in here.answers for row in one.rows]
    assert told == {(row.item_id, row.target): row.score for row in answers}
