"""Ingest records again and again, each time in a process of its own, killed where it is told to.

    records_once.py ROOT    reads N from each line; a run dies by SIGKILL right after its Nth write
                            (0: never); answers a line {"code": …, "writes": [names]}

Processes are forked from this one, which has imported everything and done nothing.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medray import storage
from medray.ingest import ingest_records
from medray.spec.models import RunSpec
from tests.timelines import records_spec

WRITES = ("write_atomic", "move", "publish", "replace_table", "remove_tree")


def run(root: str, last: int) -> list[str]:
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
    ingest_records(RunSpec.model_validate(records_spec(Path(root))))
    return done


def in_a_fork(root: str, last: int) -> dict[str, Any]:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, json.dumps(run(root, last)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "writes": json.loads(said or "[]")}


if __name__ == "__main__":
    for line in sys.stdin:
        sys.stdout.write(json.dumps(in_a_fork(sys.argv[1], int(line))) + "\n")
        sys.stdout.flush()
