"""The main path on a small real archive, through the command line, in one output folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from medray import storage
from medray.demo.archive import build_archive

Run = Callable[..., tuple[int, str, str]]

SPEC = """\
name: small
output: {root}/run
ingest:
  archive: {root}/archive
  pixels: {{size: [32, 32]}}
  tables:
    - {{path: {root}/labels.csv, on: study_instance_uid}}
    - {{path: {root}/patients.csv, on: patient_id}}
  reject_limit: 0.5
split:
  fractions: {{train: 0.5, tuning: 0.25, held_out: 0.25}}
  identical_images: drop
params: {{network: conv3, task: binary, label: nodule}}
train: {{epochs: 2, batch_size: 32}}
evaluate: {{replicates: 100, min_patients: 3}}
score: {{archive: {root}/night}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("main-path")
    build_archive(folder, patients=60, night=10)
    (folder / "run.yaml").write_text(SPEC.format(root=folder), encoding="utf-8")
    return folder


@pytest.mark.usefixtures("ray_cluster")
def test_every_verb_in_order(root: Path, run: Run) -> None:
    spec = root / "run.yaml"
    output = root / "run"
    for verb in ("ingest", "train", "evaluate", "score"):
        code, out, err = run(verb, spec)
        assert code == 0, f"{verb}: {err}\n{out}"
    report = (output / "report" / "report.html").read_text(encoding="utf-8")
    assert "AUROC" in report
    predictions = storage.read_table(str(output / "predictions"))
    first = predictions.num_rows
    assert first >= 10
    assert set(predictions["status"].to_pylist()) == {"ok"}

    code, _, err = run("score", spec)  # a second night with nothing new
    assert code == 0, err
    assert storage.read_table(str(output / "predictions")).num_rows == first

    night = sorted(p for p in (root / "night").rglob("*") if p.is_file())
    heat = root / "heat"
    code, out, err = run("predict", output / "package", night[0], "--json", "--explain", heat)
    assert code == 0, err
    assert json.loads(out.splitlines()[0])
    assert list(heat.glob("*.png"))

    code, out, err = run("inspect", output, "--json")
    assert code == 0, err
    kinds = [part["kind"] for part in json.loads(out)["parts"]]
    assert kinds == ["inventory", "dataset", "training", "package", "report", "predictions"]


def test_three_mistakes_are_three_lines_and_nothing_is_written(tmp_path: Path, run: Run) -> None:
    spec = tmp_path / "bad.yaml"
    spec.write_text(
        f"name: bad\noutput: {tmp_path}/out\nsede: 1\ntrain: {{epoch: 3}}\nworkload: imagin\n",
        encoding="utf-8",
    )
    code, _, err = run("train", spec)
    assert code == 2
    assert "3 problems" in err
    for line in (3, 4, 5):
        assert f"bad.yaml:{line}" in err
    assert not (tmp_path / "out").exists()


def test_an_empty_archive_says_what_to_do(tmp_path: Path, run: Run) -> None:
    (tmp_path / "empty").mkdir()
    spec = tmp_path / "run.yaml"
    spec.write_text(
        f"name: e\noutput: {tmp_path}/out\ningest: {{archive: {tmp_path}/empty}}\n",
        encoding="utf-8",
    )
    code, _, err = run("ingest", spec)
    assert code in (1, 2)
    assert "→" in err
    assert not (tmp_path / "out" / "dataset").exists()


@pytest.mark.usefixtures("ray_cluster")
def test_labels_that_match_nothing_fail_the_run(root: Path, tmp_path: Path, run: Run) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("study_instance_uid,nodule\n9.9.9,1\n9.9.8,0\n", encoding="utf-8")
    sets = [f"ingest.tables.0.path={table}", f"output={tmp_path}/out"]
    code, _, err = run("ingest", root / "run.yaml", *(x for s in sets for x in ("--set", s)))
    assert code == 1
    assert "match" in err
    assert not (tmp_path / "out" / "dataset" / "labels").exists()


def test_an_output_folder_that_holds_something_else_is_refused(
    root: Path, tmp_path: Path, run: Run
) -> None:
    foreign = tmp_path / "out" / "dataset"
    foreign.mkdir(parents=True)
    (foreign / "thesis.docx").write_bytes(b"mine")
    code, _, err = run("ingest", root / "run.yaml", "--set", f"output={tmp_path}/out")
    assert code == 2
    assert "→" in err
    assert sorted(p.name for p in foreign.iterdir()) == ["thesis.docx"]


def test_verbs_out_of_order_name_the_verb_to_run(root: Path, tmp_path: Path, run: Run) -> None:
    sets = ("--set", f"output={tmp_path}/out")
    for verb, before in (("train", "ingest"), ("evaluate", "train"), ("score", "train")):
        code, _, err = run(verb, root / "run.yaml", *sets)
        assert code in (1, 2), verb
        assert f"medray {before}" in err, err
    assert not (tmp_path / "out").exists()


def test_nothing_at_a_path(tmp_path: Path, run: Run) -> None:
    for arguments in (
        ("inspect", tmp_path / "none"),
        ("validate", tmp_path / "none.yaml"),
        ("predict", tmp_path / "none", tmp_path / "none.dcm"),
    ):
        code, _, err = run(*arguments)
        assert code in (1, 2), arguments
        assert "→" in err
