"""Seconds from a file's choice to its picture: one 512×512 CT slice, in Chromium, on loopback.

    python -m benchmarks.first_picture

Starts the page alone behind a free port, without a model: the same decoding and the same page as
`medray serve`. The first line is a page that has just been opened, the second one at rest.
"""

import argparse
import platform
import statistics
import threading
import time
from typing import Any

import numpy as np

FLAGS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
ROUNDS = 5
BAR_S = 2.0


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--chromium", default="/usr/bin/chromium")
    chosen = arguments.parse_args()
    from playwright.sync_api import sync_playwright

    server, address = _serve()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chosen.chromium, args=[*FLAGS])
            print(f"{platform.processor() or platform.machine()}, Chromium {browser.version}")
            for name, rest_ms in (("just opened", 0), ("at rest", 4000)):
                taken = [_once(browser, address, rest_ms) for _ in range(ROUNDS)]
                print(
                    f"first picture, {name}: median {statistics.median(taken):.2f} s, "
                    f"worst of {ROUNDS} {max(taken):.2f} s, bar {BAR_S:g} s"
                )
    finally:
        server.should_exit = True


def _once(browser: Any, address: str, rest_ms: int) -> float:
    page = browser.new_page(viewport={"width": 1360, "height": 860})
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(rest_ms)
    file = {"name": "a.dcm", "mimeType": "application/dicom", "buffer": _scan()}
    started = time.perf_counter()
    page.set_input_files("#scan-files", [file])
    page.wait_for_selector(".stage[data-shown]")
    taken = time.perf_counter() - started
    page.close()
    return taken


def _scan() -> bytes:
    from medray.dicom.write import write_instance

    rng = np.random.default_rng(0)
    return write_instance(
        np.rint(np.clip(rng.normal(1060, 60, (512, 512)), 0, 4095)).astype(np.uint16),
        sop_instance_uid="2.25.1",
        study_instance_uid="2.25.2",
        series_instance_uid="2.25.3",
        patient_id="BENCH",
        modality="CT",
        bits_stored=12,
        rescale=(1, -1024),
        window=(40, 400),
        pixel_spacing_mm=(0.8, 0.8),
    )


def _serve() -> tuple[Any, str]:
    import uvicorn
    from fastapi import FastAPI, Request
    from starlette.datastructures import UploadFile

    from medray.serve.asked import Part
    from medray.serve.asked import Request as Question
    from medray.serve.page import page_router
    from medray.spec.serve import ViewerSpec

    async def read(request: Request) -> Question:
        async with request.form() as form:
            files = [one for _, one in form.multi_items() if isinstance(one, UploadFile)]
            return Question(tuple([Part("file", await one.read()) for one in files]))

    app = FastAPI()
    app.add_api_route("/v1/models", lambda: {"models": []})
    app.include_router(page_router(ViewerSpec(), read, lambda ref: None))
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error")
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return server, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


if __name__ == "__main__":
    main()
