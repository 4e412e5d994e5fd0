"""The Ray Serve deployment of one model.

    serve run medray.serve.app:build package=runs/icu_mortality/package

`POST /v1/models/{name}/predict` takes a `messages.Question`, or `messages.Structures`; see
`http`.
"""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application

from medray.serve.http import http_app
from medray.serve.model import open_model


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
        self._model = open_model(self._settings.package, self._settings.device)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return http_app(self._model, self._settings.body_bytes)


def build(args: Settings) -> Application:
    """Build the application for `serve run medray.serve.app:build` and for a Serve config."""
    deployment: Any = serve.deployment(
        name="model",
        num_replicas=args.replicas,
        max_ongoing_requests=4,
        max_queued_requests=args.waiting,
        ray_actor_options={"num_cpus": args.cpus, "num_gpus": args.gpus},
    )(serve.ingress()(Replica))
    return deployment.bind(args.model_dump())
