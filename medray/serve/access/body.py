"""A request's body: counted as it comes, and not waited for without end."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus

from medray.serve.access.asgi import Header, Message, Receive, values
from medray.serve.problems import ProblemError

_LINGER_S = 1.0
_LINGER_BYTES = 8 << 20


class Body:
    """Receives a body for the app, within limits.

    count    bytes so far. gone: the client has left.
    refusal  why no more of it is given to the app; set once, raised at each receive.
    """

    def __init__(self, receive: Receive, most: int, wait_s: float) -> None:
        self._receive = receive
        self._most = most
        self._wait_s = wait_s
        self.count = 0
        self.gone = False
        self.refusal: ProblemError | None = None
        self._length: str | None = None
        self._announced = False
        self._expects = False
        self._more = True

    def announced(self, headers: Sequence[Header]) -> None:
        """Read what headers say of a body.

        Raises ProblemError where they say two things (RFC 9112 6.3: servers in a row would part
        requests in different places).
        """
        lengths = values(headers, b"content-length")
        coded = values(headers, b"transfer-encoding")
        self._expects = bool(values(headers, b"expect"))
        self._announced = bool(coded) or lengths not in ([], ["0"])
        sound = not lengths or (lengths[0].isascii() and lengths[0].isdigit())
        if len(lengths) > 1 or (lengths and coded) or not sound:
            raise ProblemError(
                HTTPStatus.BAD_REQUEST, "bad-length", "the length of the body is not clear"
            )
        self._length = lengths[0] if lengths else None

    @property
    def unread(self) -> bool:
        """Whether more of it may be on its way."""
        return self._announced and self._more

    def check_length(self) -> None:
        """Refuse a body that says that it is too long (413), before any of it is read."""
        # Long numbers are long bodies; int() of thousands of digits is slow, or an error.
        if self._length and (len(self._length) > 18 or int(self._length) > self._most):
            raise self._too_large()

    async def receive(self) -> Message:
        """Give the next piece. Raises ProblemError: 413, 408."""
        if self.refusal is not None:
            raise self.refusal
        if not self._more:  # that the client has gone: the app may wait for it
            message = await self._receive()
            self.gone = self.gone or message["type"] == "http.disconnect"
            return message
        start_s = time.monotonic()
        try:
            async with asyncio.timeout(self._wait_s):
                message = await self._receive()
        except TimeoutError:
            self.refusal = ProblemError(
                HTTPStatus.REQUEST_TIMEOUT, "body-too-slow", "the body was not sent in time"
            )
            raise self.refusal from None
        # Only waiting counts: what the app does between two pieces is not the client's fault.
        self._wait_s -= time.monotonic() - start_s
        self.gone = message["type"] == "http.disconnect"
        self._more = not self.gone and message.get("more_body", False)
        self.count += len(message.get("body", b""))
        if self.count > self._most:
            self.refusal = self._too_large()
            raise self.refusal
        return message

    async def linger(self) -> None:
        """Throw away a little more of a body that was refused.

        A connection that is closed on what was not read is reset, and the client may never see
        why. One that waits to be told to send (Expect: 100-continue) sends nothing.
        """
        if self._expects and not self.count:
            return
        left = _LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while left > 0:
                    message = await self._receive()
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return
                    left -= len(message.get("body", b""))

    def _too_large(self) -> ProblemError:
        return ProblemError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "body-too-large",
            f"a body has {self._most} bytes at most; ask about fewer things at once",
        )
