"""Progress events of a verb, drawn as one live line per stage."""

import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


class LiveProgress:
    """Callable that takes events `{"stage", "done", "total", "unit", **numbers}`.

    On a terminal the bars move; elsewhere (a log file, CI) a stage prints a line at most every
    five seconds and one when it ends.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._printed: dict[str, float] = {}
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[counts]:>20}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[numbers]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event."""
        rest = dict(event)
        stage = str(rest.pop("stage"))
        done, total = rest.pop("done", 0) or 0, rest.pop("total", None)
        unit = rest.pop("unit", "")
        counts = f"{done:,}/{total:,} {unit}" if total else f"{done:,} {unit}"
        numbers = "  ".join(f"{key} {_short(value)}" for key, value in rest.items())
        if self._console.is_terminal:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, counts="", numbers="")
            self._bars.update(
                self._tasks[stage], completed=done, total=total, counts=counts, numbers=numbers
            )
            return
        finished = bool(total) and done >= total
        now = time.monotonic()
        if finished or now - self._printed.get(stage, -5.0) >= 5.0:
            self._printed[stage] = now
            self._console.print(f"{stage:<10} {counts:<20} {numbers}".rstrip(), highlight=False)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
