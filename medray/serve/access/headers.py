"""Headers that every answer carries, and what a request's own must be."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import urlsplit
from uuid import uuid4

from medray.serve.access.asgi import Header, values
from medray.serve.problems import ProblemError
from medray.spec.serve import LOOPBACK

# The page has its own assets only; pictures come out of memory, codecs are WebAssembly.
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self' blob:",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "font-src 'self'",
        "connect-src 'self' blob: data:",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
DATA_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; sandbox"

_ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",  # for browsers that do not know frame-ancestors
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_TWO_YEARS = "max-age=63072000"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


def request_id(headers: Sequence[Header]) -> str:
    """Give the caller's own X-Request-Id if it is one, else a new one."""
    given = values(headers, b"x-request-id")
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return uuid4().hex


def secured(headers: Sequence[Header], request_id: str, *, static: bool, tls: bool) -> list[Header]:
    """An answer's headers, with what keeps it safe. static: the page, else data."""
    ours = _ALWAYS | {"x-request-id": request_id}
    ours["content-security-policy"] = PAGE_POLICY if static else DATA_POLICY
    if tls:
        ours["strict-transport-security"] = _TWO_YEARS
    if not static:
        ours["cache-control"] = "no-store"
    elif not values(headers, b"cache-control"):
        ours["cache-control"] = "no-cache"  # kept, but asked about before it is used again
    names = {name.encode() for name in ours}
    kept = [(name, value) for name, value in headers if name.lower() not in names]
    return kept + [(name.encode(), value.encode()) for name, value in ours.items()]


def check_host(headers: Sequence[Header], http_version: str, *, home: bool) -> None:
    """Refuse a Host that is none (RFC 9112 3.2).

    home  nobody says who they are: only names of this machine are answered, and no pages of other
          sites. Else any page on the web could ask through the browser of one who sits here, or
          let its own name point here (DNS rebinding).
    Raises ProblemError.
    """
    hosts = values(headers, b"host")
    if not hosts and http_version == "1.0":
        return
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    if found is None:
        raise ProblemError(
            HTTPStatus.BAD_REQUEST, "bad-host", "one Host is needed, and a sound one"
        )
    if not home:
        return
    if found["name"].strip("[]").lower() not in LOOPBACK:
        raise ProblemError(
            HTTPStatus.MISDIRECTED_REQUEST,
            "not-this-host",
            f"without tokens the service answers to {', '.join(LOOPBACK)} only",
        )
    origins = [urlsplit(one).netloc.lower() for one in values(headers, b"origin")]
    foreign = any(one != hosts[0].lower() for one in origins)
    if foreign or "cross-site" in values(headers, b"sec-fetch-site"):
        raise ProblemError(
            HTTPStatus.FORBIDDEN, "other-site", "pages of other sites may not ask here"
        )
