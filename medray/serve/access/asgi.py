"""The words of ASGI 3, and headers as it carries them (lower-case bytes)."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

AsgiScope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[AsgiScope, Receive, Send], Awaitable[None]]

Header = tuple[bytes, bytes]


def values(headers: Iterable[Header], name: bytes) -> list[str]:
    """All values of one header, in order. latin-1, as RFC 9110 5.5 has them."""
    return [value.decode("latin-1").strip() for key, value in headers if key.lower() == name]
