"""Work done in a thread while the result before it is used."""

from collections.abc import Iterator
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")
_WAIT_S = 0.2


def ahead(made: Iterator[T], most: int = 4) -> Iterator[T]:
    """The same values in the same order, made by a thread that is at most `most` ahead.

    What it raises is raised here. The thread ends when the caller stops asking.
    """
    ready: Queue[T | _End] = Queue(most)
    stop = Event()
    thread = Thread(target=_fill, args=(made, ready, stop), name="medray-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(value := ready.get(), _End):
            yield value
        if value.error is not None:
            raise value.error
    finally:
        stop.set()
        thread.join()


class _End:
    """After the last value; with what went wrong, if anything did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def _fill(made: Iterator[T], ready: "Queue[T | _End]", stop: Event) -> None:
    try:
        for value in made:
            _put(value, ready, stop)
            if stop.is_set():
                return
        _put(_End(), ready, stop)
    except BaseException as error:  # handed to the caller
        _put(_End(error), ready, stop)


def _put(value: T | _End, ready: "Queue[T | _End]", stop: Event) -> None:
    while not stop.is_set():
        try:
            ready.put(value, timeout=_WAIT_S)
        except Full:
            continue
        return
