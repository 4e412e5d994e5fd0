"""`medray token`: make, list and revoke tokens. The file is replaced as a whole, or not at all."""

import fcntl
import os
import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from medray.errors import UsageError
from medray.serve.access.caller import SCOPES
from medray.serve.access.tokens import Token, TokenList, hash_of, make_token, read, utc_now


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token, told once: only its hash is kept."""

    token: str
    entry: Token


def new_token(
    file: Path,
    name: str,
    scopes: Sequence[str],
    per_minute: int | None = None,
    days: int | None = None,
    now: datetime | None = None,
) -> NewToken:
    """Make a token and write its hash into the file, which is made if it does not exist.

    days: after these it expires. Raises UsageError: a bad name or scope, a name that is taken.
    """
    made, created = make_token(), now or utc_now()
    try:
        entry = Token(
            name=name,
            sha256=hash_of(made),
            scopes=tuple(scopes),  # pyright: ignore[reportArgumentType]  # checked here
            per_minute=per_minute,
            created=created,
            expires=None if days is None else created + timedelta(days=days),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{first['loc'][0]}: {first['msg']}",
            remedy=f"a name has letters, digits and ._- ; scopes are {', '.join(SCOPES)}",
        ) from None
    except OverflowError:
        raise UsageError("days: too many", remedy="leave it out: no end") from None

    def add(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        if any(one.name == name and one.revoked is None for one in tokens):
            raise UsageError(
                f"there is a token {name} already", remedy=f"medray token revoke {name}, or rename"
            )
        return (*tokens, entry)

    _change(file, add)
    return NewToken(made, entry)


def revoke_token(file: Path, name: str, now: datetime | None = None) -> Token:
    """Make a token worthless from now on. It stays listed. Raises UsageError for no such token."""
    gone: list[Token] = []

    def revoke(tokens: tuple[Token, ...]) -> tuple[Token, ...]:
        for place, one in enumerate(tokens):
            if one.name == name and one.revoked is None:
                gone.append(one.model_copy(update={"revoked": now or utc_now()}))
                return (*tokens[:place], gone[0], *tokens[place + 1 :])
        raise UsageError(f"there is no valid token {name}", remedy="medray token list")

    _change(file, revoke, must_exist=True)
    return gone[0]


def _change(
    file: Path,
    change: Callable[[tuple[Token, ...]], tuple[Token, ...]],
    *,
    must_exist: bool = False,
) -> None:
    target = Path(os.path.realpath(file))  # what a link points to is replaced, not the link
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.parent):
            known = must_exist or os.path.lexists(target)
            before = read(target).tokens if known else ()
            _replace(target, TokenList(tokens=change(before)).model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise UsageError(
            f"the tokens file {file} cannot be written: {error.strerror}",
            remedy="name a file in a folder that you can write to",
        ) from None


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Hold the folder: of two who change the file at once, one waits."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
        os.fsync(held)  # the new name of the file
    finally:
        os.close(held)


def _replace(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
