"""What is told of a served model without loading it: its targets, its card."""

from typing import Any

from medray.package import Package, open_package
from medray.serve.model import ACCEPTS
from medray.serve.routes import Route, Routes

_CARD = "MODEL_CARD.md"


class Cards:
    """Packages by digest, opened once."""

    def __init__(self) -> None:
        self._packages: dict[str, Package] = {}

    def of(self, route: Route, routes: Routes) -> dict[str, Any]:
        """One entry of /v1/models."""
        package = self._package(route)
        return {
            "name": route.name,
            "version": route.version,
            "package": route.ref,
            "aliases": list(route.aliases),
            "default": routes.default(route.name) == route,
            "weight": route.weight,
            "shadow": route.shadow,
            "pooled": route.pooled,
            "workload": package.workload,
            "reads": route.reads,
            "accepts": list(ACCEPTS[route.reads]),
            "time_unit": _time_unit(package),
            "targets": [
                {
                    "name": name,
                    "kind": one.kind,
                    "classes": list(one.classes),
                    "threshold": one.threshold,
                    "horizons_days": list(one.horizons_days),
                    "levels": list(one.levels),
                    "calibrated_on": one.items,
                    "note": one.note,
                }
                for name, one in package.calibration.targets.items()
            ],
        }

    def whole(self, route: Route, routes: Routes) -> dict[str, Any]:
        """`of`, with the model card."""
        path = self._package(route).folder / _CARD
        card = path.read_text(encoding="utf-8") if path.exists() else None
        return {**self.of(route, routes), "card": card}

    def _package(self, route: Route) -> Package:
        if route.digest not in self._packages:
            self._packages[route.digest] = open_package(route.uri)
        return self._packages[route.digest]


def _time_unit(package: Package) -> str | None:
    """What times of events are told in (`Timelines.time_unit`); None where there are none."""
    if package.records is None:
        return None
    units = [one.time_unit for one in package.records.sources if one.time_unit != "timestamp"]
    return units[0] if units else "timestamp"
