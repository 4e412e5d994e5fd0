"""A door without Ray: its routes over models that are loaded in this process."""

import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from medray.package import open_package
from medray.serve.asked import Explained, Request
from medray.serve.http import http_app
from medray.serve.model import open_model
from medray.serve.problems import ProblemError
from medray.serve.routes import Route, Routes
from medray.spec.serve import LimitsSpec


def route(package: str, **more: Any) -> Route:
    """Of a package in a folder."""
    found = open_package(package)
    fields: dict[str, Any] = {
        "name": found.name,
        "version": found.version,
        "app": f"{found.name}--{found.version}",
        "uri": package,
        "digest": found.digest,
        "reads": found.reads,
    }
    return Route(**fields | more)


class InProcess:
    """A backend of loaded packages."""

    def __init__(self, *routes: Route) -> None:
        self.routes = Routes(every=routes)
        self.shadowed: list[tuple[str, str]] = []
        self._models = {one.uri: open_model(one.uri) for one in routes}

    async def predict(self, route: Route, request: Request) -> dict[str, Any]:
        started = time.perf_counter()
        model = self._models[route.uri]
        (answer,) = model.answer([model.read(request)])
        return {
            **answer,
            "package": model.package.ref,
            "timing": {"compute": time.perf_counter() - started},
        }

    async def explain(self, route: Route, request: Request) -> Explained:
        model = self._models[route.uri]
        return model.explain(model.read(request), request.target)

    async def running(self, route: Route) -> dict[str, int]:
        return {"running": 1, "min": route.resting, "max": route.most}

    async def ready(self) -> None:
        if not self._models:
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", "no model")

    def shadow(self, route: Route, request: Request, request_id: str) -> None:
        self.shadowed += [(one.ref, request_id) for one in self.routes.shadows(route)]


def client(backend: InProcess, **limits: Any) -> httpx.AsyncClient:
    """Asks the door's routes over ASGI."""
    app = http_app(backend, LimitsSpec(**limits))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://door")


async def ask(
    backend: InProcess,
    path: str,
    body: bytes | None = None,
    kind: str = "application/json",
    headers: Mapping[str, str] | None = None,
    **limits: Any,
) -> httpx.Response:
    """One request; POST when there is a body."""
    async with client(backend, **limits) as door:
        if body is None:
            return await door.get(path, headers=headers)
        return await door.post(
            path, content=body, headers={"Content-Type": kind, **(headers or {})}
        )


def ward(folder: Path, models: Sequence[Mapping[str, Any]], *, port: int, **more: Any) -> Path:
    """A service's file; JSON is YAML."""
    import json

    spec = {
        "name": "ward",
        "port": port,
        "output": str(folder / "out"),
        "access": {"open": True},
        "limits": {"per_minute": 1_000_000},
        "models": [dict(one) for one in models],
    }
    path = folder / "ward.yaml"
    path.write_text(json.dumps(spec | more))
    return path
