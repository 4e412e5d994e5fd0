"""From a service's file to Serve's own configuration: which applications, with which options.

The same dict is deployed by `medray serve`, printed by `--config` for `serve deploy`, and stands in
a RayService as `serveConfigV2`.
"""

from pathlib import Path
from typing import Any, NamedTuple

from medray.errors import UsageError
from medray.package import Package, open_package
from medray.serve.routes import Route, Routes, check
from medray.spec.serve import BatchSpec, ReplicasSpec, ServedModel, ServeSpec

Config = dict[str, Any]
DOOR = "door"
SEPARATOR = "--"
_HEALTH_S = 5.0


class Plan(NamedTuple):
    """What a service consists of. models: their applications."""

    spec: ServeSpec
    models: tuple[Config, ...]
    routes: Routes

    def config(self, *more: Config) -> Config:
        """As `serve deploy` and a RayService take it; with more applications beside ours."""
        return {
            "proxy_location": "EveryNode",
            "http_options": self.http,
            # Serve's own logs name requests; what was asked stands in the audit.
            "logging_config": {"log_level": "WARNING", "enable_access_log": False},
            "applications": [*self.models, *more, self.door],
        }

    @property
    def http(self) -> Config:
        """Where the service listens."""
        spec = self.spec
        http: Config = {"host": spec.host, "port": spec.port}
        if spec.tls is not None:
            http |= {"ssl_certfile": spec.tls.certificate, "ssl_keyfile": spec.tls.key}
        return http

    @property
    def door(self) -> Config:
        """The application at the front."""
        spec, doors = self.spec, self.spec.doors
        options = {
            "name": DOOR,
            "max_ongoing_requests": 4 * doors.ongoing,
            "max_queued_requests": doors.waiting,
            "backpressure_config": {"status_code": 429, "retry_after_s": 1},
            "autoscaling_config": {
                "min_replicas": doors.min,
                "max_replicas": doors.max,
                "target_ongoing_requests": doors.ongoing,
                "upscale_delay_s": 5.0,
                "downscale_delay_s": 300.0,
            },
            "ray_actor_options": {"num_cpus": doors.cpus},
            "health_check_period_s": _HEALTH_S,
            "graceful_shutdown_timeout_s": spec.drain_s,
            "user_config": self.routes.model_dump(mode="json"),
        }
        return {
            "name": DOOR,
            "route_prefix": "/",
            "import_path": "medray.serve.app:door",
            "args": {"front": spec.front.model_dump(mode="json")},
            "deployments": [options],
        }


def plan(spec: ServeSpec) -> Plan:
    """Open every package of a service and lay out its applications. Raises UsageError."""
    routes: list[Route] = []
    apps: dict[str, Config] = {}
    for served in spec.models:
        package = open_package(_within(served.package, spec.store))
        route = _route(served, package)
        routes.append(route)
        apps[route.app] = _pool(served, spec) if served.pooled else _model(served, package, spec)
    wrong = check(routes)
    if wrong:
        raise UsageError(wrong, remedy="give each version one entry under `models`")
    return Plan(spec, tuple(apps.values()), Routes(every=tuple(routes)))


def _model(served: ServedModel, package: Package, spec: ServeSpec) -> Config:
    args = {
        "package": served.package,
        "digest": package.digest,
        "device": served.device,
        "batch": served.batch.model_dump(),
    }
    return {
        "name": _app(served, package),
        "route_prefix": None,
        "import_path": "medray.serve.app:model",
        "args": args,
        "deployments": [_options("model", served.replicas, served.queue, served.batch, spec)],
    }


def _pool(served: ServedModel, spec: ServeSpec) -> Config:
    pool = spec.pool
    return {
        "name": f"pool{SEPARATOR}{served.device}",
        "route_prefix": None,
        "import_path": "medray.serve.app:pool",
        "args": {"resident": pool.resident, "device": served.device},
        "deployments": [_options("pool", pool.replicas, pool.queue, BatchSpec(), spec)],
    }


def _options(
    name: str, replicas: ReplicasSpec, queue: int, batch: BatchSpec, spec: ServeSpec
) -> Config:
    """Autoscaled on the requests that a replica has at once; room for the batch after this one."""
    return {
        "name": name,
        "max_ongoing_requests": max(2 * batch.most, int(2 * replicas.ongoing)),
        "max_queued_requests": queue,
        "autoscaling_config": {
            "min_replicas": replicas.min,
            "initial_replicas": max(replicas.min, 0),
            "max_replicas": replicas.max,
            "target_ongoing_requests": replicas.ongoing,
            "upscale_delay_s": replicas.up_s,
            "downscale_delay_s": replicas.down_s,
            # Of the load; replicas follow no faster. Serve would rather have it from its processes'
            # environment, which `serve deploy` cannot set.
            "metrics_interval_s": 1.0,
            "look_back_period_s": max(2.0, min(replicas.up_s, 30.0)),
        },
        "ray_actor_options": {"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
        "health_check_period_s": _HEALTH_S,
        "graceful_shutdown_timeout_s": spec.drain_s,
    }


def _app(served: ServedModel, package: Package) -> str:
    if served.pooled:
        return f"pool{SEPARATOR}{served.device}"
    return SEPARATOR.join((package.name, package.version, package.digest[:12]))


def _route(served: ServedModel, package: Package) -> Route:
    return Route(
        name=package.name,
        version=package.version,
        app=_app(served, package),
        uri=served.package,
        digest=package.digest,
        reads=package.reads,
        aliases=served.aliases,
        weight=served.weight,
        shadow=served.shadow,
        pooled=served.pooled,
        resting=0 if served.pooled else served.replicas.min,
        most=served.replicas.max,
        timeout_s=served.timeout_s,
    )


def _within(package: str, store: str | None) -> str:
    """A package's place, which must be in the store. Raises UsageError."""
    if store is None or "://" in package:
        inside = store is None or package.startswith(store.rstrip("/") + "/")
    else:
        inside = Path(package).resolve().is_relative_to(Path(store).resolve())
    if not inside:
        raise UsageError(
            "a package lies outside the service's `store`",
            remedy="copy it there, or name another store",
        )
    return package
