"""Specs: every problem at once with its line, overrides, YAML 1.2 scalars, round trips."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from medray.errors import SpecError, UsageError
from medray.spec.load import dump_spec, load_spec, parse_spec, spec_sha256

GOOD = """\
name: demo
ingest:
  archive: scans
  pixels:
    window: {center: 40, width: 80}
    size: [32, 48]
  tables:
    - path: labels.csv
      on: study_instance_uid
train:
  optimizer: {lr: 1e-3}
"""


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")
    network: str
    dropout: float = 0.0


MODELS = {"imaging": Params}


def problems(text: str, *sets: str, models: dict[str, type[BaseModel]] | None = None) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "run.yaml", sets, models)
    return [str(p) for p in caught.value.problems]


def test_a_good_spec_reads_with_defaults() -> None:
    spec = parse_spec(GOOD)
    assert spec.output_uri == "runs/demo"
    assert spec.ingest is not None
    assert spec.ingest.archive == ("scans",)
    assert spec.ingest.tables[0].on == "study_instance_uid"  # `on` is a key, not true
    assert spec.train is not None
    assert spec.train.optimizer.lr == 0.001  # 1e-3 is a number, not a string


def test_every_problem_is_listed_with_its_line() -> None:
    found = problems(
        "name: demo\n"
        "sede: 3\n"
        "ingest:\n"
        "  archive: a\n"
        "  tables:\n"
        "    - path: x.csv\n"
        "      on: sop_instance_uids\n"
        "  reject_limit: 2\n"
        "train:\n"
        "  epochs: ten\n"
        "  optimizer: {name: adamx}\n"
    )
    assert [f.split(": ")[0] for f in found] == [
        "run.yaml:2",
        "run.yaml:7",
        "run.yaml:8",
        "run.yaml:10",
        "run.yaml:11",
    ]
    assert "did you mean 'seed'?" in found[0]
    assert "did you mean 'sop_instance_uid'?" in found[1]
    assert "ingest.reject_limit" in found[2]
    assert "train.epochs" in found[3]
    assert "did you mean 'adam" in found[4]


def test_of_a_union_only_the_closest_alternative_is_explained() -> None:
    window = "name: d\ningest: {archive: a, pixels: {window: {center: 40, widht: 80}}}\n"
    found = problems(window)
    assert len(found) == 2
    assert any("did you mean 'width'?" in f for f in found)
    assert any("ingest.pixels.window.width: is required" in f for f in found)


def test_duplicate_keys_and_broken_yaml_are_problems() -> None:
    assert "given twice (first on line 1)" in problems("name: a\nname: b\n")[0]
    assert problems("name: [a\n")[0].startswith("run.yaml:2: not valid YAML")
    assert "mapping" in problems("- a\n- b\n")[0]


def test_params_are_checked_by_the_workloads_own_model() -> None:
    found = problems(GOOD + "params:\n  netwrok: conv3\n", models=MODELS)
    assert len(found) == 2
    assert any(f.startswith("run.yaml:13: params.netwrok") for f in found)
    assert "did you mean 'network'?" in " ".join(found)
    found = problems("name: a\nworkload: imagin\n", models=MODELS)
    assert "did you mean 'imaging'?" in found[0]


def test_set_goes_through_the_same_validator() -> None:
    spec = parse_spec(GOOD, sets=["train.epochs=3", "ingest.tables.0.path=b.csv", "seed=7"])
    assert spec.train is not None
    assert spec.ingest is not None
    assert (spec.train.epochs, spec.ingest.tables[0].path, spec.seed) == (3, "b.csv", 7)
    found = problems(GOOD, "train.epoch=3", "train.batch_size=0", "nonsense")
    assert all(f.startswith("--set") for f in found)
    assert len(found) == 3


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no spec file"):
        load_spec(str(tmp_path / "none.yaml"))


@given(
    name=st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,20}", fullmatch=True),
    seed=st.integers(0, 2**31 - 1),
    lr=st.floats(1e-8, 10),
)
@example(name="08", seed=0, lr=1.0)  # text to a YAML 1.1 reader, 8 to a YAML 1.2 one
@example(name="1e3", seed=0, lr=1e-8)
@example(name="on", seed=0, lr=1.0)
@example(name="null", seed=0, lr=1.0)
@example(name="2026-01-01", seed=0, lr=1.0)
def test_dump_reads_back_equal_and_hashes_equal(name: str, seed: int, lr: float) -> None:
    spec = parse_spec(GOOD).model_copy(update={"name": name, "seed": seed})
    assert spec.train is not None
    optimizer = spec.train.optimizer.model_copy(update={"lr": lr})
    spec = spec.model_copy(update={"train": spec.train.model_copy(update={"optimizer": optimizer})})
    again = parse_spec(dump_spec(spec))
    assert again == spec
    assert spec_sha256(again) == spec_sha256(spec)


def test_comments_order_and_formatting_do_not_change_the_hash() -> None:
    one = parse_spec("name: a\nseed: 1\n")
    two = parse_spec("# a comment\nseed: 1\nname: 'a'\n")
    assert spec_sha256(one) == spec_sha256(two)
