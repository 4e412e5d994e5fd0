"""The routes of /v1: bounded bodies in, scores or problems out. Knows nothing of Ray.

Who may ask, what a request may cost and what is written down of it is `access`, around this.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Protocol

from fastapi import FastAPI, Header, Path, Query, Response
from fastapi import Request as Asked
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from medray import __version__
from medray.serve import documents
from medray.serve.asked import Explained, Request
from medray.serve.cards import Cards
from medray.serve.metrics import Metrics
from medray.serve.parts import read_request
from medray.serve.problems import PROBLEM, ProblemError
from medray.serve.routes import Route, Routes
from medray.spec.pixels import PixelSpec
from medray.spec.serve import LimitsSpec

_LOG = logging.getLogger(__name__)

REF = r"^[a-z0-9][a-z0-9_.-]{0,63}(@[A-Za-z0-9_.-]{1,32})?$"
Ref = Annotated[
    str,
    Path(
        pattern=REF,
        description="name, name@version or name@alias",
    ),
]
_BODIES = (
    "application/dicom",
    "image/png",
    "image/jpeg",
    "application/zip",
    "multipart/form-data",
    "multipart/related",
    "application/json",
    "application/fhir+json",
)
_PICTURES = ("image/png", "application/dicom", "multipart/related")
_REFUSED = documents.problems(400, 401, 403, 404, 408, 413, 415, 422, 429, 503, 504)


class Backend(Protocol):
    """Where models are. Raises ProblemError: 429, 503 and 504, and what a model refuses."""

    @property
    def routes(self) -> Routes:
        """What is served now."""
        ...

    async def predict(self, route: Route, request: Request) -> dict[str, Any]:
        """The answer of `Worker.predict`."""
        ...

    async def explain(self, route: Route, request: Request) -> Explained:
        """The answer of `Worker.explain`."""
        ...

    async def running(self, route: Route) -> dict[str, int]:
        """Replicas by state."""
        ...

    async def ready(self) -> None:
        """Nothing, when every model that rests in memory answers. Raises ProblemError."""
        ...

    def shadow(self, route: Route, request: Request, request_id: str) -> None:
        """Ask the versions that are tried in the shadow of this one; nobody waits for them."""
        ...


class Doorway:
    """What the routes do; one for each process."""

    def __init__(self, backend: Backend, limits: LimitsSpec) -> None:
        self.backend, self.limits = backend, limits
        self.cards, self.metrics = Cards(), Metrics()

    async def read(self, asked: Asked) -> Request:
        """The body, in parts. Raises ProblemError."""
        kind = asked.headers.get("content-type", "")
        return await read_request(asked.stream(), kind, self.limits)

    async def predict(self, asked: Asked, ref: str) -> Response:
        """Answer POST …/predict."""
        started = time.perf_counter()
        request_id = request_id_of(asked)
        route = self._routed(asked, ref, request_id)
        request = await self.read(asked)
        read = time.perf_counter()
        answer = await self.ask(asked, route, request)
        timing = {"parts": read - started, **answer.pop("timing")}
        timing["total"] = time.perf_counter() - started
        named = {"request_id": request_id, "model": route.name, "version": route.version}
        return as_json(named | answer, headers={"Server-Timing": _timing(timing)})

    async def ask(self, asked: Asked, route: Route, request: Request) -> dict[str, Any]:
        """What a model says of a request: counted, told to the audit, repeated in the shadow."""
        with self.metrics.asked(route, "predict") as outcome:
            answer = await self.backend.predict(route, request)
            outcome.items(answer["predictions"])
        self.backend.shadow(route, request, request_id_of(asked))
        note(asked, answer["package"], answer["predictions"])
        return answer

    async def explain(self, asked: Asked, ref: str, target: str | None, accept: str) -> Response:
        """Answer POST …/explain."""
        from medray.serve.explained import as_accepted

        request_id = request_id_of(asked)
        route = self._routed(asked, ref, request_id)
        request = await self.read(asked)
        with self.metrics.asked(route, "explain"):
            found = await self.backend.explain(route, Request(parts=request.parts, target=target))
        note(asked, route.ref, [{"item_id": one.item_id} for one in found.heatmaps])
        named = {"request_id": request_id, "model": route.name, "version": route.version}
        return await asyncio.to_thread(as_accepted, accept, route, request, found, named)

    def _routed(self, asked: Asked, ref: str, request_id: str) -> Route:
        """Which version answers; the audit is told before anything can go wrong."""
        route = self.backend.routes.of(ref, request_id)
        note(asked, route.ref)
        return route

    def pixels_of(self, ref: str) -> PixelSpec | None:
        """How a model reads pictures; None for one of other things. Raises ProblemError."""
        return self.cards.pixels(self.backend.routes.of(ref))

    async def models(self) -> Response:
        """Answer GET /v1/models."""
        routes = self.backend.routes
        told = [await asyncio.to_thread(self.cards.of, one, routes) for one in routes.every]
        return as_json({"models": told})

    async def model(self, asked: Asked, ref: str) -> Response:
        """Answer GET /v1/models/{ref}."""
        routes = self.backend.routes
        route = self._routed(asked, ref, "")
        told = await asyncio.to_thread(self.cards.whole, route, routes)
        return as_json({**told, "replicas": await self.backend.running(route)})


def http_app(backend: Backend, limits: LimitsSpec) -> FastAPI:
    """Build the routes. Bodies are bounded by `limits`; problems are documents."""
    door = Doorway(backend, limits)
    app = FastAPI(
        title="medray",
        version=__version__,
        description="Scores of medical models. Not a medical device: for research use.",
        docs_url=None,
        redoc_url=None,
    )
    app.state.door = door
    app.openapi = lambda: documents.openapi(app)
    _problems(app)
    _models(app, door)
    _health(app, door)
    return app


def _models(app: FastAPI, door: Doorway) -> None:
    @app.get(
        "/v1/models",
        response_model=documents.Models,
        responses=documents.problems(401, 403, 429),
        summary="What is served",
    )
    async def models() -> Response:
        return await door.models()

    @app.get(
        "/v1/models/{ref}",
        response_model=documents.ModelDocument,
        responses=documents.problems(401, 403, 404, 422, 429),
        summary="One version, with its model card",
    )
    async def model(ref: Ref, asked: Asked) -> Response:
        return await door.model(asked, ref)

    @app.post(
        "/v1/models/{ref}/predict",
        response_model=documents.Answer,
        responses=_REFUSED,
        openapi_extra=documents.bodies(*_BODIES),
        summary="Score what is sent",
    )
    async def predict(ref: Ref, asked: Asked) -> Response:
        return await door.predict(asked, ref)

    @app.post(
        "/v1/models/{ref}/explain",
        response_model=documents.Explanations,
        responses={**_REFUSED, **documents.problems(406), **documents.also(*_PICTURES)},
        openapi_extra=documents.bodies(*_BODIES),
        summary="What the score rests on",
    )
    async def explain(
        ref: Ref,
        asked: Asked,
        target: Annotated[str | None, Query(max_length=256)] = None,
        accept: Annotated[str, Header()] = "application/json",
    ) -> Response:
        return await door.explain(asked, ref, target, accept)


def _health(app: FastAPI, door: Doorway) -> None:
    @app.get("/healthz", response_model=documents.Health, summary="It is alive")
    async def healthz() -> Response:
        return as_json({"status": "ok"})

    @app.get(
        "/readyz",
        response_model=documents.Health,
        responses=documents.problems(503),
        summary="Its models answer",
    )
    async def readyz() -> Response:
        await door.backend.ready()
        return as_json({"status": "ok"})

    @app.get(
        "/metrics",
        response_class=Response,
        responses=documents.problems(401, 403, 429),
        summary="Prometheus, of this process",
    )
    async def metrics() -> Response:
        return Response(door.metrics.text(), media_type=door.metrics.kind)


def _problems(app: FastAPI) -> None:
    def answered(asked: Asked, problem: ProblemError) -> Response:
        asked.scope.setdefault("medray.audit", {})["problem"] = problem.kind
        return as_problem(problem)

    async def problem(asked: Asked, error: Exception) -> Response:
        assert isinstance(error, ProblemError)  # noqa: S101 - what it is registered for
        return answered(asked, error)

    async def invalid(asked: Asked, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        errors = [
            {"pointer": "/".join(map(str, one["loc"])), "detail": one["msg"]}
            for one in error.errors()
        ]
        detail = "the address or a header is not as it must be"
        return answered(
            asked, ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-request", detail, errors)
        )

    async def http(asked: Asked, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        status = HTTPStatus(error.status_code)
        kind = status.phrase.lower().replace(" ", "-")
        headers = dict(error.headers or {})
        return answered(
            asked,
            ProblemError(status, kind, f"{status.phrase}; see /openapi.json", headers=headers),
        )

    async def failed(asked: Asked, error: Exception) -> Response:
        # the boundary: nothing of the request may reach the answer or the log
        _LOG.error("a request failed: %s", type(error).__name__)
        return answered(
            asked, ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, "failed", "the request failed")
        )

    app.add_exception_handler(ProblemError, problem)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, failed)


def request_id_of(asked: Asked) -> str:
    """As `access` has given it, or read it from the request."""
    return str(asked.scope.get("medray.request_id", ""))


def note(asked: Asked, package: str, items: Sequence[Mapping[str, Any]] = ()) -> None:
    """Tell the audit what was answered, by pseudonym."""
    audit = asked.scope.setdefault("medray.audit", {})
    audit["package"] = package
    audit["items"] = [
        [one["item_id"], one.get("reason") or one.get("status", "ok")] for one in items
    ]


def as_json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON, without a detour over models."""
    text = json.dumps(content, ensure_ascii=False)
    return Response(text, status, headers, "application/json")


def as_problem(problem: ProblemError) -> Response:
    """A problem document."""
    text = json.dumps(problem.document(), ensure_ascii=False)
    return Response(text, int(problem.status), problem.headers, PROBLEM)


def _timing(seconds: Mapping[str, float]) -> str:
    return ", ".join(f"{name};dur={1000 * value:.2f}" for name, value in seconds.items())
