"""`medray evaluate` of a package that makes molecules: every way, beside held-out and a rival."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_molecules import make_maker, spec, write_molecules

from medray import api, storage
from medray.errors import DataError
from medray.package import open_package
from medray.spec.models import EvaluateSpec, RunSpec

Run = Callable[..., tuple[int, str, str]]


def _spec(folder: Path, **more: object) -> RunSpec:
    asked = {"samples": 60, "samplings": 2, "beside": (str(folder / "lm"),), "published": "moses"}
    evaluate = EvaluateSpec.model_validate(asked | more)
    return spec().model_copy(update={"output": str(folder), "evaluate": evaluate})


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    dataset = write_molecules(folder)
    make_maker(str(folder / "package"), dataset)
    make_maker(str(folder / "lm"), dataset, run=spec("lm", latent={"dim": 0}))
    api.evaluate(_spec(folder))
    return folder


def test_every_way_is_measured_as_often_as_asked(evaluated: Path):
    told = json.loads((evaluated / "report" / "report.json").read_text())
    makers = {one["name"]: one for one in told["makers"]}
    assert list(makers)[:3] == ["gan", "normal", "lm (lm)"]
    assert {"LatentGAN", "CharRNN"} <= set(makers)
    assert told["references"] == ["test", "test_scaffolds"]
    for name in ("gan", "normal", "lm (lm)"):
        valid = makers[name]["measures"]["valid"]
        assert len(valid["values"]) == 2
        assert valid["mean"] == pytest.approx(sum(valid["values"]) / 2)
        assert makers[name]["measures"]["unique@1000"]["mean"] is None  # fewer were drawn
        assert makers[name]["measures"]["FCD/test"]["mean"] > 0
    first = storage.list_files(str(evaluated / "report" / "samples"))
    assert len(first) == 6
    rows = storage.read_parquet(first[:1], storage.read_parquet([first[0]], _texts()).schema)
    assert rows["at"].to_pylist() == list(range(60))
    assert [one["rival"] for one in told["comparisons"]] == ["normal", "lm (lm)"]
    assert "earn" in told["verdict"]
    assert told["explained"][0] >= told["explained"][1]


def _texts():
    from medray.generate.texts import TEXTS

    return TEXTS


def test_the_page_and_the_card_say_the_same(evaluated: Path):
    told = json.loads((evaluated / "report" / "report.json").read_text())
    page = (evaluated / "report" / "report.html").read_text()
    card = (evaluated / "package" / "MODEL_CARD.md").read_text()
    package = open_package(str(evaluated / "package"))
    assert package.metrics["evaluation"]["verdict"] == told["verdict"]
    for text in (told["verdict"], told["comparisons"][0]["sentence"]):
        assert text in page
        assert text in card
    assert page.count('<svg class="molecule"') > 10
    assert page.count('aria-label="Distribution of') == 4
    assert 'aria-label="Latents on' in page
    assert "0.2968" in page
    assert not re.search(r'(src|href)="(?!#)', page)


def test_again_it_measures_what_was_drawn_and_counts_the_opening(evaluated: Path, run: Run):
    before = json.loads((evaluated / "report" / "report.json").read_text())
    result = api.evaluate(_spec(evaluated))
    after = json.loads((evaluated / "report" / "report.json").read_text())
    assert after["makers"] == before["makers"]
    assert result.openings == len(after["openings"]) == len(before["openings"]) + 1
    assert result.headline().startswith("gan: valid ")


def test_a_package_beside_itself_is_refused(evaluated: Path):
    from medray.errors import PackageError

    with pytest.raises(PackageError, match="beside itself"):
        api.evaluate(_spec(evaluated, beside=(str(evaluated / "package"),)))


def test_without_held_out_there_is_nothing_to_compare_with(tmp_path: Path):
    dataset = write_molecules(tmp_path, ("CCO", "CCN", "CCC"))
    make_maker(str(tmp_path / "package"), dataset)
    with pytest.raises(DataError, match="held_out split is empty"):
        api.evaluate(_spec(tmp_path, beside=()))
