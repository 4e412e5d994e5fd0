"""One request and its answer: deadlines, repetitions, what is said when it fails.

Everything that is asked here changes nothing at the service, so that it may be asked again.
"""

import ipaddress
import secrets
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

import httpx

from medray.errors import ServiceError, UsageError


class Content(NamedTuple):
    """The body of a request: bytes of a kind, or fields of a form with files."""

    data: bytes | None = None
    kind: str = ""
    files: Sequence[tuple[str, tuple[str, BinaryIO, str]]] | None = None


Body = Callable[[], AbstractContextManager[Content]]
"""Makes a body anew, for every time it is sent."""

AGAIN = frozenset({429, 502, 503, 504})
_UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
_FIRST_S, _LONGEST_S = 0.25, 60.0
_REMEDIES = {
    401: "give a token that is valid: `--token-file`, or $MEDRAY_TOKEN",
    403: "ask for a token with the scope that this needs",
    404: "ask /v1/models what there is",
    413: "send less at once",
    415: "send what the model reads: /v1/models says what",
    429: "try again later, or let the model have more replicas",
    503: "wait until /readyz says ok",
    504: "ask about less at once",
}


def _nothing() -> AbstractContextManager[Content]:
    return nullcontext(Content())


class Transport:
    """A service's address with what its requests need. Holds connections.

    Raises UsageError where a token would go over the network in the clear. Proxies and passwords
    that the environment names are not used.
    """

    def __init__(
        self, url: str, token: str | None, timeout_s: float, retries: int, ca: str | None
    ) -> None:
        self._where = _checked(url, token)
        self._retries = retries
        self._timeout_s = timeout_s
        self._draw = secrets.SystemRandom()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._client = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=timeout_s,
            verify=_trusted(ca) if url.startswith("https") else True,
            trust_env=False,
        )

    def close(self) -> None:
        """End all connections."""
        self._client.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        request_id: str,
        body: Body = _nothing,
        params: Mapping[str, str] | None = None,
        retries: int | None = None,
    ) -> httpx.Response:
        """The answer to a request. Raises ServiceError when there is none, or no good one."""
        left = self._retries if retries is None else retries
        wait_s = _FIRST_S
        while True:
            try:
                with body() as content:
                    kind = {"Content-Type": content.kind} if content.kind else {}
                    answer = self._client.request(
                        method,
                        path,
                        headers={"X-Request-Id": request_id, **kind},
                        params=params,
                        content=content.data,
                        files=content.files,
                    )
            except httpx.TransportError as error:
                if left == 0 or _UNTRUSTED in str(error):
                    raise self._unreachable(error, request_id) from error
                asked_s = 0.0
            else:
                if answer.is_success:
                    return answer
                if left == 0 or answer.status_code not in AGAIN:
                    raise _refused(answer, request_id)
                asked_s = _retry_after_s(answer)
            left -= 1
            time.sleep(min(max(asked_s, wait_s * self._draw.uniform(0.5, 1.5)), _LONGEST_S))
            wait_s *= 2

    def _unreachable(self, error: httpx.TransportError, request_id: str) -> ServiceError:
        if isinstance(error, httpx.TimeoutException):
            what = f"{self._where} has not answered within {self._timeout_s:g} s"
            remedy = "give it more time, or ask about less at once"
        elif _UNTRUSTED in str(error):
            what = f"the certificate of {self._where} is not one to trust"
            remedy = "name the certificate of its authority: `--ca`"
        else:
            what = f"{self._where} cannot be reached: {type(error).__name__}"
            remedy = "see that the service runs (`medray serve`), and its address"
        return ServiceError(what, remedy=remedy, request_id=request_id)


def _checked(url: str, token: str | None) -> str:
    """Host and port of a URL. Raises UsageError."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise UsageError(
            "the address of a service is http://… or https://…", remedy="e.g. http://127.0.0.1:8000"
        )
    if token is not None and parts.scheme == "http" and not _here(parts.hostname):
        raise UsageError(
            f"a token would go to {parts.hostname} in the clear",
            remedy="give an https:// address (`tls` of the service)",
        )
    return parts.hostname if port is None else f"{parts.hostname}:{port}"


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _trusted(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"{ca} is no certificate that can be read: {type(error).__name__}",
            remedy="give a PEM file",
        ) from error


def _retry_after_s(answer: httpx.Response) -> float:
    """RFC 9110, 10.2.3: seconds, or a date; 0 where there is neither."""
    said = answer.headers.get("retry-after", "")
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        there = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    aware = there if there.tzinfo else there.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())


def _refused(answer: httpx.Response, request_id: str) -> ServiceError:
    """What a problem document says (RFC 9457), or what there is without one."""
    status = answer.status_code
    problem: Any = None
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        try:
            problem = answer.json()
        except ValueError:
            problem = None
    if not isinstance(problem, dict):
        problem = {"detail": answer.reason_phrase or "no reason is given", "type": ""}
    lines = [str(problem.get("detail", problem.get("title", "")))]
    lines += [f"  {one['pointer']}: {one['detail']}" for one in problem.get("errors") or ()]
    return ServiceError(
        f"the service refuses ({status}): " + "\n".join(lines),
        remedy=_REMEDIES.get(status, ""),
        status=status,
        kind=str(problem.get("type", "")).rpartition(":")[2],
        request_id=(answer.headers.get_list("x-request-id") or [request_id])[0],
    )
