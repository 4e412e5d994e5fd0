"""Who asks."""

from dataclasses import dataclass
from typing import Literal

from medray.spec.serve import Scope

SCOPES: tuple[Scope, ...] = ("predict", "explain", "admin")


@dataclass(frozen=True, slots=True)
class Caller:
    """One who asks: staff or a program, never a patient.

    name        of the token, or the `sub` of a signed one.
    by          how it is known: two of one name are two callers.
    per_minute  requests, where its token says another number than the service.
    """

    name: str
    scopes: frozenset[Scope]
    by: Literal["token", "oidc", "open"] = "token"
    per_minute: int | None = None


OPEN = Caller("open", frozenset(SCOPES), "open")
