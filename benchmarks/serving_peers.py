"""Peers of the service: a bare FastAPI app, and LitServe, around the same `Pictures`.

python -m benchmarks.serving_peers bare|litserve PACKAGE PORT
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litserve
from fastapi import FastAPI, Request

from medray.score.pictures import Pictures
from medray.score.predictor import Predictor


def bare(package: str, port: int) -> None:
    """Run uvicorn and FastAPI: the body in, `Pictures` in one thread, rows out."""
    import uvicorn

    pictures = Pictures(Predictor(package, "cpu"))
    one = ThreadPoolExecutor(1)
    app = FastAPI()

    async def predict(request: Request) -> dict[str, Any]:
        data = await request.body()
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(one, pictures.predict_bytes, "a.dcm", data)
        return {"rows": [row.to_dict() for row in rows]}

    async def health() -> dict[str, str]:
        return {"status": "ok"}

    app.post("/predict")(predict)
    app.get("/health")(health)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


class Scans(litserve.LitAPI):
    """One worker process: files are decoded as they come, and computed together."""

    package = ""

    def setup(self, device: str) -> None:
        """Load the package."""
        self.pictures = Pictures(Predictor(self.package, device))

    def decode_request(self, request: Request) -> Any:  # what LitServe goes by; it is a form
        """Read the file of a form."""
        form: Any = request
        return self.pictures.read("a.dcm", form["file"].file.read())

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Leave them apart: shapes may differ."""
        return inputs

    def predict(self, files: Any) -> Any:
        """Answer all of a batch, or one file."""
        return self.pictures.answer(files if isinstance(files, list) else [files])

    def unbatch(self, output: Any) -> Any:
        """One answer for each."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Rows as JSON."""
        return {
            "rows": [
                {"item_id": key.item_id, "scores": [one.score for one in outcome.scores]}
                for key, outcome in output
            ]
        }


def lit(package: str, port: int) -> None:
    """Run LitServe with one worker and batches of 16 at most."""
    api = Scans(max_batch_size=16, batch_timeout=0.0)
    api.package = package
    server = litserve.LitServer(api, accelerator="cpu", devices=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")


if __name__ == "__main__":
    {"bare": bare, "litserve": lit}[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
