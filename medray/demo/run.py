"""The main path, once through: archive → dataset → package → report → scores → one prediction.

Calls the same functions as the command line, with the spec it leaves in the output folder.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from medray import api
from medray.demo.own import own_spec
from medray.errors import DataError
from medray.spec.load import dump_spec, parse_spec
from medray.spec.models import RunSpec
from medray.storage import list_files, write_atomic

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """What one verb did: the command that repeats it, its outcome, seconds, where to look."""

    command: str
    outcome: str
    seconds: float
    where: str


@dataclass(slots=True)
class DemoSummary:
    """All stages and the page to open."""

    report: str = ""
    stages: list[Stage] = field(default_factory=list)


def run_demo(
    output: Path, archive: str | None, labels: str | None, progress: Progress | None
) -> DemoSummary:
    """Build (or take) an archive and run every verb on it; run again, it goes on or is quick."""
    summary = DemoSummary()
    clock = _Clock(summary)
    if archive is None:
        from medray.demo.archive import build_archive

        build_archive(output, progress=progress)
        spec = _packaged_spec(output)
        clock("medray demo", "archive built", str(output / "archive"))
    else:
        spec = own_spec(output / "run", archive, labels)
    path = output / "spec.yaml"
    write_atomic(str(path), dump_spec(spec).encode())
    api.validate(str(path))
    run = Path(spec.output_uri)

    ingested = api.ingest(spec, progress=progress)
    clock(f"medray ingest {path}", ingested.headline(), str(run / "dataset"))
    trained = api.train(spec, progress=progress)
    clock(f"medray train {path}", trained.headline(), str(run / "package"))
    evaluated = api.evaluate(spec, progress=progress)
    summary.report = str(run / "report" / "report.html")
    clock(f"medray evaluate {path}", evaluated.headline(), summary.report)
    scored = api.score(spec, progress=progress)
    clock(f"medray score {path}", scored.headline(), str(run / "predictions"))

    package, file = str(run / "package"), _one_file(spec)
    explained = output / "heatmaps"
    rows = api.predict(package, [file], explain=str(explained))
    said = next(rows[0].lines()).removeprefix(f"{file}  ")
    clock(f"medray predict {package} {file} --explain {explained}", said, explained)
    return summary


class _Clock:
    """Adds a stage with the seconds since the last one."""

    def __init__(self, summary: DemoSummary) -> None:
        self._summary = summary
        self._last = time.perf_counter()

    def __call__(self, command: str, outcome: str, where: str | Path) -> None:
        now = time.perf_counter()
        self._summary.stages.append(Stage(command, outcome, now - self._last, str(where)))
        self._last = now


def _packaged_spec(output: Path) -> RunSpec:
    text = files("medray.demo").joinpath("spec.yaml").read_text(encoding="utf-8")
    return parse_spec(
        text,
        "medray/demo/spec.yaml",
        [
            f"output={output}/run",
            f"ingest.archive={output}/archive",
            f"ingest.tables.0.path={output}/labels.csv",
            f"ingest.tables.1.path={output}/patients.csv",
            f"score.archive={output}/night",
        ],
    )


def _one_file(spec: RunSpec) -> str:
    """The first file of the night that looks like a scan."""
    from medray.dicom.files import sniff

    section = spec.score.archive if spec.score else None
    roots = section or (spec.ingest.archive if spec.ingest else ())
    for root in roots:
        for file in list_files(root):
            with Path(file).open("rb") as stream:
                if sniff(stream.read(256)) in ("dicom", "png", "jpeg"):
                    return file
    raise DataError("no file to predict", remedy="check the archive's path")
