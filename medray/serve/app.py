"""The HTTP door and the Ray Serve deployment behind it.

    serve run medray.serve:build package=runs/icu_mortality/package

`POST /v1/models/{name}/predict` takes a `messages.Question`. One thread computes in a replica: the
number of torch's threads belongs to the process, and what a request waits for is bounded by Serve's
queue.
"""

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from medray.serve.messages import PROBLEM, ProblemError, question
from medray.serve.model import Model

_LOG = logging.getLogger(__name__)


class Settings(BaseModel):
    """Arguments of `build`.

    package     the package's folder.
    body_bytes  of a request, at most.
    replicas    processes that each hold the model; waiting: requests per replica beyond the one
                that is computed, before more are turned away with 503.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    package: str
    device: str = "cpu"
    body_bytes: int = Field(default=4 << 20, ge=1)
    replicas: int = Field(default=1, ge=1)
    cpus: float = Field(default=1.0, gt=0)
    gpus: float = Field(default=0.0, ge=0)
    waiting: int = Field(default=32, ge=0)


class Replica:
    """One process with the loaded model; what Serve starts."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = Settings.model_validate(settings)
        self._model = Model(self._settings.package, self._settings.device)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return http_app(self._model, self._settings.body_bytes)


def build(args: Settings) -> Application:
    """Build the application for `serve run medray.serve:build` and for a Serve config."""
    deployment: Any = serve.deployment(
        name="model",
        num_replicas=args.replicas,
        max_ongoing_requests=4,
        max_queued_requests=args.waiting,
        ray_actor_options={"num_cpus": args.cpus, "num_gpus": args.gpus},
    )(serve.ingress()(Replica))
    return deployment.bind(args.model_dump())


def http_app(model: Model, body_bytes: int) -> FastAPI:
    """Build the ASGI application: bounded bodies, problems as documents."""
    app = FastAPI(title=model.package.ref, openapi_url=None)
    one = ThreadPoolExecutor(1, "predict")

    async def predict(name: str, request: Request) -> Response:
        try:
            if name != model.package.name:
                detail = f"the model here is {model.package.name}"
                raise ProblemError(HTTPStatus.NOT_FOUND, "no-such-model", detail)
            asked = question(await _body(request, body_bytes))
            loop = asyncio.get_running_loop()
            return _json(200, await loop.run_in_executor(one, model.answer, asked))
        except ProblemError as problem:
            return _json(problem.status, problem.document(), PROBLEM)
        except Exception as error:  # the boundary: nothing of the request may reach the answer
            _LOG.error("a prediction failed: %s", type(error).__name__)
            problem = ProblemError(
                HTTPStatus.INTERNAL_SERVER_ERROR, "failed", "the prediction failed"
            )
            return _json(problem.status, problem.document(), PROBLEM)

    app.add_api_route("/v1/models/{name}/predict", predict, methods=["POST"], response_model=None)
    return app


async def _body(request: Request, most: int) -> bytes:
    """Read the body, and no more of it than may be. Raises ProblemError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "not-json", "send application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "body-too-large",
                f"a body has {most} bytes at most; ask about fewer patients at once",
            )
    return bytes(body)


def _json(status: int, content: dict[str, Any], kind: str = "application/json") -> Response:
    return Response(json.dumps(content, ensure_ascii=False), int(status), media_type=kind)
