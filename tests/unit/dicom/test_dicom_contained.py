import os
import signal
import sys
import threading
import time

import imagecodecs
import numpy as np
import pytest

from medray.dicom.codecs import FrameFormat, decode_frame
from medray.dicom.contained import ContainedDecoder
from medray.errors import Code, MedrayError, RejectError

FORMAT = FrameFormat("1.2.840.10008.1.2.4.80", "MONOCHROME2", 8, 9, 1, 16, 12, 11, 0)
PIXELS = np.arange(72, dtype=np.uint16).reshape(8, 9)
FRAME = bytes(imagecodecs.jpegls_encode(PIXELS))


def code_of(decoder, frame=FRAME, fmt=FORMAT):
    with pytest.raises(RejectError) as caught:
        decoder(frame, fmt)
    return caught.value.code


def impostor(decoder, program):
    """A child that says it is ready and then misbehaves."""
    hello = "import os,sys,time,signal; os.write(1, b'R'); "
    decoder._command = [sys.executable, "-S", "-c", hello + program]
    return decoder


def test_same_pixels_and_refusals_as_in_process_and_one_child():
    with ContainedDecoder() as decoder:
        for _ in range(3):
            np.testing.assert_array_equal(decoder(FRAME, FORMAT), decode_frame(FRAME, FORMAT))
        assert code_of(decoder, FRAME[:40]) is Code.DECODE_FAILED
        assert code_of(decoder, b"\xff\xd8\xff\xf7") is Code.DECODE_FAILED
        assert decoder.starts == 1


def test_native_frames_start_no_child():
    fmt = FrameFormat("1.2.840.10008.1.2.1", "MONOCHROME2", 1, 2, 1, 8, 8, 7, 0)
    with ContainedDecoder() as decoder:
        assert decoder(b"\1\2", fmt).tolist() == [[1, 2]]
        assert decoder.starts == 0


def test_a_killed_child_is_replaced():
    with ContainedDecoder() as decoder:
        decoder(FRAME, FORMAT)
        os.kill(decoder._child.pid, signal.SIGKILL)
        decoder._child.wait()
        np.testing.assert_array_equal(decoder(FRAME, FORMAT), PIXELS)
        assert decoder.starts == 2


def test_a_child_that_dies_at_work_costs_one_frame():
    with impostor(ContainedDecoder(), "sys.stdin.buffer.read(9); os.abort()") as decoder:
        assert code_of(decoder) is Code.DECODE_CRASHED
        decoder._command = ContainedDecoder()._command
        np.testing.assert_array_equal(decoder(FRAME, FORMAT), PIXELS)


def test_a_child_stopped_at_work_is_killed_at_the_deadline():
    with ContainedDecoder() as decoder:
        decoder(FRAME, FORMAT)
        pid = decoder._child.pid
        os.kill(pid, signal.SIGSTOP)
        decoder.timeout_s = 0.3
        start = time.monotonic()
        assert code_of(decoder) is Code.DECODE_TIMEOUT
        assert time.monotonic() - start < 10
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        decoder.timeout_s = 60.0
        np.testing.assert_array_equal(decoder(FRAME, FORMAT), PIXELS)


def test_nonsense_on_the_wire_is_a_crash_not_an_array():
    program = "os.write(1, b'\\xff' * 64); time.sleep(60)"
    with impostor(ContainedDecoder(), program) as decoder:
        assert code_of(decoder) is Code.DECODE_CRASHED


def test_a_child_that_cannot_start_is_the_run_s_fault():
    decoder = ContainedDecoder(start_s=30)
    decoder._command = [sys.executable, "-c", "raise SystemExit(3)"]
    with decoder, pytest.raises(MedrayError):
        decoder(FRAME, FORMAT)


def test_the_child_ends_with_its_input():
    with ContainedDecoder() as decoder:
        decoder(FRAME, FORMAT)
        child = decoder._child
        child.stdin.close()
        assert child.wait(30) == 0


def test_threads_take_turns():
    wrong: list[int] = []
    with ContainedDecoder() as decoder:

        def work(value):
            pixels = np.full((8, 9), value, np.uint16)
            frame = bytes(imagecodecs.jpegls_encode(pixels))
            for _ in range(10):
                if not np.array_equal(decoder(frame, FORMAT), pixels):
                    wrong.append(value)

        threads = [threading.Thread(target=work, args=(value,)) for value in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
