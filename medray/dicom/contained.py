"""Decoding in a child process that may crash, hang or exhaust memory without harm.

    with ContainedDecoder() as decoder:
        pictures = decode(ds, spec, decode_codec=decoder)

Owns: the child, its limits, and the wire. Every message is two lengths (u32 header, u64 body,
little endian), a JSON header and raw bytes. The child says one byte when it is ready, answers
one request at a time, and ends at the end of its input, so it does not outlive its parent.
Native frames never travel: no codec touches them.
"""

import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

import medray
from medray.dicom.codecs import MAX_DECODED_BYTES, Array, FrameFormat, codec_of, decode_frame
from medray.errors import Code, MedrayError, RejectError

_LENGTHS = struct.Struct("<LQ")
_READY = b"R"
_MAX_HEADER_BYTES = 1 << 16
_CHUNK = 1 << 20


class _DeadlineError(Exception):
    """The child did not answer in time."""


class _GoneError(Exception):
    """The child closed its end, or answered nonsense."""


class ContainedDecoder:
    """`codecs.decode_frame` in a child process; callable in its place.

    timeout_s     wall clock per frame; then the child is killed: DECODE_TIMEOUT
    memory_bytes  address space of the child; past it a codec fails or dies
    start_s       wall clock for the child to come up; then a MedrayError, not a row's fault

    The child starts with the first encapsulated frame and after each death. Threads may share a
    decoder: they take turns. Raises what `decode_frame` raises, and DECODE_CRASHED.
    """

    def __init__(
        self, *, timeout_s: float = 60.0, memory_bytes: int = 4 << 30, start_s: float = 120.0
    ) -> None:
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes
        self.start_s = start_s
        self.starts = 0
        self._command = [sys.executable, "-P", "-W", "ignore", "-m", "medray.dicom.contained"]
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child, if any; the decoder may be used again."""
        child, self._child = self._child, None
        if child is None or self._owner != os.getpid():
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()

    def start(self) -> None:
        """Start the child now, so that the first frame need not wait for it."""
        with self._lock:
            self._running()

    def __call__(self, frame: bytes, fmt: FrameFormat) -> Array:
        """Decode one frame, as `codecs.decode_frame` does."""
        if not codec_of(fmt.transfer_syntax_uid).encapsulated:
            return decode_frame(frame, fmt)
        with self._lock:
            child = self._running()
            header = {"format": asdict(fmt), "timeout_s": self.timeout_s}
            try:
                deadline = time.monotonic() + self.timeout_s
                _send(child, header, frame, deadline)
                answer, body = _receive(child, deadline)
                return _as_array(answer, body, fmt)
            except _DeadlineError:
                self.close()
                detail = f"no answer within {self.timeout_s:g} s"
                raise RejectError(Code.DECODE_TIMEOUT, detail) from None
            except (_GoneError, OSError, ValueError, KeyError, TypeError):
                detail = _how_it_ended(child)
                self.close()
                raise RejectError(Code.DECODE_CRASHED, detail) from None
            except RejectError:
                raise
            except BaseException:  # interrupted half-way: the pipe is out of step
                self.close()
                raise

    def _running(self) -> subprocess.Popen[bytes]:
        """Return the live child, started anew after a death or a fork of this process."""
        if self._owner != os.getpid():
            self._child, self._owner = None, os.getpid()
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        self._child = child = subprocess.Popen(  # noqa: S603 - our own module
            [*self._command, str(self.memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        self.starts += 1
        try:
            hello = _read(child.stdout, 1, time.monotonic() + self.start_s)
        except (_DeadlineError, _GoneError):
            hello = b""
        if hello != _READY:
            self.close()
            raise MedrayError(
                "the decode child did not start",
                remedy="run `python -m medray.dicom.contained` by hand to see why",
            )
        return child


def _environment() -> dict[str, str]:
    """Return the parent's environment, with this medray first and one thread per library."""
    root = str(Path(medray.__file__).parent.parent)
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {**os.environ, **single, "PYTHONPATH": os.pathsep.join(paths)}


