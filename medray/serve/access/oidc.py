"""Tokens that an identity provider signs: JWT (RFC 7519), as RFC 8725 wants them checked.

PyJWT's own client of key sets fetches on the thread that asks, and in older versions at every
unknown key id; here keys are fetched beside the event loop, and seldom.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from medray.errors import UsageError
from medray.serve.access.caller import Caller
from medray.serve.access.tokens import RefusedTokenError
from medray.serve.problems import ProblemError
from medray.spec.serve import OidcSpec, Scope

_LOG = logging.getLogger(__name__)

LONGEST = 16_384
FRESH_S = 3600.0  # then keys are fetched again, while the old ones still count
STALE_S = 86_400.0  # then the old ones count no more
PAUSE_S = 30.0  # between two fetches
_TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 20
_NAME = 128
_RSA_BITS = 2048  # RFC 7518 3.3


_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}  # RFC 7518 3.1, 6.1; RFC 8037 3.1


@dataclass(frozen=True, slots=True)
class Key:
    """A public key of the set: kid, kty and alg as RFC 7517 4 has them."""

    kid: str | None
    kty: str
    alg: str | None
    public: Any

    def fits(self, algorithm: str) -> bool:
        """Whether it may sign in this way: by its `alg` where it says one, else by its type."""
        return self.kty == _TYPES[algorithm[:2]] and self.alg in (None, algorithm)


class Keys:
    """The provider's public keys, by key id; fetched when they are needed.

    clock: monotonic seconds.
    """

    def __init__(
        self, source: str, clock: Callable[[], float] = time.monotonic, pause_s: float = PAUSE_S
    ) -> None:
        self._source = source
        self._clock = clock
        self._pause_s = pause_s
        self._keys: tuple[Key, ...] = ()
        self._fetched_s = float("-inf")
        self._tried_s = float("-inf")
        self._lock = asyncio.Lock()
        self._behind: asyncio.Task[None] | None = None

    async def key(self, kid: str | None, algorithm: str) -> Key | None:
        """Find the key that a token names. An unknown one is looked for at the provider.

        Raises ProblemError (503) where the provider gives no keys.
        """
        age_s = self._clock() - self._fetched_s
        if age_s < STALE_S:
            found = self._find(kid, algorithm)
            if found is not None:
                if age_s > FRESH_S and self._rested() and self._behind is None:
                    self._behind = asyncio.create_task(self._fetch())
                    self._behind.add_done_callback(self._fetched)
                return found
        await self._fetch()
        if self._clock() - self._fetched_s >= STALE_S:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "no-keys",
                "the identity provider's keys cannot be read: nobody can be told from others",
                headers={"Retry-After": str(int(self._pause_s) + 1)},
            )
        return self._find(kid, algorithm)

    def _find(self, kid: str | None, algorithm: str) -> Key | None:
        fitting = [key for key in self._keys if key.fits(algorithm)]
        if kid is None:  # RFC 7517 4.5: optional; then it must be clear without
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.kid == kid), None)

    def _rested(self) -> bool:
        return self._clock() - self._tried_s >= self._pause_s

    def _fetched(self, _: "asyncio.Task[None]") -> None:
        self._behind = None

    async def _fetch(self) -> None:
        async with self._lock:  # who waited for another's fetch needs none of his own
            if not self._rested():
                return
            self._tried_s = self._clock()
            try:
                keys = await asyncio.to_thread(_load, self._source)
            except _KeysError as error:
                _LOG.error("the identity provider's keys cannot be read: %s", error)
                return
            self._keys, self._fetched_s = keys, self._clock()


class _KeysError(Exception):
    pass


class Oidc:
    """Who a signed token is.

    Raises UsageError where PyJWT is not installed, or `jwks` is a file that holds no keys.
    """

    def __init__(
        self, spec: OidcSpec, clock: Callable[[], float] = time.monotonic, pause_s: float = PAUSE_S
    ) -> None:
        try:
            import cryptography  # noqa: F401  # pyright: ignore[reportUnusedImport]
            import jwt  # noqa: F401  # pyright: ignore[reportUnusedImport]
        except ImportError:
            raise UsageError(
                "`access.oidc` needs PyJWT with cryptography",
                remedy="pip install 'medray[serve]'",
            ) from None
        if not _remote(spec.jwks):
            try:
                _load(spec.jwks)
            except _KeysError as error:
                raise UsageError(
                    f"`access.oidc.jwks`: {error}",
                    remedy="name the file with the provider's JSON Web Key Set, or its address",
                ) from None
        self._spec = spec
        self._keys = Keys(spec.jwks, clock, pause_s)

    async def caller(self, token: str) -> Caller:
        """Check signature, issuer, audience and times. Raises RefusedTokenError, ProblemError."""
        import jwt

        if len(token) > LONGEST:
            raise RefusedTokenError("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, RecursionError):  # the latter from versions before 2.15
            raise RefusedTokenError("the token is neither one of ours nor a JWT") from None
        algorithm = header.get("alg")
        # Before any key is looked for: `none`, and an HMAC with a public key as its secret, are
        # in no list of ours (RFC 8725 2.1).
        if algorithm not in self._spec.algorithms:
            raise RefusedTokenError("the token is signed in a way that is not accepted")
        key = await self._keys.key(header.get("kid"), algorithm)
        if key is None:
            raise RefusedTokenError(
                "the token is signed with a key that the provider does not have"
            )
        try:
            claims = jwt.decode(
                token,
                key.public,
                algorithms=[algorithm],
                audience=self._spec.audience,
                issuer=self._spec.issuer,
                leeway=self._spec.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise RefusedTokenError("the token is expired") from None
        except jwt.PyJWTError as error:
            raise RefusedTokenError(_why(error)) from None
        return Caller(_name(claims["sub"]), self._scopes(claims), "oidc")

    def _scopes(self, claims: Mapping[str, Any]) -> frozenset[Scope]:
        """Claims `scope` (RFC 8693 4.2) and `scp`: words in a text, or a list of them."""
        said: set[str] = set()
        for claim in (claims.get("scope"), claims.get("scp")):
            if isinstance(claim, str):
                said.update(claim.split(" "))
            elif isinstance(claim, list):
                said.update(one for one in claim if isinstance(one, str))
        return frozenset(ours for theirs, ours in self._spec.scopes.items() if theirs in said)


def _why(error: Exception) -> str:
    import jwt

    reasons: dict[type[Exception], str] = {
        jwt.InvalidSignatureError: "the token's signature is wrong",
        jwt.InvalidAudienceError: "the token is for another service",
        jwt.InvalidIssuerError: "the token is from another issuer",
        jwt.ImmatureSignatureError: "the token is not valid yet",
        jwt.MissingRequiredClaimError: "the token lacks one of exp, iss, aud, sub",
    }
    return next((why for kind, why in reasons.items() if isinstance(error, kind)), "no valid token")


def _name(sub: str) -> str:
    printable = "".join(one for one in sub[:_NAME] if one.isprintable())
    if not printable.strip():
        raise RefusedTokenError("the token names nobody")
    return printable


def _remote(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def _load(source: str) -> tuple[Key, ...]:
    """Public signing keys of a set (RFC 7517 5). Raises _KeysError."""
    data = _download(source) if _remote(source) else _file(source)
    try:
        entries: list[Any] = list(json.loads(data)["keys"])
    except (ValueError, RecursionError, LookupError, TypeError):
        raise _KeysError("no JSON Web Key Set") from None
    keys = tuple(key for entry in entries if (key := _key(entry)) is not None)
    if not keys:
        raise _KeysError("the key set holds no public key for signatures")
    return keys


def _key(entry: Any) -> Key | None:
    """Read one key; None for one of a kind that is not for us, as RFC 7517 5 wants it."""
    import jwt

    if not isinstance(entry, dict) or entry.get("kty") not in _TYPES.values():
        return None
    if entry.get("use") not in (None, "sig") or "d" in entry:  # a private key is no provider's
        return None
    try:
        public = jwt.PyJWK(entry).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if entry["kty"] == "RSA" and public.key_size < _RSA_BITS:
        return None
    return Key(entry.get("kid"), entry["kty"], entry.get("alg"), public)


def _file(source: str) -> bytes:
    try:
        return Path(source.removeprefix("file://")).expanduser().read_bytes()
    except OSError as error:
        raise _KeysError(f"the file cannot be read: {error.strerror}") from None


def _download(source: str) -> bytes:
    import httpx

    data = bytearray()
    try:
        # Redirects are not followed: they could lead away from TLS.
        with httpx.stream("GET", source, timeout=_TIMEOUT_S) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise _KeysError(f"status {answer.status_code}")
            for chunk in answer.iter_bytes():
                data += chunk
                if len(data) > _MOST_BYTES:
                    raise _KeysError("the key set is too large")
    except httpx.HTTPError as error:
        raise _KeysError(type(error).__name__) from None
    return bytes(data)
