"""`medray predict --url` against the door's own routes: what `medray predict` says, to the bit."""

import asyncio
import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_molecules
import torch
from PIL import Image
from scans import SYNTAXES, scan
from services import Reply, Script, served

from medray.calibration import Calibration, TargetCalibration
from medray.package import open_package, write_package
from medray.serve.asked import Explained, Request
from medray.serve.http import http_app
from medray.serve.model import open_model
from medray.serve.routes import Route, Routes
from medray.spec.models import IngestSpec, RunSpec
from medray.spec.pixels import PixelSpec
from medray.spec.serve import LimitsSpec
from medray.workloads import WORKLOADS

Run = Callable[..., tuple[int, str, str]]


class _Here:
    """A model in this process, in the place of Serve's handles."""

    def __init__(self, package: str) -> None:
        found = open_package(package)
        self._model = open_model(package)
        named = {"name": found.name, "version": found.version, "digest": found.digest}
        route = Route(**named, app="here", uri=package, reads=found.reads)
        self.routes = Routes(every=(route,))

    async def predict(self, route: Route, request: Request) -> dict[str, Any]:
        def answer() -> dict[str, Any]:
            (told,) = self._model.answer([self._model.read(request)])
            return {**told, "package": route.ref, "timing": {}}

        return await asyncio.to_thread(answer)

    async def explain(self, route: Route, request: Request) -> Explained:
        asked = await asyncio.to_thread(self._model.read, request)
        return await asyncio.to_thread(self._model.explain, asked, request.target)

    async def running(self, route: Route) -> dict[str, int]:
        return {"running": 1}

    async def ready(self) -> None:
        return None

    def shadow(self, route: Route, request: Request, request_id: str) -> None:
        return None