def _how_it_ended(child: subprocess.Popen[bytes]) -> str:
    try:
        status = child.wait(1.0)
    except subprocess.TimeoutExpired:
        return "the decode child closed its pipe"
    return f"signal {-status}" if status < 0 else f"exit status {status}"


def _as_array(answer: dict[str, Any], body: bytes, fmt: FrameFormat) -> Array:
    """Turn an answer into an array or into the refusal that the child met."""
    if "code" in answer:
        raise RejectError(Code(answer["code"]), str(answer.get("detail", "")))
    dtype, shape = np.dtype(str(answer["dtype"])), tuple(int(n) for n in answer["shape"])
    if shape != fmt.shape or dtype.kind not in "ui":
        raise _GoneError
    return np.frombuffer(body, dtype).reshape(shape)


# ---------------------------------------------------------------- the wire, parent's side


def _send(child: subprocess.Popen[bytes], header: dict[str, Any], body: bytes, end: float) -> None:
    text = json.dumps(header).encode()
    for part in (_LENGTHS.pack(len(text), len(body)) + text, body):
        _write(child.stdin, part, end)


def _receive(child: subprocess.Popen[bytes], end: float) -> tuple[dict[str, Any], bytes]:
    head, size = _LENGTHS.unpack(_read(child.stdout, _LENGTHS.size, end))
    if head > _MAX_HEADER_BYTES or size > MAX_DECODED_BYTES:
        raise _GoneError
    answer = json.loads(_read(child.stdout, head, end))
    if not isinstance(answer, dict):
        raise _GoneError
    return answer, _read(child.stdout, size, end)


def _wait(pipe: IO[bytes], event: int, end: float) -> None:
    """Wait until a pipe is ready. Raises _DeadlineError."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, event)
        if not selector.select(max(0.0, end - time.monotonic())):
            raise _DeadlineError


def _write(pipe: IO[bytes] | None, data: bytes, end: float) -> None:
    if pipe is None:
        raise _GoneError
    os.set_blocking(pipe.fileno(), False)
    rest = memoryview(data)
    while rest:
        _wait(pipe, selectors.EVENT_WRITE, end)
        rest = rest[os.write(pipe.fileno(), rest[:_CHUNK]) :]


def _read(pipe: IO[bytes] | None, size: int, end: float) -> bytes:
    if pipe is None:
        raise _GoneError
    out = bytearray()
    while len(out) < size:
        _wait(pipe, selectors.EVENT_READ, end)
        part = os.read(pipe.fileno(), min(size - len(out), _CHUNK))
        if not part:
            raise _GoneError
        out += part
    return bytes(out)


# ---------------------------------------------------------------- the child


def main(memory_bytes: int) -> None:
    """Answer requests on stdin until it ends."""
    _limit(memory_bytes)
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a codec prints must not reach the wire
    sink.write(_READY)
    sink.flush()
    while len(lengths := source.read(_LENGTHS.size)) == _LENGTHS.size:
        head, size = _LENGTHS.unpack(lengths)
        header, body = json.loads(source.read(head)), source.read(size)
        if len(body) < size:
            return
        # Should the parent die, nobody is left to kill a codec that hangs.
        signal.alarm(int(header["timeout_s"]) + 2)
        answer, pixels = _answer(header, body)
        signal.alarm(0)
        text = json.dumps(answer).encode()
        sink.write(_LENGTHS.pack(len(text), len(pixels)) + text)
        sink.write(pixels)
        sink.flush()


def _limit(memory_bytes: int) -> None:
    import resource  # not on every platform, and only the child needs it

    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold patients' pixels


def _answer(header: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        array = decode_frame(body, FrameFormat(**header["format"]))
        return {"dtype": array.dtype.str, "shape": list(array.shape)}, array.tobytes()
    except RejectError as refusal:
        return {"code": refusal.code.value, "detail": refusal.detail}, b""
    except MemoryError:
        return {"code": Code.TOO_LARGE.value, "detail": "the decode child's memory limit"}, b""


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4 << 30)
