"""The gate before the door: an ASGI app around another. Knows neither models nor Ray."""

import logging
import math
import time
from collections.abc import Callable
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address

from medray.errors import UsageError
from medray.package_store import local_folder
from medray.serve.access.asgi import App, AsgiScope, Receive, Send
from medray.serve.access.audit import Audit
from medray.serve.access.body import Body
from medray.serve.access.callers import Callers, refused
from medray.serve.access.exchange import Exchange
from medray.serve.access.headers import check_host
from medray.serve.access.paths import checked_path, route_of
from medray.serve.access.rates import Rates
from medray.serve.problems import ProblemError
from medray.spec.serve import AccessSpec, AuditSpec, LimitsSpec

_LOG = logging.getLogger(__name__)


def guarded(
    app: App,
    access: AccessSpec,
    limits: LimitsSpec,
    audit: AuditSpec,
    *,
    host: str = "127.0.0.1",
    tls: bool = False,
) -> "Guard":
    """Put a gate before an ASGI app.

    audit  with its folder (`ServeSpec.audit_folder` where the spec gives none).
    host   that the service listens on; tls: whether its callers reach it by https alone.
    The app finds in its scope `medray.request_id`, `medray.caller` (a Caller; None where anybody
    may ask), and `medray.audit`, a dict in which it says of its answer, before that starts:
    package (once it knows which model is meant: else the name asked for is not recorded), items
    ([pseudonym, outcome] each), outcome, problem (the kind, where it answers one).
    Raises UsageError where nobody could be known or nothing recorded.
    """
    folder = None if audit.folder is None else local_folder(audit.folder)
    if folder is None:
        raise UsageError(
            "the audit needs a folder of this machine",
            remedy="let `audit.folder` name one: lines cannot be appended in an object store",
        )
    return Guard(
        app,
        Callers(access, host),
        limits,
        Audit(folder, keep_days=audit.keep_days, file_bytes=audit.file_mib << 20),
        tls=tls,
    )


class Guard:
    """The gate: who may pass, at what cost, and the record of it."""

    def __init__(
        self,
        app: App,
        callers: Callers,
        limits: LimitsSpec,
        audit: Audit,
        *,
        tls: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._callers = callers
        self._limits = limits
        self._audit = audit
        self._tls = tls
        self._clock = clock
        self._rates = Rates()

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one connection of ASGI 3."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            self._audit.close()  # opened again should anything come after all
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # there is none here
            return
        body = Body(receive, self._limits.body_mib << 20, self._limits.body_s)
        exchange = Exchange(scope, body, send, self._audit, tls=self._tls)
        try:
            await self._answer(exchange, scope)
        finally:
            exchange.end()

    async def _answer(self, exchange: Exchange, scope: AsgiScope) -> None:
        try:
            await self._admit(exchange, scope)
            scope = {
                **scope,
                "medray.request_id": exchange.id,
                "medray.caller": exchange.caller,
                "medray.audit": exchange.stated,
            }
            await self._app(scope, exchange.body.receive, exchange.send)
        except ProblemError as problem:
            refusal = exchange.refusal or problem
        except Exception as error:  # the boundary: nothing of the request may reach answer or log
            if exchange.body.gone:
                return
            _LOG.error("a request failed: %s", type(error).__name__)
            refusal = exchange.refusal or ProblemError(
                HTTPStatus.INTERNAL_SERVER_ERROR, "failed", "the request failed"
            )
        else:
            refusal = exchange.refusal
        if refusal is not None and not exchange.started:
            await exchange.refuse(refusal)

    async def _admit(self, exchange: Exchange, scope: AsgiScope) -> None:
        """Let a request in. Raises ProblemError."""
        try:
            # First of all, so that a refusal knows whether a body is on its way.
            exchange.body.announced(exchange.headers)
            version = scope.get("http_version", "1.1")
            check_host(exchange.headers, version, home=self._callers.home)
            path = checked_path(scope)
            exchange.route, exchange.model = route_of(scope["method"], path)
            if exchange.route.scope is None:
                exchange.body.check_length()
                return
            exchange.caller = await self._callers.caller(exchange.headers)
        except ProblemError:
            self._count(("address", _network(exchange.client)), self._limits.per_minute)
            raise
        caller, needed = exchange.caller, exchange.route.scope
        self._count((caller.by, caller.name), caller.per_minute or self._limits.per_minute)
        if needed not in caller.scopes:
            what = f"this needs the scope {needed}"
            code = "insufficient_scope"
            raise refused(HTTPStatus.FORBIDDEN, "wrong-scope", what, code, needed)
        exchange.body.check_length()

    def _count(self, key: tuple[str, str], per_minute: int) -> None:
        wait_s = self._rates.take(key, per_minute, self._clock())
        if wait_s > 0:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-requests",
                f"one caller has {per_minute} requests a minute",
                headers={"Retry-After": str(math.ceil(wait_s))},
            )


def _network(client: str) -> str:
    """The address of one who has one: of IPv6, the network that one household has (a /64)."""
    try:
        address = ip_address(client)
    except ValueError:
        return "unknown"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)
