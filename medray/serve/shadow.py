"""Answers of versions on trial, kept for comparison: rows of a Delta table, written now and then.

A shadow must not cost the ward anything: what is too much for it is not asked, and counted. What
was answered within the last seconds before a crash is lost; it is a sample, no record.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from medray import storage
from medray.serve.metrics import Metrics
from medray.serve.routes import Route

SHADOW = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("package", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("target", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("decision", pa.bool_()),
        pa.field("text_value", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
    ]
)
_LOG = logging.getLogger(__name__)
_AT_ONCE = 8
_EVERY_S = 5.0
_ROWS = 10_000  # of them in memory at most


class Shadows:
    """Asks, and writes what is answered to `table_uri`."""

    def __init__(self, table_uri: str) -> None:
        self._uri = table_uri
        self._rows: list[dict[str, Any]] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._writer: asyncio.Task[None] | None = None
        self.metrics: Metrics | None = None

    def ask(
        self, route: Route, request_id: str, ask: Callable[[], Awaitable[dict[str, Any]]]
    ) -> None:
        """Ask in the background, unless too many are being asked already."""
        if len(self._asking) >= _AT_ONCE or len(self._rows) >= _ROWS:
            self._count(route, "left out")
            return
        task = asyncio.create_task(self._answered(route, request_id, ask))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_soon())

    async def flush(self) -> None:
        """Write what is there."""
        rows, self._rows = self._rows, []
        if rows:
            table = pa.Table.from_pylist(rows, schema=SHADOW)
            await asyncio.to_thread(storage.append_table, self._uri, table)

    async def _answered(
        self, route: Route, request_id: str, ask: Callable[[], Awaitable[dict[str, Any]]]
    ) -> None:
        try:
            answer = await ask()
        except Exception as error:  # the boundary: a version on trial may fail in any way
            _LOG.warning("the shadow %s failed: %s", route.ref, type(error).__name__)
            self._count(route, "failed")
            return
        now = datetime.now(UTC)
        named = {"request_id": request_id, "time": now, "package": answer["package"]}
        for item in answer["predictions"]:
            kept = {name: item[name] for name in ("item_id", "status", "reason")}
            for score in item["scores"] or [{}]:
                self._rows.append({**named, **kept, **score})
        self._count(route, "answered")

    async def _write_soon(self) -> None:
        while self._asking or self._rows:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.flush()
            except Exception as error:  # the boundary: no table, no sample
                _LOG.error("shadow answers are not written: %s", type(error).__name__)

    def _count(self, route: Route, outcome: str) -> None:
        if self.metrics is not None:
            self.metrics.shadows.labels(route.name, route.version, outcome).inc()
