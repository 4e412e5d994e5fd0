import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny import SPEC, TINY, Fitted, Params, make_package

from medray import package as package_module
from medray.errors import MedrayError, OutputConflictError, PackageError
from medray.package import (
    add_evaluation,
    forward,
    load_modules,
    open_package,
    replay_selftest,
)
from medray.spec.load import spec_sha256
from medray.spec.models import RunSpec

FILES = [
    "MODEL_CARD.md",
    "calibration.json",
    "fitted.json",
    "metrics.json",
    "package.json",
    "selftest/inputs.safetensors",
    "selftest/outputs.safetensors",
    "spec.yaml",
    "weights/classifier.safetensors",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "package"
    make_package(str(folder))
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "package"))


def _files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_holds_what_the_contract_says_and_no_pickle(made: Path):
    assert _files(made) == FILES
    assert sorted(p.name for p in made.parent.iterdir()) == ["package"]
    for name in FILES:
        data = (made / name).read_bytes()
        assert not data.startswith((b"\x80\x02", b"\x80\x04", b"PK")), name


def test_round_trip(made: Path):
    package = open_package(str(made))
    assert package.name == "tiny"
    assert package.ref == f"tiny@1#{package.digest[:12]}"
    assert package.spec == SPEC
    assert spec_sha256(package.spec) == spec_sha256(SPEC)
    assert package.pixels.size == (16, 16)
    assert package.columns == SPEC.ingest.columns
    assert package.lineage == {"dataset": "0" * 64}
    assert package.manifest.provenance["libraries"]["torch"]
    params, fitted, modules = load_modules(package, TINY)
    assert (params, fitted) == (Params(), Fitted())
    assert not modules["classifier"].training
    assert replay_selftest(package, TINY, params, fitted, modules) == 0.0


def test_spec_yaml_is_read_by_any_yaml_reader_to_the_same_hash(made: Path):
    with (made / "spec.yaml").open() as file:
        read = RunSpec.model_validate(yaml.safe_load(file))
    assert spec_sha256(read) == spec_sha256(SPEC)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0, 0.5, -1])
def test_one_changed_byte_is_named(copy: Path, name: str, where: float):
    data = bytearray((copy / name).read_bytes())
    at = where if where in (0, -1) else int(len(data) * where)
    data[int(at)] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(PackageError, match=name) as raised:
        open_package(str(copy))
    assert raised.value.exit_code == 1
    assert raised.value.remedy


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str):
    (copy / name).unlink()
    with pytest.raises(PackageError, match="no package" if name == "package.json" else name):
        open_package(str(copy))


@pytest.mark.parametrize("name", ["notes.txt", "weights/other.safetensors", ".hidden"])
def test_an_extra_file_is_named(copy: Path, name: str):
    (copy / name).write_bytes(b"x")
    with pytest.raises(PackageError, match=f"{name}: unexpected"):
        open_package(str(copy))


def test_an_extra_link_to_a_folder_is_named(copy: Path, tmp_path: Path):
    (copy / "link").symlink_to(tmp_path)
    with pytest.raises(PackageError, match="link: unexpected"):
        open_package(str(copy))


def test_a_manifest_that_lists_a_lie_is_refused(copy: Path):
    content = json.loads((copy / "package.json").read_text())
    content["name"] = "better"
    (copy / "package.json").write_text(json.dumps(content, indent=1) + "\n")
    with pytest.raises(PackageError, match=r"package\.json"):
        open_package(str(copy))


def test_writing_the_same_again_changes_nothing(copy: Path):
    before = {name: (copy / name).stat().st_mtime_ns for name in FILES}
    again = make_package(str(copy))
    assert {name: (copy / name).stat().st_mtime_ns for name in FILES} == before
    assert again.digest == open_package(str(copy)).digest


def test_another_package_or_another_thing_is_never_overwritten(copy: Path, tmp_path: Path):
    with pytest.raises(OutputConflictError, match="another package") as raised:
        make_package(str(copy), seed=1)
    assert raised.value.exit_code == 2
    thesis = tmp_path / "folder"
    thesis.mkdir()
    (thesis / "thesis.doc").write_text("years of work")
    with pytest.raises(OutputConflictError, match="no package"):
        make_package(str(thesis))
    assert _files(thesis) == ["thesis.doc"]
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(OutputConflictError):
        make_package(str(file))


