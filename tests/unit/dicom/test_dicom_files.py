import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from dicom_builders import element, file_of, image_file, items

from medray.dicom import files
from medray.dicom.files import parse, sniff
from medray.dicom.frames import split_encapsulated
from medray.errors import Code, RejectError


def outcome_of(data: bytes) -> str:
    try:
        return "whole" if "PixelData" in parse(data) else "header only"
    except RejectError as refusal:
        return refusal.code


def code_of(data: bytes, **options) -> Code:
    with pytest.raises(RejectError) as caught:
        parse(data, **options)
    return caught.value.code


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (bytes(128) + b"DICM", "dicom"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "png"),
        (b"\xff\xd8\xff\xe0" + bytes(200), "jpeg"),
        (b"PK\x03\x04" + bytes(200), "zip"),
        (element(0x00080005, "CS", b"ISO_IR 100"), "dicom_no_preamble"),
        (element(0x00020010, "UI", b"1.2.840.10008.1.2\0"), "dicom_no_preamble"),
        (struct.pack(">HH2sH", 8, 5, b"CS", 10) + b"ISO_IR 100", "dicom_no_preamble"),
        (struct.pack("<HHL", 8, 5, 10) + b"ISO_IR 100", "dicom_no_preamble"),
        (b"", "other"),
        (b"The quick brown fox jumps over the lazy dog" * 9, "other"),
        (bytes(300), "other"),
        (b"\x08\x00" + b"\xff" * 100, "other"),
    ],
)
def test_kind_of_file(head, kind):
    assert sniff(head) == kind


def test_faults_of_the_header(write):
    whole = write(np.zeros((4, 4), np.uint8))
    assert code_of(b"") == Code.EMPTY_FILE
    assert code_of(b"hello" * 100) == Code.NOT_DICOM
    assert code_of(bytes(128) + b"DICM") == Code.TRUNCATED
    assert code_of(whole[:200]) == Code.TRUNCATED
    assert code_of(whole[:-1]) == Code.TRUNCATED
    assert code_of(whole[:-1], stop_before_pixels=False) == Code.TRUNCATED
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 80)
    unterminated = file_of(element(0x00081115, "SQ", item, length=0xFFFFFFFF))
    assert code_of(unterminated) is Code.TRUNCATED


@pytest.mark.parametrize("cut", range(140, 500, 7))
def test_any_cut_is_a_refusal_or_a_shorter_header(write, cut):
    data = write(np.zeros((4, 4), np.uint8))
    assert outcome_of(data[:cut]) in ("header only", Code.TRUNCATED, Code.HEADER_INVALID)


def test_deep_nesting_is_a_refusal():
    nested = b""
    for _ in range(3000):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(nested)) + nested
        nested = element(0x00081115, "SQ", item)
    data = file_of(element(0x00080016, "UI", b"1.2.3\0"), nested)
    assert outcome_of(data) in ("header only", Code.HEADER_INVALID)


def test_element_of_4_gib_is_truncated():
    data = file_of(element(0x00091010, "OB", b"abc", length=0xFFFFFFF0))
    assert code_of(data) == Code.TRUNCATED


def deflated(body: bytes, wbits: int = -15) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return file_of(deflater.compress(body) + deflater.flush(), syntax="1.2.840.10008.1.2.1.99")


def test_deflate_bomb_is_refused_before_it_is_parsed(monkeypatch):
    monkeypatch.setattr(files, "MAX_INFLATED_BYTES", 1 << 20)
    monkeypatch.setattr(files, "MAX_INFLATED_HEADER_BYTES", 1 << 16)
    body = element(0x00080060, "CS", b"OT") + element(0x7FE00010, "OW", bytes(1 << 22))
    assert code_of(deflated(body)) == Code.TOO_LARGE
    header = parse(deflated(body), stop_before_pixels=True)
    assert header.Modality == "OT"


def test_deflated_keeps_its_transfer_syntax_and_faults_have_codes():
    body = element(0x00080060, "CS", b"OT") + element(0x00100020, "LO", b"abcdefgh" * 8)
    assert parse(deflated(body)).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1.99"
    assert parse(deflated(body, wbits=15)).Modality == "OT"
    assert code_of(deflated(body)[:-9]) == Code.TRUNCATED
    broken = file_of(b"\xff" * 50, syntax="1.2.840.10008.1.2.1.99")
    assert code_of(broken) == Code.HEADER_INVALID


def test_delimiter_bytes_inside_a_fragment_do_not_end_the_pixel_data():
    fragment = b"\xff\xd8" + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) + b"tail"
    data = image_file(
        items(fragment), rows=1, columns=1, vr="OB", encapsulated=True,
        syntax="1.2.840.10008.1.2.4.50",
    )  # fmt: skip
    assert split_encapsulated(parse(data).PixelData, 1) == [fragment]


def test_warnings_stay_inside_and_other_threads_parse_too(write):
    data = write(np.zeros((4, 4), np.uint8), patient={"PatientAge": "x" * 40})
    failures: list[BaseException] = []

    def work():
        try:
            for _ in range(20):
                parse(data)
        except BaseException as fault:
            failures.append(fault)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


JPEG_A, JPEG_B = b"\xff\xd8\xffA1", b"\xff\xd8\xffB23"


@pytest.mark.parametrize(
    ("data", "frames", "expected"),
    [
        (items(JPEG_A), 1, [JPEG_A]),
        (items(JPEG_A, b"more"), 1, [JPEG_A + b"more"]),
        (items(JPEG_A, JPEG_B), 2, [JPEG_A, JPEG_B]),
        (items(JPEG_A, b"x", JPEG_B), 2, [JPEG_A + b"x", JPEG_B]),
        (items(b"aa", b"b", b"c", table=(0, 10)), 2, [b"aa", b"bc"]),
        (items(JPEG_A, JPEG_B, table=(0, 999)), 2, [JPEG_A, JPEG_B]),
    ],
)
def test_fragments_to_frames(data, frames, expected):
    assert split_encapsulated(data, frames) == expected


def test_extended_offset_table_and_lengths():
    data = items(b"abcd", b"ef", b"ghij")
    assert split_encapsulated(data, 2, (0, 12), (3, 6)) == [b"abc", b"efghij"]


@pytest.mark.parametrize(
    ("data", "frames", "code"),
    [
        (items(JPEG_A), 10, Code.FRAME_MISMATCH),
        (items(JPEG_A, JPEG_B), 1, Code.FRAME_MISMATCH),
        (items(b"a", b"b", b"c"), 2, Code.FRAME_MISMATCH),
        (items(), 1, Code.NO_PIXEL_DATA),
        (b"\0" * 16, 1, Code.HEADER_INVALID),
        (items(JPEG_A)[:14], 1, Code.TRUNCATED),
    ],
)
def test_fragments_that_do_not_make_frames(data, frames, code):
    with pytest.raises(RejectError) as caught:
        split_encapsulated(data, frames)
    assert caught.value.code is code
