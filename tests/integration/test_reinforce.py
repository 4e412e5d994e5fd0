"""`medray reinforce` on a real package: it moves as asked, resumes to the bit, leaves the prior."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_molecules import make_maker, write_molecules

from medray.package import open_package
from medray.reinforce import reinforce
from medray.spec.models import RunSpec

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prior")
    make_maker(str(folder / "package"), write_molecules(folder))
    return folder


def _spec(prior: Path, output: Path, **more: Any) -> dict[str, Any]:
    wish = {"of": "weight", "low": 40, "high": 200}
    asked = {"package": str(prior / "package"), "rewards": [wish], "steps": 12, "batch_size": 64}
    asked |= {"lr": 0.01, "leash": 0.001, "filters": False, "keep_steps": 4, **more}
    return {"name": "heavier", "workload": "molecule", "output": str(output), "reinforce": asked}


def test_the_mean_moves_as_asked_and_the_prior_stays(prior: Path, tmp_path: Path, run: Run):
    before = open_package(str(prior / "package"))
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(_spec(prior, tmp_path / "run", steps=25)))
    code, out, _ = run("reinforce", path)
    assert code == 0
    made = open_package(str(tmp_path / "run" / "package"))
    assert f"{made.ref}: mean reward" in out
    lines = (tmp_path / "run" / "training" / "history.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    assert [one["step"] for one in history] == list(range(1, 26))
    assert history[0]["nats"] == pytest.approx(0, abs=1e-4)  # the policy starts as the prior
    first, last = history[:5], history[-5:]
    assert sum(r["weight"] for r in last) > 1.15 * sum(r["weight"] for r in first)
    assert made.lineage["prior_digest"] == before.digest
    assert made.lineage["dataset"] == before.lineage["dataset"]
    assert made.metrics["history"][-1]["epoch"] == 25
    unsteered = [name for name in before.manifest.files if name.startswith("weights/")]
    same = {n for n in unsteered if before.manifest.files[n] == made.manifest.files[n]}
    assert set(unsteered) - same == {"weights/decoder.safetensors"}
    assert open_package(str(prior / "package")).digest == before.digest
    code, out, _ = run("reinforce", path)
    assert code == 0
    assert "already made" in out
    code, _, error = run("reinforce", path, "--set", "reinforce.leash=0.5")
    assert code == 2
    assert "choose another `output`" in error


def test_stopped_and_run_again_it_ends_in_the_same_package(prior: Path, tmp_path: Path):
    whole = reinforce(RunSpec.model_validate(_spec(prior, tmp_path / "whole")))

    def stop(event: dict[str, Any]) -> None:
        if event["done"] == 6:
            raise KeyboardInterrupt

    spec = RunSpec.model_validate(_spec(prior, tmp_path / "stopped"))
    with pytest.raises(KeyboardInterrupt):
        reinforce(spec, progress=stop)
    resumed = reinforce(spec)
    assert resumed.resumed_at == 4
    one, other = (open_package(result.package).manifest.files for result in (resumed, whole))
    weights = [name for name in one if name.startswith("weights/")]
    assert {name: one[name] for name in weights} == {name: other[name] for name in weights}
    assert resumed.after == whole.after


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"way": "lm"}, "cannot draw by 'lm'"),
        ({"package": "nowhere"}, "nowhere"),
        ({"rewards": [{"similar_to": ["C1CC"]}]}, "no SMILES"),
    ],
)
def test_what_cannot_be_is_said_before_work(
    prior: Path, tmp_path: Path, run: Run, more: dict[str, Any], says: str
):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(_spec(prior, tmp_path / "run", **more)))
    code, _, error = run("reinforce", path)
    assert code in (1, 2)
    assert says in error
    assert not (tmp_path / "run").exists()