def test_what_a_killed_write_left_is_cleared(tmp_path: Path):
    target = tmp_path / "package"
    left = tmp_path / ".staging" / "package.partial" / "weights"
    left.mkdir(parents=True)
    (left / "half.safetensors").write_bytes(b"half")
    make_package(str(target))
    assert [p.name for p in tmp_path.iterdir()] == ["package"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        make_package(str(tmp_path / "package"))
    assert list(tmp_path.iterdir()) == []


def test_digest_follows_weights_and_name_but_not_time_or_evaluation(tmp_path: Path):
    first = make_package(str(tmp_path / "a"))
    assert make_package(str(tmp_path / "b")).digest == first.digest
    assert make_package(str(tmp_path / "c"), seed=1).digest != first.digest
    renamed = SPEC.model_copy(update={"version": "2"})
    assert make_package(str(tmp_path / "d"), spec=renamed).digest != first.digest
    evaluated = add_evaluation(first, {"auroc": 0.9}, "# card\n")
    assert evaluated.digest == first.digest


def test_evaluation_is_kept_beside_the_history(copy: Path):
    package = add_evaluation(open_package(str(copy)), {"auroc": 0.9}, "# Card of é\n")
    assert package.metrics == {
        "history": [{"epoch": 1, "loss": 0.5}],
        "evaluation": {"auroc": 0.9},
    }
    assert (copy / "MODEL_CARD.md").read_text(encoding="utf-8") == "# Card of é\n"
    again = add_evaluation(package, {"auroc": 0.8}, "# second\n")
    assert again.metrics["evaluation"] == {"auroc": 0.8}
    (copy / "metrics.json").write_bytes(b"{}")
    with pytest.raises(PackageError, match=r"metrics\.json: altered"):
        open_package(str(copy))


@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_an_evaluation_killed_between_writes_leaves_a_package_that_opens(
    copy: Path, writes: int, monkeypatch: pytest.MonkeyPatch
):
    from medray import storage

    done = 0
    real = storage.write_atomic

    def dying(uri: str, data: bytes) -> None:
        nonlocal done
        if done == writes:
            raise KeyboardInterrupt
        done += 1
        real(uri, data)

    package = open_package(str(copy))
    monkeypatch.setattr(storage, "write_atomic", dying)
    with pytest.raises(KeyboardInterrupt):
        add_evaluation(package, {"auroc": 0.9}, "# card\n")
    monkeypatch.undo()
    left = open_package(str(copy))
    assert left.digest == package.digest
    finished = add_evaluation(left, {"auroc": 0.9}, "# card\n")
    assert finished.manifest.pending == {}
    assert finished.metrics["evaluation"] == {"auroc": 0.9}


def test_selftest_that_is_not_reproduced_is_an_error(made: Path):
    package = open_package(str(made))
    params, fitted, modules = load_modules(package, TINY)
    with torch.no_grad():
        modules["classifier"].bias[0] += 1e-3
    with pytest.raises(PackageError, match="self-test"):
        replay_selftest(package, TINY, params, fitted, modules)
    with torch.no_grad():
        modules["classifier"].bias[0] = float("nan")
    with pytest.raises(PackageError, match="self-test"):
        replay_selftest(package, TINY, params, fitted, modules)


def test_the_wrong_workload_is_refused(made: Path):
    class Other(type(TINY)):
        name = "other"

    with pytest.raises(PackageError, match="'tiny', not 'other'"):
        load_modules(open_package(str(made)), Other())


def test_loading_draws_no_random_number(made: Path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_modules(open_package(str(made)), TINY)
    assert torch.equal(torch.rand(1), expected)


def test_forward_is_what_the_workload_answers(made: Path):
    package = open_package(str(made))
    params, fitted, modules = load_modules(package, TINY)
    columns = TINY.example(Params(), Fitted(), 3)
    logits = forward(TINY, modules, columns, params, fitted, torch.device("cpu"))
    assert logits["bright"].shape == (3,)
    assert logits["kind"].shape == (3, 3)
    assert logits["bright"].dtype == np.float32


def test_the_spec_in_a_package_says_every_default(tmp_path: Path):
    short = SPEC.model_copy(update={"params": {}})
    kept = open_package(make_package(str(tmp_path / "p"), spec=short).uri).spec
    assert kept.params == Params().model_dump()
    assert kept == short.model_copy(update={"params": kept.params})


def test_importing_is_light(made: Path):
    code = (
        "import sys; from medray.package import open_package; open_package(sys.argv[1]);"
        "heavy = {'ray', 'deltalake', 'pandas', 'sklearn', 'scipy', 'matplotlib', 'monai'};"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_errors_are_of_the_family():
    assert issubclass(PackageError, MedrayError)
    assert package_module.SELFTEST_TOLERANCE == 1e-4
