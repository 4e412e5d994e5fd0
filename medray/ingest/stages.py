"""Stages of a run: told as they go on, and how long each took."""

import time
from collections.abc import Callable
from typing import Any

Progress = Callable[[dict[str, Any]], None]


class Stages:
    """Tells `tell` of every stage; `seconds` holds what each has taken, by name."""

    def __init__(self, tell: Progress | None, seconds: dict[str, float]) -> None:
        self._tell = tell
        self.seconds = seconds

    def __call__(self, name: str, unit: str) -> Callable[[int, int], None]:
        """Begin a stage; the result takes how much of how many units is done."""
        started = time.monotonic()

        def tell(done: int, total: int) -> None:
            self.seconds[name] = round(time.monotonic() - started, 3)
            if self._tell is not None:
                self._tell({"stage": name, "done": done, "total": total, "unit": unit})

        return tell
