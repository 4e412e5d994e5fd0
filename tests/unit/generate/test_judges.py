"""What a package of predictors says of generated molecules: as `predict` says it."""

from pathlib import Path

import pytest
from tiny_molecules import make_judge, make_maker

from medray import storage
from medray.errors import PackageError, UsageError
from medray.generate import generate
from medray.generate.asked import Asked
from medray.generate.judges import Judge, open_judges
from medray.molecules.text import as_bytes
from medray.score.predictor import Predictor


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("judges")
    make_judge(str(made / "tox"))
    make_maker(str(made / "maker"))
    return made


def test_a_column_for_every_target_and_the_score_that_predict_gives(folder: Path):
    judge = Judge(str(folder / "tox"), "cpu")
    assert judge.columns == ("tox/NR-AR", "tox/SR-p53", "tox/nearest_similarity")
    assert judge.risks == ("tox/NR-AR", "tox/SR-p53")
    smiles = ["CCO", "c1ccccc1O", "[Fe]"]  # a metal is no small molecule
    said = judge.say(smiles)
    outcomes = Predictor(str(folder / "tox")).predict_columns({"smiles": as_bytes(smiles[:2])})
    for row, outcome in zip(said[:2], outcomes, strict=True):
        assert row == {f"tox/{one.target}": one.score for one in outcome.scores}
    assert said[2] == {}


def test_what_predicts_nothing_and_twins_are_refused(folder: Path):
    with pytest.raises(PackageError, match="does not predict"):
        Judge(str(folder / "maker"), "cpu")
    with pytest.raises(UsageError, match="two packages are called 'tox'"):
        open_judges([str(folder / "tox")] * 2, "cpu")


def test_generated_molecules_are_ranked_by_what_is_predicted(folder: Path, tmp_path: Path):
    asked = Asked(count=30, by="tox/NR-AR", filters=False, formats=("csv",))
    out = str(tmp_path / "out")
    summary = generate(str(folder / "maker"), out, asked, toxicity=[str(folder / "tox")])
    table = storage.read_table(f"{out}/molecules")
    scores = table["tox/NR-AR"].to_pylist()
    assert scores == sorted(scores)  # the least toxic first
    judge = Judge(str(folder / "tox"), "cpu")
    again = [row["tox/NR-AR"] for row in judge.say(table["smiles"].to_pylist())]
    assert scores == pytest.approx(again)
    assert summary.means["tox/NR-AR"] == pytest.approx(sum(scores) / 30)
    page = (tmp_path / "out" / "gallery.html").read_text()
    assert "Ranked by tox/NR-AR, the lowest first." in page
    assert "<dt>tox/SR-p53</dt>" in page
