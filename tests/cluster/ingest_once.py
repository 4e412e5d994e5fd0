"""Run ingest once and die by SIGKILL right after its Nth write: `ingest_once.py ROOT N`."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from medray import storage
from medray.ingest import ingest
from medray.spec.models import RunSpec

WRITES = ("write_atomic", "move", "publish", "replace_table", "remove_tree")


def main(root: str, last: int) -> None:
    done: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            done.append(name)
            if len(done) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    for name in WRITES:
        setattr(storage, name, counted(name, getattr(storage, name)))
    section = {"archive": f"{root}/archive", "files_per_task": 4}
    spec = RunSpec.model_validate({"name": "k", "output": f"{root}/out", "ingest": section})
    ingest(spec)
    sys.stdout.write(" ".join(done))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
