"""Figure 7: the page's journey in Chromium, on the service itself.

    python -m benchmarks.serving_viewer

A night is scored; then a CT slice of 512×512 is chosen on the page of `medray serve`, looked at,
explained, and the night's worklist opened. Screenshots lie in figures/viewer, or in the folder
$MEDRAY_SCREENSHOTS. First pictures: of a page that was just opened, and of one at rest.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks import packages, serving
from benchmarks.figures import Figure
from medray import api
from medray.dicom.write import write_instance
from medray.score.pictures import Pictures
from medray.score.predictor import Predictor
from medray.spec.models import RunSpec

CHROMIUM = "/usr/bin/chromium"
FLAGS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
ROUNDS, NIGHT = 5, 60
BAR_S = 2.0
SHOWN = ".stage[data-shown]"


def figures() -> list[Figure]:
    """Walk and measure."""
    from playwright.sync_api import sync_playwright

    shots = Path(os.environ.get("MEDRAY_SCREENSHOTS", "figures/viewer"))
    shots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        package = packages.untrained_package(home / "model", "conv3", 64)
        night = _night(home, package)
        models = [{"package": package}]
        viewer = {"worklist": [night.output_uri]}
        with (
            serving.service(home / "service", models, viewer=viewer) as running,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS])
            walked = _walk(browser, running.url, package, shots)
            opened = [_first(browser, running.url, 0) for _ in range(ROUNDS)]
            rested = [_first(browser, running.url, 4000) for _ in range(ROUNDS)]
            browser.close()
    return [
        *walked,
        _seconds("first picture of a 512×512 CT, page at rest", rested),
        _seconds("first picture of a 512×512 CT, page just opened", opened),
    ]


def _night(home: Path, package: str) -> RunSpec:
    packages.write_scans(home / "archive", NIGHT)
    score = {"archive": str(home / "archive"), "package": package}
    spec = RunSpec.model_validate({"name": "night", "output": str(home / "night"), "score": score})
    api.score(spec)
    return spec


def _walk(browser: Any, url: str, package: str, shots: Path) -> list[Figure]:
    """Upload → score → overlay → worklist."""
    page = browser.new_page(viewport={"width": 1360, "height": 860})
    hosts: set[str] = set()
    said: list[str] = []
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    page.on("console", lambda line: said.append(line.text) if line.type == "error" else None)
    page.goto(url)
    page.set_input_files("#scan-files", [_file()])
    page.wait_for_selector(SHOWN)
    page.wait_for_selector("div.score")
    shown = page.locator("[data-target=lesion] output").inner_text()
    (row,) = Pictures(Predictor(package)).predict_bytes("a.dcm", _scan())
    page.click("#explain")
    page.wait_for_selector("#explain[aria-pressed=true]")
    page.wait_for_timeout(500)
    page.screenshot(path=shots / "scan.png")
    page.get_by_role("link", name="Worklist").click()
    page.wait_for_selector("tbody tr")
    page.wait_for_timeout(300)
    lines = page.locator("tbody tr").count()
    page.screenshot(path=shots / "worklist.png")
    page.close()
    foreign = {host for host in hosts if host and host != urlsplit(url).netloc}
    return [
        Figure(
            name="score on the page, beside predict",
            value=shown,
            bar=f"{row.score:.3f}",
            ok=shown == f"{row.score:.3f}",
            note=f"of an untrained conv3; screenshots in {shots}",
        ),
        Figure(
            name="lines of the worklist on the first page",
            value=str(lines),
            bar="> 0",
            ok=lines > 0,
            note=f"a night of {NIGHT} files",
        ),
        Figure(
            name="requests that left for elsewhere; errors in the console",
            value=f"{len(foreign)}; {len(said)}",
            bar="0; 0",
            ok=not foreign and not said,
            note="; ".join(said[:2]),
        ),
    ]


def _first(browser: Any, url: str, rest_ms: int) -> float:
    """Seconds from a file's choice to its picture."""
    page = browser.new_page(viewport={"width": 1360, "height": 860})
    page.goto(url)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(rest_ms)
    started = time.perf_counter()
    page.set_input_files("#scan-files", [_file()])
    page.wait_for_selector(SHOWN)
    taken = time.perf_counter() - started
    page.close()
    return taken


def _seconds(name: str, taken: list[float]) -> Figure:
    return Figure(
        name=name,
        value=f"{statistics.median(taken):.2f} s",
        bar=f"≤ {BAR_S:g} s",
        ok=statistics.median(taken) <= BAR_S,
        note=f"median of {len(taken)}, worst {max(taken):.2f} s; graphics in software",
    )


def _file() -> Any:
    return {"name": "a.dcm", "mimeType": "application/dicom", "buffer": _scan()}


def _scan() -> bytes:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:512, 0:512] / 512 - 0.5
    body = np.where((x / 0.42) ** 2 + (y / 0.34) ** 2 < 1, 1060, 24)
    lungs = ((np.abs(x) - 0.19) / 0.13) ** 2 + (y / 0.22) ** 2 < 1
    values = np.where(lungs, 180, body) + rng.normal(0, 25, x.shape)
    return write_instance(
        np.rint(np.clip(values, 0, 4095)).astype(np.uint16),
        sop_instance_uid="2.25.1",
        study_instance_uid="2.25.2",
        series_instance_uid="2.25.3",
        patient_id="FIGURE",
        modality="CT",
        bits_stored=12,
        rescale=(1, -1024),
        window=(40, 400),
        pixel_spacing_mm=(0.8, 0.8),
    )


if __name__ == "__main__":
    for row in figures():
        print(row)
