"""One request and its answer: what is recorded of them, and how the answer is sent."""

import json
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from medray.serve.access.asgi import AsgiScope, Header, Message, Send
from medray.serve.access.audit import Audit, AuditError
from medray.serve.access.body import Body
from medray.serve.access.caller import Caller
from medray.serve.access.headers import request_id, secured
from medray.serve.access.paths import Route
from medray.serve.problems import PROBLEM, ProblemError

_LOG = logging.getLogger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_STATED = ("problem", "package", "outcome", "items")


class Exchange:
    """One request. The line of the audit is written before the answer starts to leave.

    stated  `scope["medray.audit"]`: what the app says of its answer before it starts.
    """

    def __init__(
        self, scope: AsgiScope, body: Body, send: Send, audit: Audit, *, tls: bool
    ) -> None:
        self.headers: list[Header] = list(scope["headers"])
        self.id = request_id(self.headers)
        self.body = body
        self.route: Route | None = None
        self.model: str | None = None
        self.caller: Caller | None = None
        self.stated: dict[str, Any] = {}
        self.started = False
        self._method: str = scope["method"]
        self._client: str | None = scope["client"][0] if scope.get("client") else None
        self._http_1 = scope.get("http_version", "1.1").startswith("1")
        self._send = send
        self._audit = audit
        self._tls = tls
        self._recorded = False
        self._silenced: ProblemError | None = None
        self._start_s = time.monotonic()

    @property
    def client(self) -> str:
        """The address that the request came from; behind a proxy, the proxy's."""
        return self._client or "unknown"

    @property
    def refusal(self) -> ProblemError | None:
        """Why the app's own answer is not sent."""
        return self._silenced or self.body.refusal

    async def send(self, message: Message) -> None:
        """Pass on a piece of the app's answer, once its line is written."""
        if not self.started:
            if self.refusal is not None:
                return
            if message["type"] == "http.response.start":
                if self.route is not None and self.route.scope is not None:
                    try:
                        self._record(message["status"])
                    except ProblemError as problem:
                        self._silenced = problem
                        return
                self.started = True
                message = {**message, "headers": self._secured(message.get("headers", ()))}
        await self._send(message)

    async def refuse(self, problem: ProblemError) -> None:
        """Answer with a problem, record it, and let go of a client that is still sending."""
        self.stated["problem"] = problem.kind
        with suppress(ProblemError):  # that it is not recorded is logged; the refusal stands
            self._record(int(problem.status))
        content = json.dumps(problem.document(), ensure_ascii=False).encode()
        headers = [(name.lower(), value) for name, value in problem.headers.items()]
        headers += [("content-type", PROBLEM), ("content-length", str(len(content)))]
        closes = self.body.unread and self._http_1
        headers += [("connection", "close")] if closes else []
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self.started = True
        await self._send(
            {
                "type": "http.response.start",
                "status": int(problem.status),
                "headers": self._secured(encoded),
            }
        )
        await self._send({"type": "http.response.body", "body": content, "more_body": closes})
        if closes:
            await self.body.linger()
            await self._send({"type": "http.response.body", "body": b""})

    def end(self) -> None:
        """Record a request that was let in and got no answer, for instance as its client left."""
        scoped = self.route is not None and self.route.scope is not None
        if scoped and not self._recorded:
            self.stated.setdefault("problem", "client-gone" if self.body.gone else "no-answer")
            with suppress(ProblemError):  # logged; nothing was answered
                self._record(None)

    def _record(self, status: int | None) -> None:
        if self._recorded:
            return
        stated = {key: self.stated.get(key) for key in _STATED}
        line = {
            "request_id": self.id,
            "caller": self.caller and self.caller.name,
            "by": self.caller and self.caller.by,
            "client": self._client,
            "method": self._method if self._method in _METHODS else "other",
            "route": self.route and self.route.template,
            # What no model is called may be anything that the caller wrote, a patient's name too.
            "model": self.model if stated["package"] else None,
            "status": status,
            **stated,
            "items": [list(one) for one in stated["items"] or ()],
            "bytes_in": self.body.count,
            "seconds": round(time.monotonic() - self._start_s, 6),
        }
        try:
            self._audit.write(line)
        except AuditError as error:
            _LOG.error("the audit cannot be written: %s", error)
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "no-audit",
                "the request cannot be recorded, so it is not answered",
                headers={"Retry-After": "30"},
            ) from None
        self._recorded = True

    def _secured(self, headers: Iterable[Header]) -> list[Header]:
        static = self.route is not None and self.route.static
        return secured(list(headers), self.id, static=static, tls=self._tls)
