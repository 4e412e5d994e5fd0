"""A real Chromium, and the page on a server of its own. Without a browser these tests fail."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from page_server import Behind, app_of, served
from playwright.sync_api import Browser, Page, sync_playwright
from tiny import SPEC, make_package

from medray.schema import PREDICTIONS
from medray.spec.models import IngestSpec
from medray.spec.pixels import PixelSpec

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a module: as long as it runs, no other test could start an event loop."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="session")
def behind(tmp_path_factory: pytest.TempPathFactory, pseudonym_key: None) -> Behind:
    """A small package that pads pictures to a square, as heat maps are hardest to lay right."""
    folder = tmp_path_factory.mktemp("page") / "package"
    pixels = PixelSpec(size=(16, 16), fit="pad")
    ingest = IngestSpec(archive=("archive",), pixels=pixels)
    make_package(str(folder), spec=SPEC.model_copy(update={"name": "scans", "ingest": ingest}))
    return Behind(str(folder))


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run's folder with 120 scored studies over three days, and a file that was refused."""
    folder = tmp_path_factory.mktemp("run")
    rows: list[dict[str, Any]] = []
    for number in range(120):
        row = dict.fromkeys(PREDICTIONS.names)
        row |= {"item_id": f"{number:03x}#0", "study_id": f"study{number:03d}", "file_id": "f"}
        row |= {"size": 1, "mtime_ns": 1, "frame": 0, "target": "bright", "score": number / 120}
        row |= {"decision": number >= 60, "status": "ok", "package": "scans@1#0123456789ab"}
        row |= {"run": "r", "prediction_time": datetime(2024, 5, 1 + number % 3, tzinfo=UTC)}
        rows.append(row)
    bad = dict.fromkeys(PREDICTIONS.names) | {"item_id": "x", "file_id": "x", "size": 1}
    bad |= {"mtime_ns": 1, "status": "rejected", "reason": "truncated", "run": "r"}
    rows.append(bad | {"package": "scans@1#0123456789ab"})
    write_deltalake(str(folder / "predictions"), pa.Table.from_pylist(rows, schema=PREDICTIONS))
    return str(folder)


@pytest.fixture(scope="session")
def address(behind: Behind, scored: str) -> Iterator[str]:
    """The page, open to all."""
    with served(app_of(behind, [scored])) as url:
        yield url


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Open the page. Whatever it asks elsewhere, and every error it meets, fails the test."""
    wrong: list[str] = []
    contexts: list[Any] = []

    def open_page(address: str, place: str = "", **options: Any) -> Page:
        context = browser.new_context(**({"viewport": {"width": 1360, "height": 860}} | options))
        contexts.append(context)
        page = context.new_page()
        home = urlsplit(address).netloc

        def asked(request: Any) -> None:
            url = urlsplit(request.url)
            if url.scheme not in ("blob", "data") and url.netloc != home:
                wrong.append(f"asks {request.url}")

        page.on("request", asked)
        page.on("websocket", lambda socket: wrong.append(f"asks {socket.url}"))
        page.on("pageerror", lambda error: wrong.append(f"raises {error}"))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.goto(f"{address}/{place}")
        return page

    yield open_page
    for context in contexts:
        for number, page in enumerate(context.pages):
            page.screenshot(path=tmp_path / f"last-{number}.png")
        context.close()
    refused = "the server responded with a status of 4"  # what a test asks for on purpose
    assert [one for one in wrong if refused not in one] == []
