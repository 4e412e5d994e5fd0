"""Bearer tokens of our own: what one looks like, and the file of their hashes.

A token is `medray_`, 43 letters and digits for 256 random bits, and 6 for their CRC-32: a scanner
for leaked secrets knows it by its prefix, and a mistyped one is told from a wrong one without a
look-up. The file holds names, SHA-256 and scopes. A slow hash would guard guessable secrets; these
are none.
"""

import hmac
import json
import os
import re
import secrets
import string
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from medray.errors import UsageError
from medray.serve.access.caller import Caller
from medray.spec.base import Section
from medray.spec.serve import Scope

PREFIX = "medray_"
ENVIRONMENT = "MEDRAY_TOKENS"

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET, _CHECK = 43, 6  # digits to the base 62 of 256 and of 32 bits
_SHAPE = re.compile(
    rf"{PREFIX}(?P<secret>[0-9A-Za-z]{{{_SECRET}}})(?P<check>[0-9A-Za-z]{{{_CHECK}}})"
)
_REMEDY = "write it with `medray token new`, or restore it"


class Token(Section):
    """What is known of a token: never the token itself."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    per_minute: int | None = Field(default=None, ge=1)
    created: AwareDatetime | None = None
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    def state(self, now: datetime) -> str:
        """Whether it is `valid`, `revoked` or `expired`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and now >= self.expires else "valid"


class TokenList(Section):
    """The content of a tokens file. Of one name there is one token that is not revoked."""

    tokens: tuple[Token, ...] = ()

    @model_validator(mode="after")
    def _one_of_a_name(self) -> Self:
        names = [token.name for token in self.tokens if token.revoked is None]
        if len(set(names)) < len(names):
            raise ValueError("two tokens that are not revoked have one name")
        return self


class RefusedTokenError(Exception):
    """A token is not accepted; why, in words that the caller may read."""


def make_token() -> str:
    """Make a new token, of 256 bits from the system's source of randomness."""
    secret = _base62(secrets.randbits(256), _SECRET)
    return PREFIX + secret + _checksum(secret)


def well_formed(token: str) -> bool:
    """Whether a text has the shape of a token, its checksum too."""
    found = _SHAPE.fullmatch(token)
    return found is not None and found["check"] == _checksum(found["secret"])


def hash_of(token: str) -> str:
    """SHA-256 in hex, as the file has it."""
    return sha256(token.encode()).hexdigest()


def find(tokens: Sequence[Token], token: str, now: datetime) -> Caller:
    """Who a token is. As long for every token: all hashes are compared, each in constant time.

    Raises RefusedTokenError.
    """
    if not well_formed(token):
        raise RefusedTokenError("the token is mistyped or cut off")
    hashed = hash_of(token)
    found: Token | None = None
    for one in tokens:
        if hmac.compare_digest(one.sha256, hashed):
            found = one
    if found is None:
        raise RefusedTokenError("the token is not known here")
    state = found.state(now)
    if state != "valid":
        raise RefusedTokenError(f"the token is {state}")
    return Caller(found.name, frozenset(found.scopes), "token", found.per_minute)


def parse(text: str | bytes, where: str) -> TokenList:
    """Read a list of tokens. Raises UsageError that names places, never what stands there."""
    try:
        return TokenList.model_validate(json.loads(text))
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False, include_url=False)[0]
        what = f"{_place(first)}: {first['msg']}"
        raise UsageError(f"{where} is no list of tokens: {what}", remedy=_REMEDY) from None
    except (ValueError, RecursionError):  # a JSON error quotes nothing, but needs not be told
        raise UsageError(f"{where} is no JSON", remedy=_REMEDY) from None


def _place(error: Any) -> str:
    known = {"tokens", *Token.model_fields}
    # A key that nobody knows may be a token that stands in the wrong place.
    parts = (str(one) if isinstance(one, int) or one in known else "?" for one in error["loc"])
    return ".".join(parts) or "the whole"


class Tokens:
    """The tokens in force: a file that is read again when it has changed, or a fixed list.

    A file that has become unreadable leaves the tokens as they were, and says so in the log; one
    that is gone leaves none.
    """

    def __init__(self, file: Path | None, text: str | None = None) -> None:
        """Open it. Raises UsageError where the file cannot be read, or is none."""
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        self._looked_s = float("-inf")
        self.problem: str | None = None
        self.current: tuple[Token, ...] = ()
        if file is not None:
            self._seen = _stamp(file)
            self.current = read(file).tokens
        elif text is not None:
            self.current = parse(text, f"${ENVIRONMENT}").tokens

    def refresh(self, now_s: float, every_s: float = 1.0) -> str | None:
        """Read the file again if it has changed; look at most every `every_s` seconds.

        Returns what was wrong with it, once per change.
        """
        if self._file is None or now_s - self._looked_s < every_s:
            return None
        self._looked_s = now_s
        stamp = _stamp(self._file)
        if stamp == self._seen:
            return None
        self._seen = stamp
        if stamp is None:
            self.current = ()
            return "the tokens file is gone: no token is valid any more"
        try:
            self.current = read(self._file).tokens
        except UsageError as error:
            return f"{error.what}; the tokens stay as they were"
        return None


def read(file: Path) -> TokenList:
    """Read a tokens file. Raises UsageError; also where everybody may write to it."""
    try:
        with file.open("rb") as opened:
            writable = os.fstat(opened.fileno()).st_mode & 0o002
            data = opened.read()
    except OSError as error:
        raise UsageError(
            f"the tokens file {file} cannot be read: {error.strerror}",
            remedy=f"medray token new NAME --scopes predict --file {file}",
        ) from None
    if writable:
        raise UsageError(
            f"everybody on this machine may write to the tokens file {file}",
            remedy=f"chmod 600 {file}",
        )
    return parse(data, f"the tokens file {file}")


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_size, found.st_ino


def utc_now() -> datetime:
    """Now, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def _checksum(secret: str) -> str:
    return _base62(zlib.crc32(secret.encode()), _CHECK)


def _base62(number: int, digits: int) -> str:
    said = ""
    for _ in range(digits):
        number, digit = divmod(number, 62)
        said = _ALPHABET[digit] + said
    return said
