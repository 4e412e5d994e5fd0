"""Counts and times of one door, as Prometheus reads them. Labels name models, never items."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from medray.serve.problems import ProblemError
from medray.serve.routes import Route

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LABELS = ("model", "version", "asked")


class Outcome:
    """Of one request."""

    def __init__(self, counter: Counter, labels: tuple[str, ...]) -> None:
        self._counter, self._labels = counter, labels

    def items(self, predictions: Sequence[Mapping[str, Any]]) -> None:
        """Count items by status and reason."""
        for one in predictions:
            self._counter.labels(*self._labels, one["status"], one["reason"] or "").inc()


class Metrics:
    """What is counted."""

    kind = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "medray_requests", "Requests that reached a model.", (*_LABELS, "status"),
            registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "medray_request_seconds", "From a whole body to its answer.", _LABELS,
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._running = Gauge(
            "medray_requests_running", "Requests at a model or waiting for it.", _LABELS,
            registry=registry,
        )  # fmt: skip
        self._items = Counter(
            "medray_items", "Items answered.", (*_LABELS, "status", "reason"), registry=registry
        )
        self.shadows = Counter(
            "medray_shadows", "Requests repeated in the shadow.", ("model", "version", "outcome"),
            registry=registry,
        )  # fmt: skip

    @contextmanager
    def asked(self, route: Route, what: str) -> Generator[Outcome]:
        """Around one request to a model."""
        labels = (route.name, route.version, what)
        started, status = perf_counter(), 200
        self._running.labels(*labels).inc()
        try:
            yield Outcome(self._items, labels)
        except ProblemError as problem:
            status = int(problem.status)
            raise
        except BaseException:
            status = 500
            raise
        finally:
            self._running.labels(*labels).dec()
            self._seconds.labels(*labels).observe(perf_counter() - started)
            self._requests.labels(*labels, str(status)).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
