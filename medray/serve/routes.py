"""Which version answers for a name: versions, aliases, a canary's share, shadows.

Plain values that the door is told anew while it runs; no HTTP, no Ray.
"""

import hashlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Literal

from pydantic import Field

from medray.serve.problems import ProblemError
from medray.spec.base import Section

LATEST = "latest"


class Route(Section):
    """One version of a model, and where it is.

    app        the Serve application that holds it. uri: of the package; it names the model within
               the pool.
    digest     of the package; the folder may hold another one later.
    """

    name: str
    version: str
    app: str
    uri: str
    digest: str
    reads: Literal["images", "records", "molecules"]
    aliases: tuple[str, ...] = ()
    weight: float = Field(default=0.0, ge=0, le=1)
    shadow: bool = False
    pooled: bool = False
    resting: int = Field(default=1, ge=0)
    most: int = Field(default=1, ge=1)
    timeout_s: float = Field(default=30.0, gt=0)

    @property
    def ref(self) -> str:
        """As in `predictions`."""
        return f"{self.name}@{self.version}#{self.digest[:12]}"


class Routes(Section):
    """All that a door knows of models. The order is that of the service's file."""

    every: tuple[Route, ...] = ()

    def versions(self, name: str) -> tuple[Route, ...]:
        """Of one model. Raises ProblemError when there is none."""
        found = tuple(one for one in self.every if one.name == name)
        if not found:
            known = ", ".join(dict.fromkeys(one.name for one in self.every)) or "none"
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "no-such-model", f"there is no such model; there is: {known}"
            )
        return found

    def default(self, name: str) -> Route:
        """What answers for the name alone: `latest`, or else the last that is not on trial."""
        versions = self.versions(name)
        for one in versions:
            if LATEST in one.aliases:
                return one
        settled = [one for one in versions if not one.weight and not one.shadow]
        return (settled or list(versions))[-1]

    def of(self, ref: str, request_id: str = "") -> Route:
        """What answers for name, name@version or name@alias. Raises ProblemError.

        A canary gets its share of requests for the name or `latest`: which ones is told by the
        request's id, so that a repeated request is answered by the same version.
        """
        name, at, wanted = ref.partition("@")
        versions = self.versions(name)
        if at and wanted != LATEST:
            for one in versions:
                if wanted == one.version or wanted in one.aliases:
                    return one
            known = ", ".join(f"{one.version}" for one in versions)
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                "no-such-version",
                f"{name} has no such version or alias; it has: {known}",
            )
        point = _point(request_id)
        for one in versions:
            if point < one.weight:
                return one
            point -= one.weight
        return self.default(name)

    def shadows(self, route: Route) -> tuple[Route, ...]:
        """Which versions see what another one answers, too."""
        return tuple(
            one for one in self.versions(route.name) if one.shadow and one.version != route.version
        )

    def images(self) -> tuple[str, ...]:
        """Names of the models of images."""
        return tuple(dict.fromkeys(one.name for one in self.every if one.reads == "images"))


def check(routes: Sequence[Route]) -> str:
    """What is wrong with them together; empty when nothing is."""
    seen: set[tuple[str, str]] = set()
    for one in routes:
        for name in (one.version, *one.aliases):
            if (one.name, name) in seen:
                return f"{one.name}@{name} stands for two packages"
            seen.add((one.name, name))
    for name in {one.name for one in routes}:
        if sum(one.weight for one in routes if one.name == name) > 1:
            return f"the weights of {name} are more than 1 together"
    return ""


def _point(request_id: str) -> float:
    """A number in [0, 1) that an id stands for."""
    drawn = hashlib.sha256(request_id.encode()).digest()[:8]
    return int.from_bytes(drawn, "big") / 2.0**64


def told(routes: Sequence[Route]) -> dict[str, Any]:
    """As a door's `user_config`."""
    return Routes(every=tuple(routes)).model_dump(mode="json")
