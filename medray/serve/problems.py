"""What is wrong with a request, as RFC 9457 has it; never with a value of a patient's row."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from medray.errors import MedrayError

PROBLEM = "application/problem+json"


class ProblemError(Exception):
    """What is wrong with a request.

    kind     names the problem: the last part of its type.
    errors   where in the body, and what: `pointer` and `detail` of each.
    headers  of the answer, such as Retry-After.
    """

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, kind, detail, errors, headers)  # what it is pickled with
        self.status, self.kind, self.detail = status, kind, detail
        self.errors, self.headers = errors, dict(headers or {})

    def __str__(self) -> str:
        return self.detail

    def document(self) -> dict[str, Any]:
        """RFC 9457, 3.1; `errors` is an extension member."""
        content: dict[str, Any] = {
            "type": f"urn:medray:problem:{self.kind}",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
        }
        return content | ({"errors": [dict(one) for one in self.errors]} if self.errors else {})


def unprocessable(kind: str, error: MedrayError) -> ProblemError:
    """What medray's own error says, as an answer to a request that asked for it."""
    detail = f"{error.what}; {error.remedy}" if error.remedy else error.what
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, kind, detail)