@contextmanager
def _service(package: str) -> Iterator[str]:
    with served(http_app(_Here(package), LimitsSpec())) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A package of images, of random weights."""
    task = WORKLOADS["imaging"]
    folder = tmp_path_factory.mktemp("images")
    spec = RunSpec(
        name="lung",
        params={"task": "multiclass", "label": "kind", "classes": ["a", "b", "c"]},
        ingest=IngestSpec(archive=("archive",), pixels=PixelSpec(size=(32, 32))),
        output=str(folder),
    )
    params = task.params_model.model_validate(spec.params)
    pixels = np.random.default_rng(0).integers(0, 255, (6, 32, 32), np.uint8)
    columns = {"pixels": pixels, "kind": np.array(["a", "b", "c"] * 2, object)}
    fitted = task.fit(task.summarize(columns, params), params)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = task.build_modules(params, fitted)
    targets = {
        "kind": TargetCalibration(kind="multiclass", classes=("a", "b", "c"), temperature=0.1)
    }
    return write_package(
        str(folder / "package"),
        spec=spec,
        workload=task,
        params=params,
        fitted=fitted,
        modules=modules,
        calibration=Calibration(targets=targets),
        lineage={"dataset": None},
        history=[],
    ).uri


@pytest.fixture(scope="module")
def url(images: str) -> Iterator[str]:
    with _service(images) as address:
        yield address


def _both(
    run: Run, package: str, address: str, *files: object, theirs: Any = ()
) -> tuple[list[Any], list[Any]]:
    """What is said here and by the service; exit codes are the same."""
    name = open_package(package).name
    code, here, _ = run("predict", package, *files, "--device", "cpu")
    asked, there, error = run("predict", name, *(theirs or files), "--url", address)
    assert (asked, error) == (code, "")
    if "--json" in files:
        return [[json.loads(one) for one in said.splitlines()] for said in (here, there)]  # type: ignore[return-value]
    return here.splitlines(), there.splitlines()


def _files(folder: Path) -> list[str]:
    """Scans in some syntaxes, a PNG, and what is none."""
    for number, syntax in enumerate(SYNTAXES):
        (folder / f"scan{number}.dcm").write_bytes(scan(number, syntax))
    pixels = np.random.default_rng(1).integers(0, 255, (50, 70), np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    (folder / "notes.txt").write_text("no picture " * 30)
    (folder / "cut.dcm").write_bytes(scan(9)[:-300])
    return [*sorted(map(str, folder.iterdir())), str(folder / "missing.dcm")]


@pytest.mark.parametrize("form", [["--json"], []])
def test_images_are_told_as_here(run: Run, images: str, url: str, tmp_path: Path, form: list[str]):
    here, there = _both(run, images, url, *_files(tmp_path), *form)
    assert there == here
    assert len(here) == len(SYNTAXES) + 4


def test_heat_maps_are_the_files_that_are_written_here(
    run: Run, images: str, url: str, tmp_path: Path
):
    (tmp_path / "a.dcm").write_bytes(scan(1))
    asked = [tmp_path / "a.dcm", "--json", "--explain"]
    here, there = _both(
        run, images, url, *asked, tmp_path / "here", theirs=[*asked, tmp_path / "there"]
    )
    (mine,), (theirs,) = here[0]["pictures"], there[0]["pictures"]
    assert Path(mine).name == Path(theirs).name
    assert Path(mine).read_bytes() == Path(theirs).read_bytes()


def test_nothing_that_can_be_read_is_exit_code_3(run: Run, images: str, url: str, tmp_path: Path):
    here, there = _both(run, images, url, tmp_path / "none.dcm", "--json")
    assert there == here
    assert run("predict", "lung", tmp_path / "none.dcm", "--url", url)[0] == 3


@pytest.mark.parametrize("form", [["--json"], []])
def test_records_go_as_meds_rows(
    run: Run, tiny_records: tuple[Path, RunSpec], tmp_path: Path, form: list[str]
):
    long, meds = tiny_records[0] / "events" / "part-0.csv", tmp_path / "meds.csv"
    with long.open(newline="") as lines, meds.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["subject_id", "time", "code", "numeric_value", "text_value"])
        for row in csv.DictReader(lines):
            text = row["code"] == "sex"
            value = ("", row["value"]) if text else (row["value"], "")
            out.writerow([row["patient"], row["hours"], row["code"], *value])
    package = str(tiny_records[0] / "run" / "package")
    with _service(package) as address:
        here, there = _both(run, package, address, long, *form, theirs=[meds, *form])
    assert there == here
    assert len(here) > 200


@pytest.mark.parametrize("form", [["--json"], []])
def test_molecules_are_told_as_here(run: Run, tmp_path: Path, form: list[str]):
    package = tiny_molecules.make_judge(str(tmp_path / "package")).uri
    (tmp_path / "some.smi").write_text("CCO ethanol\nC(C\nOCC\n")
    (tmp_path / "more.csv").write_text("smiles,name\nc1ccccc1,benzene\n,nothing\n")
    given = ["CC(=O)O", "[Cu]", tmp_path / "some.smi", tmp_path / "more.csv"]
    with _service(package) as address:
        here, there = _both(run, package, address, *given, *form)
        assert there == here
        drawn = ["CCO", "--json", "--explain"]
        here, there = _both(
            run, package, address, *drawn, tmp_path / "here", theirs=[*drawn, tmp_path / "there"]
        )
    mine, theirs = Path(here[0]["picture"]), Path(there[0]["picture"])
    assert mine.name == theirs.name
    assert mine.read_bytes() == theirs.read_bytes()


def test_what_the_service_cannot_do_is_said(run: Run, images: str, url: str, tmp_path: Path):
    code, _, error = run("predict", "heart", "a.dcm", "--url", url)
    assert code == 1
    assert "no such model; there is: lung" in error
    code, _, error = run("predict", "lung", "a.dcm", "--url", url, "--all")
    assert code == 2
    code, _, error = run("predict", "lung", "a.dcm", "--url", "http://127.0.0.1:1")
    assert code == 1
    assert "cannot be reached" in error


def test_the_token_is_the_file_s(run: Run, tmp_path: Path):
    app = Script(lambda *_: Reply(401, {"detail": "who?"}))
    (tmp_path / "token").write_text("secret\n")
    with served(app) as port:
        asked = ["predict", "lung", "a.dcm", "--url", f"http://127.0.0.1:{port}", "--token-file"]
        assert run(*asked, tmp_path / "token")[0] == 1
        code, _, error = run(*asked, tmp_path / "none")
    assert [one.headers["authorization"] for one in app.asked] == ["Bearer secret"]
    assert code == 2
    assert "secret" not in error
