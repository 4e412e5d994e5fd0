"""Run a verb again and again, each time in a process of its own, killed where it is told to.

A module of this folder calls `serve`; a test talks to it through `runner`: it sends N, and the run
dies by SIGKILL right after its Nth write (0: never). Processes are forked from that module's, which
has imported everything and done nothing.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]
WRITES = ("write_atomic", "move", "publish", "replace_table", "remove_tree")

Once = Callable[..., list[str]]
"""N → names of the writes of a run; [] when it was killed after its Nth."""


@contextmanager
def runner(module: str, root: Path) -> Iterator[Once]:
    """A process of `tests.cluster.{module}`, which works below `root`."""
    with subprocess.Popen(
        [sys.executable, "-m", f"tests.cluster.{module}", str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told, answers = process.stdin, process.stdout

        def once(last: int = 0) -> list[str]:
            told.write(f"{last}\n")
            told.flush()
            answer = json.loads(answers.readline())
            assert answer["code"] == (-9 if last else 0)
            return answer["writes"]

        yield once
        told.close()


def serve(verb: Callable[[], object]) -> None:
    """Answer each line N of standard input with {"code": …, "writes": [names]}."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_in_a_fork(verb, int(line))) + "\n")
        sys.stdout.flush()


def _in_a_fork(verb: Callable[[], object], last: int) -> dict[str, Any]:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, json.dumps(_run(verb, last)).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "writes": json.loads(said or "[]")}


def _run(verb: Callable[[], object], last: int) -> list[str]:
    from medray import storage

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
    verb()
    return done
