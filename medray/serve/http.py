"""The HTTP door: bounded bodies in, scores or problems out. Knows nothing of Ray.

One thread computes: the number of torch's threads belongs to the process.
"""

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response

from medray.serve.model import Model
from medray.serve.problems import PROBLEM, ProblemError

_LOG = logging.getLogger(__name__)


def http_app(model: Model, body_bytes: int) -> FastAPI:
    """Build the ASGI application: bounded bodies, problems as documents."""
    app = FastAPI(title=model.package.ref, openapi_url=None)
    one = ThreadPoolExecutor(1, "predict")

    async def predict(name: str, request: Request) -> Response:
        try:
            if name != model.package.name:
                detail = f"the model here is {model.package.name}"
                raise ProblemError(HTTPStatus.NOT_FOUND, "no-such-model", detail)
            asked = model.question(await _body(request, body_bytes))
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
