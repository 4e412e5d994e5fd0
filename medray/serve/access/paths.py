"""Which paths there are, and what each wants of one who asks. What is not here does not exist."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from medray.serve.problems import ProblemError
from medray.spec.serve import Scope

LONGEST = 2048


@dataclass(frozen=True, slots=True)
class Route:
    """A method and a path. scope: what its caller must have; None: anybody may ask.

    static  an asset of the page, which browsers may keep.
    """

    method: str
    template: str
    scope: Scope | None
    static: bool = False


ROUTES = (
    Route("GET", "/", None, static=True),
    Route("GET", "/static/{file}", None, static=True),
    Route("GET", "/healthz", None),
    Route("GET", "/readyz", None),
    Route("GET", "/openapi.json", None),
    Route("GET", "/metrics", "admin"),
    Route("GET", "/v1/models", "predict"),
    Route("GET", "/v1/models/{ref}", "predict"),
    Route("POST", "/v1/models/{ref}/predict", "predict"),
    Route("POST", "/v1/models/{ref}/explain", "explain"),
    Route("POST", "/v1/display", "predict"),
    Route("GET", "/v1/worklist", "predict"),
    Route("POST", "/dicomweb/studies", "predict"),
    Route("POST", "/dicomweb/studies/{study}", "predict"),
)

_PARTS = {
    # spec.models.PackageSpec: name, version; an alias is as a version is
    "{ref}": r"(?P<ref>[a-z0-9][a-z0-9_.-]{0,63}(?:@[A-Za-z0-9_.-]{1,32})?)",
    "{study}": r"[0-9]{1,64}(?:\.[0-9]{1,64}){0,63}",  # PS3.5 9.1
    "{file}": r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*",
}
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\\%]|//|(?:^|/)\.{1,2}(?:/|$)")


def checked_path(scope: Mapping[str, Any]) -> str:
    """Path of a request (ASGI's `path`, decoded), if it can mean one thing only.

    Raises ProblemError for `.` and `..`, empty segments, separators that were encoded, what was
    encoded twice, control characters, and bytes that are not UTF-8.
    """
    path: str = scope["path"]
    # ASGI leaves raw_path out where a server does not know it.
    raw: bytes = (scope.get("raw_path") or quote_from_bytes(path.encode()).encode()).split(b"?")[0]
    if len(raw) > LONGEST:
        raise ProblemError(HTTPStatus.REQUEST_URI_TOO_LONG, "path-too-long", "no path is so long")
    decoded = unquote_to_bytes(raw)
    separators = decoded.count(b"/") != raw.count(b"/")
    if separators or decoded != path.encode("utf-8", "replace") or _UNSAFE.search(path):
        raise _bad_path()
    return path


def route_of(method: str, path: str) -> tuple[Route, str | None]:
    """Which route a request takes, and the model it names. HEAD is asked for as GET.

    Raises ProblemError: 404 where there is no such path, 405 where it has other methods.
    """
    wanted = "GET" if method == "HEAD" else method
    allowed: list[str] = []
    for route in ROUTES:
        found = _pattern(route.template).fullmatch(path)
        if found is None:
            continue
        if route.method == wanted:
            return route, found.groupdict().get("ref")
        allowed.append(route.method)
    if not allowed:
        raise ProblemError(HTTPStatus.NOT_FOUND, "no-such-path", "there is nothing here")
    allowed += ["HEAD"] if "GET" in allowed else []
    raise ProblemError(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "method-not-allowed",
        f"this path takes {' and '.join(allowed)}",
        headers={"Allow": ", ".join(allowed)},
    )


def _bad_path() -> ProblemError:
    return ProblemError(HTTPStatus.BAD_REQUEST, "bad-path", "the path is not as a path must be")


@lru_cache(maxsize=len(ROUTES))
def _pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r"(\{[a-z]+\})", template)
    return re.compile("".join(_PARTS.get(piece) or re.escape(piece) for piece in pieces))
