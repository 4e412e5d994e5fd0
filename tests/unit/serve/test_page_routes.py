"""The page's routes: its files, a volume, the worklist; decoding leaves the event loop alone."""

import asyncio
import gzip
import json
import threading
from typing import Any

import httpx
import nibabel as nib
import numpy as np
import pytest
from fastapi import FastAPI, Request, Response

from medray.dicom.write import write_instance
from medray.serve import page
from medray.serve.asked import Part
from medray.serve.asked import Request as Question
from medray.serve.page import assets, page_router
from medray.serve.problems import ProblemError
from medray.spec.pixels import PixelSpec
from medray.spec.serve import ViewerSpec

SCAN = write_instance(
    np.full((8, 6), 7, np.uint8),
    sop_instance_uid="2.25.1",
    study_instance_uid="2.25.2",
    series_instance_uid="2.25.3",
    patient_id="P",
)


class Client:
    """Requests to an application in this process."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def ask(self, method: str, url: str, **more: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
                return await client.request(method, url, **more)

        return asyncio.run(asked())

    def get(self, url: str, **more: Any) -> httpx.Response:
        return self.ask("GET", url, **more)

    def post(self, url: str, **more: Any) -> httpx.Response:
        return self.ask("POST", url, **more)


@pytest.fixture
def client() -> Client:
    app = FastAPI()

    async def read(request: Request) -> Question:
        kind: Any = "file" if request.headers["content-type"] != "application/json" else "json"
        return Question((Part(kind, await request.body()),))

    @app.exception_handler(ProblemError)
    async def problem(_: Request, error: ProblemError) -> Response:
        return Response(json.dumps(error.document()), int(error.status))

    spec = PixelSpec(size=(4, 4), fit="pad")
    app.include_router(page_router(ViewerSpec(), read, lambda ref: spec))
    return Client(app)


def test_files_are_compressed_named_by_content_and_kept(client: Client) -> None:
    page_ = client.get("/")
    assert page_.headers["content-type"] == "text/html; charset=utf-8"
    assert page_.headers["content-security-policy"].startswith("default-src 'none'")
    assert "unsafe-inline" not in page_.headers["content-security-policy"]
    script = client.get("/static/app.js")
    assert script.headers["content-encoding"] == "gzip"
    assert script.content == assets()["app.js"].data
    plain = client.get("/static/app.js", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    again = client.get("/static/app.js", headers={"If-None-Match": script.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["none.js", "..%2Fpage.py", "%2e%2e/page.py", "app.js/", "."])
def test_nothing_else_is_reached(client: Client, name: str) -> None:
    assert client.get(f"/static/{name}").status_code in (307, 404)


def test_a_volume_and_what_it_is(client: Client) -> None:
    answer = client.post("/v1/display?ref=m", content=SCAN, headers={"Content-Type": "x/y"})
    told = json.loads(answer.headers["x-display"])
    assert (told["frames"], told["placed"], told["range"]) == (1, False, [0, 255])
    assert told["seen"] == {"size": [4, 4], "box": [0, 0, 4, 3]}
    image: Any = nib.Nifti1Image.from_bytes(gzip.decompress(answer.content))
    assert image.shape == (6, 8, 1)
    refused = client.post(
        "/v1/display", content=b"{}", headers={"Content-Type": "application/json"}
    )
    assert (refused.status_code, refused.json()["type"]) == (415, "urn:medray:problem:no-scan")


def test_decoding_is_done_in_a_thread(client: Client, monkeypatch: Any) -> None:
    seen: list[bool] = []
    real = page.display

    def spied(*arguments: Any) -> Any:
        with pytest.raises(RuntimeError):  # no event loop runs here
            asyncio.get_running_loop()
        seen.append(threading.current_thread() is threading.main_thread())
        return real(*arguments)

    monkeypatch.setattr(page, "display", spied)
    client.post("/v1/display", content=SCAN, headers={"Content-Type": "x/y"})
    assert seen == [False]


def test_a_worklist_without_tables_is_empty(client: Client) -> None:
    told = client.get("/v1/worklist?limit=5").json()
    assert (told["total"], told["rows"], told["newest"]) == (0, [], None)
    assert client.get("/v1/worklist?limit=x").status_code == 422
