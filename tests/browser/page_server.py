"""The page on a server of its own, in this process: real decoding, scores and heat maps.

Models stand behind it without Ray, so that a journey takes seconds: `Pictures` of a small package
of scans, and documents of medray's own types where a journey is about how the page shows them.
"""

import base64
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from itertools import groupby
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from tiny import TINY

from medray.explain.events import EventPart, Explanation
from medray.explain.heatmap import encode_png
from medray.molecules.drawing import svg
from medray.score.pictures import Pictures
from medray.score.prediction import PredictionRow
from medray.score.predictor import Predictor
from medray.serve.asked import Part
from medray.serve.asked import Request as Question
from medray.serve.page import page_router
from medray.serve.problems import PROBLEM, ProblemError
from medray.spec.serve import ViewerSpec

TOKEN = "seven words that nobody would guess"
CARD = """# scans 1

**Research use only.**

## Metrics

| target | AUC |
|---|---|
| bright | 0.91 |
"""


async def read_form(request: Request) -> Question:
    """Every file of a form, in order."""
    async with request.form() as form:
        files = [one for _, one in form.multi_items() if isinstance(one, UploadFile)]
        return Question(tuple([Part("file", await one.read()) for one in files]))


class Behind:
    """What answers: one package of scans, and made-up documents of the other two kinds."""

    def __init__(self, package: str) -> None:
        self.pictures = Pictures(Predictor(package, workload=TINY))
        self.package = self.pictures.predictor.package
        self.requests: list[tuple[str, str]] = []  # path, authorization

    def models(self) -> list[dict[str, Any]]:
        """As GET /v1/models tells them."""
        entries = self.package.calibration.targets.items()
        targets = [
            {"name": name, "kind": one.kind, "classes": [*one.classes], "threshold": one.threshold}
            | {"calibrated_on": 120, "note": ""}
            for name, one in entries
        ]
        risk = {"name": "death", "kind": "binary", "classes": [], "threshold": 0.3}
        toxic = {"name": "NR-AR", "kind": "binary", "classes": [], "threshold": 0.2}
        return [
            _model("scans", "images", self.package.ref, targets),
            _model("ward", "records", "ward@1#0123456789ab", [risk]),
            _model("tox", "molecules", "tox@1#0123456789ab", [toxic]),
        ]

    def predict(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        """As POST …/predict tells scans."""
        told: list[dict[str, Any]] = []
        for number, part in enumerate(parts):
            rows = self.pictures.predict_bytes(f"part{number}", part.data)
            for _, group in groupby(rows, lambda row: row.item_id):
                told.append(self._item(number, list(group)))
        return told

    def _item(self, number: int, rows: list[PredictionRow]) -> dict[str, Any]:
        first = rows[0]
        thresholds = {k: v.threshold for k, v in self.package.calibration.targets.items()}
        scores = [
            {"target": row.target, "text_value": row.text_value, "score": row.score}
            | {"decision": row.decision, "threshold": thresholds[row.target or ""]}
            for row in rows
            if row.status == "ok"
        ]
        named = {"part": number, "frame": first.frame, "item_id": first.item_id}
        ends = {"status": first.status, "reason": first.reason, "detail": ""}
        return {**named, **ends, "scores": scores}

    def explain(self, parts: Sequence[Part], target: str | None) -> list[dict[str, Any]]:
        """As POST …/explain tells scans."""
        return [
            {"part": number, "frame": one.frame, "item_id": "", "target": target or "bright"}
            | {"heatmap": _base64(np.rint(one.heatmap * 255).astype(np.uint8))}
            for number, part in enumerate(parts)
            for one in self.pictures.explain_bytes(part.data, target)
        ]


def app_of(behind: Behind, worklist: Sequence[str] = (), token: str | None = None) -> FastAPI:
    """The page and what is behind it."""
    app = FastAPI()
    named = {"request_id": "r-1", "package": behind.package.ref}

    @app.middleware("http")
    async def guarded(request: Request, ask: Any) -> Response:
        behind.requests.append((request.url.path, request.headers.get("authorization", "")))
        wanted = token is not None and request.url.path.startswith("/v1/")
        if wanted and request.headers.get("authorization") != f"Bearer {token}":
            return _problem(ProblemError(HTTPStatus.UNAUTHORIZED, "no-token", "a token is needed"))
        return await ask(request)

    @app.exception_handler(ProblemError)
    async def problem(_: Request, error: ProblemError) -> Response:
        return _problem(error)

    @app.get("/v1/models")
    def models() -> Any:
        return {"models": behind.models()}

    @app.get("/v1/models/{ref}")
    def model(ref: str) -> Any:
        return behind.models()[0] | {"card": CARD}

    @app.post("/v1/models/scans@1/predict")
    async def predict(request: Request) -> Any:
        parts = (await read_form(request)).parts
        return named | {"predictions": behind.predict(parts)}

    @app.post("/v1/models/scans@1/explain")
    async def explain(request: Request, target: str | None = None) -> Any:
        parts = (await read_form(request)).parts
        return named | {"explanations": behind.explain(parts, target)}

    _made_up(app)
    pixels = behind.package.pixels
    app.include_router(
        page_router(ViewerSpec(worklist=tuple(worklist)), read_form, lambda ref: pixels)
    )
    return app


def _made_up(app: FastAPI) -> None:
    """Answers about records and molecules: medray's own documents, without a model."""
    events = (
        EventPart(hours_before=2.0, code="lactate", numeric_value=4.2, contribution=1.1),
        EventPart(hours_before=30.0, code="creatinine", numeric_value=0.8, contribution=-0.6),
        EventPart(hours_before=None, code="sex", text_value="F", contribution=0.1),
    )
    score = {"target": "death", "text_value": None, "score": 0.62}
    score |= {"decision": True, "threshold": 0.3}

    @app.post("/v1/models/ward@1/predict")
    async def predict(request: Request) -> Any:
        body = await request.json()
        if "events" not in body:
            errors = [{"pointer": "/events", "detail": "Field required"}]
            said = "1 member is not as it must be"
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", said, errors)
        item = {"subject": 0, "item_id": "7@0", "prediction_time": "2024-05-01T10:00:00+00:00"}
        item |= {"status": "ok", "reason": None, "detail": "", "scores": [score]}
        counts = {"events": len(body["events"]), "refused": {}, "unknown_codes": {"X1": 1}}
        return {"request_id": "r-2", "package": "ward@1", "predictions": [item], **counts}

    @app.post("/v1/models/ward@1/explain")
    async def explain() -> Any:
        told = Explanation(
            package="ward@1", target="death", subject_id="7", item_id="7@0",
            prediction_time="2024-05-01T10:00:00", score=0.62, decision=True, empty=-0.2,
            timing=0.1, answer=0.5, error=0.0, points=16, unread=0, events=events,
        )  # fmt: skip
        return {"explanations": [{"subject": 0, **told.model_dump(mode="json")}], "drawings": {}}

    @app.post("/v1/models/tox@1/predict")
    async def molecules(request: Request) -> Any:
        told = [
            {"part": at, "smiles": smiles, "item_id": str(at), "status": "ok", "reason": None}
            | {"detail": "", "scores": [score | {"target": "NR-AR"}]}
            for at, smiles in enumerate((await request.json())["smiles"])
        ]
        return {"request_id": "r-3", "package": "tox@1", "predictions": told}

    @app.post("/v1/models/tox@1/explain")
    async def atoms(request: Request) -> Any:
        smiles = (await request.json())["smiles"]
        credit = np.array([1.0, -0.5, 0.2])
        told = [{"part": 0, "smiles": one, "target": "NR-AR", "atoms": [*credit]} for one in smiles]
        return {"explanations": told, "drawings": {one: svg(one, credit) for one in smiles}}


def _model(name: str, reads: str, ref: str, targets: list[dict[str, Any]]) -> dict[str, Any]:
    told = {"name": name, "version": "1", "package": ref, "aliases": ["latest"], "default": True}
    return told | {"shadow": False, "workload": "tiny", "reads": reads, "targets": targets}


def _base64(picture: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(encode_png(picture)).decode()


def _problem(error: ProblemError) -> Response:
    document: Mapping[str, Any] = error.document()
    return JSONResponse(document, int(error.status), media_type=PROBLEM)


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve on a free port of this machine; gives the address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < end, "the server does not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
