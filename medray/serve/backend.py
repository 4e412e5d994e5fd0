"""Models behind Serve handles: what a door asks, and what it makes of Serve's own refusals."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeVar

from ray import serve
from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    RequestCancelledError,
)

from medray.serve.asked import Explained, Request
from medray.serve.problems import ProblemError
from medray.serve.routes import Route, Routes
from medray.serve.shadow import Shadows

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_RETRY_S = {"Retry-After": "1"}
_FRESH_S = 1.0  # how long what was learned of replicas is believed
_READY_S = 5.0


class Handles:
    """Handles by application, made when first needed: what is not deployed any more is let go."""

    def __init__(self, routes: Routes, shadows: Shadows) -> None:
        self.routes = routes
        self._shadows = shadows
        self._handles: dict[str, Any] = {}
        self._ready_at = 0.0

    def reroute(self, routes: Routes) -> None:
        """Serve other versions from now on. Requests that are under way end where they are."""
        self.routes = routes
        apps = {one.app for one in routes.every}
        self._handles = {app: handle for app, handle in self._handles.items() if app in apps}
        self._ready_at = 0.0

    async def predict(self, route: Route, request: Request) -> dict[str, Any]:
        """The answer of `Worker.predict`. Raises ProblemError."""
        return await self._asked(route, "predict", request)

    async def explain(self, route: Route, request: Request) -> Explained:
        """The answer of `Worker.explain`. Raises ProblemError."""
        return await self._asked(route, "explain", request)

    async def running(self, route: Route) -> dict[str, int]:
        """Replicas that run, and at least and at most."""
        status = await asyncio.to_thread(serve.status)
        found = status.applications.get(route.app)
        states: list[dict[Any, int]] = []
        if found:
            states = [dict(one.replica_states) for one in found.deployments.values()]
        running = sum(one.get("RUNNING", 0) for one in states)
        return {"running": running, "min": route.resting, "max": route.most}

    async def ready(self) -> None:
        """Nothing, when all that rests in memory answers. Raises ProblemError."""
        if time.monotonic() - self._ready_at < _FRESH_S:
            return
        if not self.routes.every:
            raise _unavailable("not-ready", "the door has not been told of its models yet")
        resting = [one for one in self.routes.every if one.resting]
        try:
            async with asyncio.timeout(_READY_S):
                await asyncio.gather(*(self._handle(one, "ready").remote() for one in resting))
        except (TimeoutError, RayError, RayServeException) as error:
            detail = "a model does not answer yet"
            raise _unavailable("not-ready", detail) from error
        self._ready_at = time.monotonic()

    def shadow(self, route: Route, request: Request, request_id: str) -> None:
        """Ask the versions in the shadow of this one; their answers go to a table."""
        for one in self.routes.shadows(route):
            self._shadows.ask(one, request_id, lambda one=one: self.predict(one, request))

    async def _asked(self, route: Route, method: str, request: Request) -> Any:
        try:
            async with asyncio.timeout(route.timeout_s):
                answer = await self._twice(lambda: self._handle(route, method).remote(request))
        except TimeoutError:
            raise ProblemError(
                HTTPStatus.GATEWAY_TIMEOUT,
                "timeout",
                f"no answer within {route.timeout_s:g} s; ask about fewer items at once",
            ) from None
        except BackPressureError:
            detail = "too many requests are waiting for this model"
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS, "busy", detail, headers=_RETRY_S
            ) from None
        except (DeploymentUnavailableError, RayServeException, RayActorError) as error:
            _LOG.warning("%s does not answer: %s", route.app, type(error).__name__)
            raise _unavailable("unavailable", "the model does not answer just now") from None
        if isinstance(answer, ProblemError):
            raise answer
        return answer

    async def _twice(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Once more when the replica died: a prediction changes nothing, so it may be repeated."""
        try:
            return await ask()
        except (RayActorError, RequestCancelledError):
            return await ask()

    def _handle(self, route: Route, method: str) -> Any:
        if route.app not in self._handles:
            self._handles[route.app] = serve.get_app_handle(route.app)
        handle = self._handles[route.app]
        if route.pooled:
            handle = handle.options(multiplexed_model_id=route.uri)
        return getattr(handle, method)


def _unavailable(kind: str, detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, kind, detail, headers=_RETRY_S)
