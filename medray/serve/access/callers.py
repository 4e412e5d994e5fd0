"""Who a request is from: its bearer token, ours or signed, or nobody in particular."""

import logging
import os
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from medray.errors import UsageError
from medray.serve.access.asgi import Header, values
from medray.serve.access.caller import OPEN, Caller
from medray.serve.access.oidc import Oidc
from medray.serve.access.tokens import (
    ENVIRONMENT,
    PREFIX,
    RefusedTokenError,
    Tokens,
    find,
    utc_now,
)
from medray.serve.problems import ProblemError
from medray.spec.serve import LOOPBACK, AccessSpec

_LOG = logging.getLogger(__name__)

CHALLENGE = 'Bearer realm="medray"'
_NOBODY = (
    "the service lets nobody in: make a token with `medray token new NAME --scopes predict "
    "--file FILE` and name the file in `access.tokens`, or set up `access.oidc`"
)


class Callers:
    """Everybody who may ask.

    Raises UsageError: a tokens file that cannot be read, `open` on an address of the network,
    `oidc` without PyJWT.
    """

    def __init__(self, access: AccessSpec, host: str) -> None:
        if access.open and host not in LOOPBACK:
            raise UsageError(
                f"`access.open` would let everybody in who reaches {host}",
                remedy="give `access.tokens`, or host 127.0.0.1",
            )
        file = None if access.tokens is None else Path(access.tokens).expanduser()
        self._tokens = Tokens(file, os.environ.get(ENVIRONMENT))
        self._oidc = None if access.oidc is None else Oidc(access.oidc)
        self._open = access.open

    @property
    def home(self) -> bool:
        """Whether callers of this machine need no token."""
        return self._open

    async def caller(self, headers: Sequence[Header]) -> Caller:
        """Tell who asks. With `open`, one without a token is "open"; a wrong token is still wrong.

        Raises ProblemError: 400 and 401 with the codes of RFC 6750 3.1; 503 where the identity
        provider does not give its keys.
        """
        given = values(headers, b"authorization")
        if not given:
            if self._open:
                return OPEN
            raise refused(HTTPStatus.UNAUTHORIZED, "no-token", self._what_to_do())
        kind, _, token = given[0].partition(" ")
        token = token.strip()
        if len(given) > 1 or (kind.lower() == "bearer" and (not token or " " in token)):
            what = "one Authorization header is needed: Bearer, and the token"
            raise refused(HTTPStatus.BAD_REQUEST, "bad-authorization", what, "invalid_request")
        if kind.lower() != "bearer":
            raise refused(HTTPStatus.UNAUTHORIZED, "no-token", self._what_to_do())
        try:
            return await self._known(token)
        except RefusedTokenError as error:
            raise refused(
                HTTPStatus.UNAUTHORIZED, "invalid-token", str(error), "invalid_token"
            ) from None

    async def _known(self, token: str) -> Caller:
        problem = self._tokens.refresh(time.monotonic())
        if problem is not None:
            _LOG.error("%s", problem)
        if self._oidc is not None and not token.startswith(PREFIX):
            return await self._oidc.caller(token)
        if not self._tokens.current and self._oidc is None:
            raise RefusedTokenError(_NOBODY)
        return find(self._tokens.current, token, utc_now())

    def _what_to_do(self) -> str:
        if self._tokens.current or self._oidc is not None:
            return "say who you are: the header `Authorization: Bearer TOKEN`"
        return _NOBODY


def refused(
    status: HTTPStatus, kind: str, detail: str, code: str = "", scope: str = ""
) -> ProblemError:
    """Build a refusal with its challenge. code: of RFC 6750 3.1; scope: what would be needed."""
    challenge = CHALLENGE
    challenge += f', error="{code}"' if code else ""
    challenge += f', scope="{scope}"' if scope else ""
    return ProblemError(status, kind, detail, headers={"WWW-Authenticate": challenge})
