"""The process that reads requests and answers them; on Ray Serve, in front of the models.

What it knows of models is its `user_config`: told anew, it serves other versions without a restart.
"""

from typing import Any

from fastapi import FastAPI

from medray import storage
from medray.serve.access import guarded
from medray.serve.backend import Handles
from medray.serve.dicomweb_routes import dicomweb_router
from medray.serve.http import Doorway, http_app
from medray.serve.page import page_router
from medray.serve.routes import Routes
from medray.serve.shadow import Shadows
from medray.spec.serve import FrontSpec


class Door:
    """One process at the front."""

    def __init__(self, front: dict[str, Any]) -> None:
        self._front = FrontSpec.model_validate(front)
        self._shadows = Shadows(storage.join(self._front.output_uri, "shadow"))
        self._handles = Handles(Routes(), self._shadows)

    def __serve_build_asgi_app__(self) -> Any:
        return door_app(self._front, self._handles, self._shadows)

    def reconfigure(self, routes: dict[str, Any]) -> None:
        """Serve other versions from now on."""
        self._handles.reroute(Routes.model_validate(routes))


def door_app(front: FrontSpec, backend: Any, shadows: Shadows) -> Any:
    """All that is behind one address, guarded."""
    app: FastAPI = http_app(backend, front.limits)
    door: Doorway = app.state.door
    app.include_router(dicomweb_router(door))
    if front.viewer.enabled:
        app.include_router(page_router(front.viewer, door.read, door.pixels_of))
    shadows.metrics = door.metrics
    audit = front.audit.model_copy(update={"folder": front.audit_folder})
    tls = front.tls is not None
    return guarded(app, front.access, front.limits, audit, host=front.host, tls=tls)
