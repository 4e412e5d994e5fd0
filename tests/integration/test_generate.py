"""`medray generate` from the command line: what stands in every file, and what it refuses."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rdkit import Chem
from rdkit.Chem import QED, Crippen
from tiny_molecules import SMILES, make_maker, write_molecules

from medray import storage
from medray.generate import draws, generate
from medray.generate import run as run_module
from medray.generate.asked import Asked
from medray.schema import GENERATED

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, a package trained on it, and 220 molecules by it."""
    folder = tmp_path_factory.mktemp("made")
    make_maker(str(folder / "package"), write_molecules(folder))
    generate(str(folder / "package"), str(folder / "out"), Asked(count=220))
    return folder


def _rows(folder: Path) -> list[dict[str, Any]]:
    return storage.read_table(str(folder / "molecules")).to_pylist()


def test_every_molecule_once_described_as_rdkit_does(made: Path):
    rows = _rows(made / "out")
    assert storage.table_schema(str(made / "out" / "molecules")).names == GENERATED.names
    assert len(rows) == len({row["smiles"] for row in rows}) == 220
    train = {one for at, one in enumerate(SMILES) if at % 5 < 3}
    for row in rows:
        molecule = Chem.MolFromSmiles(row["smiles"])
        assert Chem.MolToSmiles(molecule) == row["smiles"]
        assert row["QED"] == pytest.approx(QED.qed(molecule))
        assert row["logP"] == pytest.approx(Crippen.MolLogP(molecule))
        assert row["alert"] is None
        assert row["novel"] == (row["smiles"] not in train)
        assert row["neighbour"] in train
        assert (row["similarity"] == 1) >= (not row["novel"])
    assert [row["QED"] for row in rows] == sorted((row["QED"] for row in rows), reverse=True)


def test_csv_and_sdf_say_what_the_table_says(made: Path):
    rows = _rows(made / "out")
    with (made / "out" / "molecules.csv").open(encoding="utf-8") as lines:
        listed = list(csv.DictReader(lines))
    assert [one["smiles"] for one in listed] == [row["smiles"] for row in rows]
    assert [float(one["SA"]) for one in listed] == pytest.approx([row["SA"] for row in rows])
    records = list(Chem.SDMolSupplier(str(made / "out" / "molecules.sdf")))
    assert [Chem.MolToSmiles(one) for one in records] == [row["smiles"] for row in rows]
    assert records[0].GetProp("_Name") == rows[0]["item_id"]
    assert float(records[0].GetProp("QED")) == rows[0]["QED"]
    assert not records[0].HasProp("alert")  # it has none


def test_the_gallery_shows_the_best_and_some_at_random_and_fetches_nothing(made: Path):
    page = (made / "out" / "gallery.html").read_text()
    best, random = (re.findall(r'class="rank">(\d+)<', part) for part in page.split('id="random"'))
    assert best == [str(rank) for rank in range(1, 101)]
    assert len(random) == len(set(random)) == 100
    assert min(map(int, random)) > 100
    assert page.count('aria-label="Distribution of') == 5
    assert page.count("<tr><td data-v=") == 220
    assert not re.search(r'(src|href)="(?!#)', page)


def test_counts_add_up(made: Path):
    told = json.loads((made / "out" / "summary.json").read_text())
    assert told["kept"] + told["spare"] + told["alerts"] + told["alike"] == told["distinct"]
    assert told["drawn"] % draws.CHUNK == 0
    assert told["distinct"] <= told["valid"] <= told["drawn"]
    assert told["of_training"] is True
    assert not list((made / "out").glob(".staging/*"))


def test_inspect_says_what_lies_there(made: Path, run: Run):
    code, out, _ = run("inspect", made / "out", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["kind"], found["facts"]["kept"]) == ("molecules", 220)
    assert found["parts"][0]["kind"] == "generated molecules"
    assert found["parts"][0]["facts"]["rows"] == 220


def test_again_it_is_done_and_something_else_is_refused(made: Path, run: Run):
    arguments = ["generate", made / "package", "--out", made / "out", "-n", 220]
    code, out, _ = run(*arguments)
    assert code == 0
    assert "already made: 220 molecules" in out
    for other in (["--seed", 1], ["--by", "SA"], ["-n", 221]):
        code, _, error = run(*arguments, *other)
        assert code == 2
        assert "holds another generation" in error


def test_more_molecules_are_the_same_ones_and_others(made: Path, tmp_path: Path):
    generate(str(made / "package"), str(tmp_path / "more"), Asked(count=240, formats=()))
    some, more = _rows(made / "out"), _rows(tmp_path / "more")
    assert {row["smiles"] for row in some} < {row["smiles"] for row in more}
    assert not (tmp_path / "more" / "molecules.csv").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--way", "lm"], "cannot draw by 'lm'"),
        (["--by", "tox21/NR-AR"], "cannot be ranked by"),
        (["--temperature", 0], "temperature"),
        (["--format", "xlsx"], "formats"),
        (["--dataset", "nowhere"], "there is no dataset here"),
    ],
)
def test_what_cannot_be_is_said_before_work(
    made: Path, tmp_path: Path, run: Run, more: list[Any], says: str
):
    code, _, error = run("generate", made / "package", "--out", tmp_path / "out", *more)
    assert code in (1, 2)
    assert says in error
    assert not (tmp_path / "out").exists()


def test_a_package_alone_knows_nothing_of_its_training_set(made: Path, tmp_path: Path, run: Run):
    make_maker(str(tmp_path / "package"))
    command = ["generate", tmp_path / "package", "-n", 20, "--way", "normal", "--no-filters"]
    code, out, _ = run(*command, "--out", tmp_path / "out")
    assert code == 0
    assert "not in" not in out
    rows = _rows(tmp_path / "out")
    assert {(row["novel"], row["neighbour"], row["similarity"]) for row in rows} == {(None,) * 3}
    page = (tmp_path / "out" / "gallery.html").read_text()
    assert "no dataset to compare with" in page
    code, _, error = run(*command, "--unlike-training", 0.4, "--out", tmp_path / "unlike")
    assert code == 2
    assert "no training set to be unlike" in error
    code, _, _ = run(*command, "--dataset", made, "--out", tmp_path / "named", "--lowest")
    assert code == 0
    assert "another dataset" in (tmp_path / "named" / "gallery.html").read_text()


def test_it_gives_up_says_so_and_keeps_what_there_is(
    made: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run_module, "GIVE_UP", 2)
    package, out = made / "package", tmp_path / "out"
    code, out_text, error = run(
        "generate", package, "--out", out, "-n", 400, "--unlike-training", 0.1
    )
    assert code == 3
    assert "of 400 wanted" in out_text
    assert "given up after 1,024 draws" in error
    rows = _rows(out)
    assert 0 < len(rows) < 400
    assert max(row["similarity"] for row in rows) < 0.1
    assert "it was given up" in (out / "gallery.html").read_text()


@pytest.mark.slow
def test_on_ray_the_same_molecules(
    made: Path, tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(draws, "CHUNK", 32)
    monkeypatch.setattr(run_module, "CHUNK", 32)
    asked = Asked(count=40, formats=())
    generate(str(made / "package"), str(tmp_path / "here"), asked)
    monkeypatch.setattr(draws, "_FEW", 0.5)  # already one chunk is too much for this process
    generate(str(made / "package"), str(tmp_path / "ray"), asked)
    assert _rows(tmp_path / "ray") == _rows(tmp_path / "here")
    assert len({row["chunk"] for row in _rows(tmp_path / "ray")}) > 1
