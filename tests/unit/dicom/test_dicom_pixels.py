"""Oracles: pydicom's decoders and LUT functions, and tables worked out from PS3.3 by hand."""

import io
import struct
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_builders import element, image_file, items, us
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

from medray.dicom.colour import expand_segments
from medray.dicom.files import parse
from medray.dicom.pixels import decode
from medray.dicom.write import WRITABLE, write_instance
from medray.errors import Code, RejectError
from medray.spec.pixels import FixedWindow, PixelSpec, WindowIndex

RAW = PixelSpec(window="none", channels=None)
FILE = PixelSpec(window="file", channels=None)
SHIPPED = Path(pydicom.__path__[0]) / "data" / "test_files"
SV1, JLS, J2K, RLE, BASELINE = (
    f"1.2.840.10008.1.2.{tail}" for tail in ("4.70", "4.80", "4.90", "5", "4.50")
)


def shown(data, spec=FILE):
    return decode(parse(data), spec)[0].pixels


def code_of(data, spec=FILE):
    with pytest.raises(RejectError) as caught:
        decode(parse(data), spec)
    return caught.value.code


# ---------------------------------------------------------------- round trips


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_is_written_is_what_is_decoded(data):
    bits = data.draw(st.sampled_from([8, 10, 12, 16]))
    signed = data.draw(st.booleans())
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    dtype = f"{'i' if signed else 'u'}{1 if bits == 8 else 2}"
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))
    pixels = data.draw(hnp.arrays(dtype, shape, elements=st.integers(low, high)))
    more = {
        "bits_stored": bits,
        "transfer_syntax_uid": data.draw(st.sampled_from(WRITABLE)),
        "photometric_interpretation": data.draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"])),
        "sop_instance_uid": "1.2.3",
        "study_instance_uid": "1.2.4",
        "series_instance_uid": "1.2.5",
        "patient_id": "P",
    }
    written = write_instance(pixels, **more)
    assert written == write_instance(pixels, **more)
    np.testing.assert_array_equal(shown(written, RAW), pixels)


@pytest.mark.parametrize("syntax", [s for s in WRITABLE if s not in (SV1, JLS)])
def test_pydicom_reads_what_is_written(write, ramp, syntax):
    data = write(ramp, bits_stored=12, transfer_syntax_uid=syntax)
    np.testing.assert_array_equal(pydicom.dcmread(io.BytesIO(data)).pixel_array, ramp)


# ---------------------------------------------------------------- real files

GREY = [
    "CT_small", "MR_small", "MR_small_RLE", "MR_small_bigendian", "MR_small_implicit",
    "MR_small_padded", "MR_small_jp2klossless", "693_J2KI", "J2K_pixelrep_mismatch", "JPEG2000",
    "examples_overlay", "image_dfl",
]  # fmt: skip
COLOUR = [
    "ExplVR_BigEnd", "SC_jpeg_no_color_transform", "SC_jpeg_no_color_transform_2",
    "SC_rgb_dcmtk_+eb+cr", "SC_rgb_dcmtk_+eb+cy+n1", "SC_rgb_dcmtk_+eb+cy+np",
    "SC_rgb_dcmtk_+eb+cy+s2", "SC_rgb_dcmtk_+eb+cy+s4", "SC_rgb_gdcm_KY", "SC_rgb_jpeg_dcmd",
    "SC_rgb_jpeg_app14_dcmd", "SC_rgb_jpeg_lossy_gdcm", "SC_rgb_rle", "SC_rgb_rle_2frame",
    "SC_rgb_small_odd", "SC_rgb_small_odd_big_endian", "SC_rgb_small_odd_jpeg",
    "SC_ybr_full_422_uncompressed", "examples_jpeg2k", "examples_rgb_color",
]  # fmt: skip


def reference(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(SHIPPED / f"{name}.dcm", force=True)
        if "TransferSyntaxUID" not in ds.file_meta:
            ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        return ds, ds.pixel_array


@pytest.mark.parametrize("name", GREY)
def test_modality_values_of_real_files(name):
    ds, stored = reference(name)
    pixels = shown((SHIPPED / f"{name}.dcm").read_bytes(), RAW)
    np.testing.assert_array_equal(pixels, apply_modality_lut(stored, ds))


@pytest.mark.parametrize("name", COLOUR)
def test_colour_of_real_files(name):
    _, stored = reference(name)
    pictures = decode(parse((SHIPPED / f"{name}.dcm").read_bytes()), FILE)
    pixels = np.stack([picture.pixels for picture in pictures])
    np.testing.assert_allclose(pixels, stored.reshape(pixels.shape), atol=1)


def test_palette_of_a_real_file():
    ds, stored = reference("examples_palette")
    pixels = shown((SHIPPED / "examples_palette.dcm").read_bytes())
    np.testing.assert_array_equal(pixels, apply_color_lut(stored, ds) >> 8)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("rtdose", Code.DERIVED_OBJECT),
        ("liver_1frame", Code.DERIVED_OBJECT),
        ("badVR", Code.DERIVED_OBJECT),
        ("test-SR", Code.NOT_AN_IMAGE),
        ("rtplan", Code.NOT_AN_IMAGE),
        ("waveform_ecg", Code.NOT_AN_IMAGE),
        ("MR_truncated", Code.TRUNCATED),
        ("rtplan_truncated", Code.TRUNCATED),
        ("JPEG2000-embedded-sequence-delimiter", Code.SIZE_MISMATCH),
    ],
)
def test_real_files_that_are_no_pictures(name, code):
    assert code_of((SHIPPED / f"{name}.dcm").read_bytes()) is code


# ---------------------------------------------------------------- stored values


def test_overlay_bits_above_the_high_bit_are_masked():
    stored = struct.pack("<4H", 0xF001, 0x1FFF, 0x0800, 0x8000)
    data = image_file(stored, rows=2, columns=2, allocated=16, stored=12)
    assert shown(data, RAW).tolist() == [[1, 4095], [2048, 0]]


def test_signed_values_are_extended_from_the_high_bit():
    stored = struct.pack("<4H", 0x0FFF, 0x0800, 0x07FF, 0xF001)
    data = image_file(stored, rows=2, columns=2, allocated=16, stored=12, signed=1)
    assert shown(data, RAW).tolist() == [[-1, -2048], [2047, 1]]


def test_values_may_sit_at_the_top_of_the_word():
    data = image_file(
        struct.pack("<2H", 0x1230, 0xFFF7), rows=1, columns=2, allocated=16, stored=12, high=15
    )
    assert shown(data, RAW).tolist() == [[0x123, 0xFFF]]


def test_single_bits_cross_byte_borders_between_frames():
    bits = np.array([1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 1, 1], np.uint8)
    packed = np.packbits(bits, bitorder="little").tobytes()
    data = image_file(packed, rows=2, columns=3, allocated=1, frames="2")
    pictures = decode(parse(data), FILE)
    got = np.concatenate([picture.pixels.ravel() for picture in pictures])
    assert got.tolist() == (bits * 255).tolist()


def test_planes_and_16_bit_colour():
    planes = np.arange(12, dtype=np.uint16).reshape(3, 2, 2) * 5000
    data = image_file(
        planes.astype("<u2").tobytes(), rows=2, columns=2, samples=3, allocated=16,
        photometric="RGB", extra=(us(0x00280006, 1),),
    )  # fmt: skip
    expected = np.rint(np.moveaxis(planes, 0, -1) * (255 / 65535))
    np.testing.assert_array_equal(shown(data), expected)


def test_ybr_full_once():
    data = image_file(bytes([76, 85, 255, 0]), rows=1, columns=1, samples=3, photometric="YBR_FULL")
    assert shown(data).tolist() == [[[254, 0, 0]]]


# ---------------------------------------------------------------- modality and VOI

STORED = np.array([[0, 1, 100, 1000], [1024, 2000, 4000, 4095]], np.uint16)


@pytest.mark.parametrize(
    ("function", "center", "width"),
    [
        ("LINEAR", 50.5, 350),
        ("LINEAR_EXACT", 40, 400),
        ("SIGMOID", 100, 900),
        ("LINEAR", 2048, 4096),
    ],
)
def test_windows_as_pydicom_does(write, function, center, width):
    data = write(STORED, bits_stored=12, rescale=(1.5, -500), window=(center, width))
    ds = pydicom.dcmread(io.BytesIO(data))
    ds.VOILUTFunction = function
    # pydicom scales a window to the modality's own range, here 0..4095 * 1.5 - 500
    low, span = -500.0, 4095 * 1.5
    expected = (apply_voi_lut(apply_modality_lut(STORED, ds), ds) - low) / span * 255
    buffer = io.BytesIO()
    ds.save_as(buffer)
    np.testing.assert_allclose(shown(buffer.getvalue()), expected, atol=0.5000001)
    fixed = PixelSpec(
        window=FixedWindow(center=center, width=width, function=function), channels=None
    )
    np.testing.assert_array_equal(shown(data, fixed), shown(buffer.getvalue()))


def test_window_by_hand():
    data = image_file(
        bytes([0, 9, 10, 12, 20, 21]), rows=1, columns=6,
        extra=(element(0x00281050, "DS", b"15.5"), element(0x00281051, "DS", b"11\\2 ")),
    )  # fmt: skip
    assert shown(data).tolist() == [[0, 0, 0, 51, 255, 255]]  # 10 < x <= 20; (12 - 10) / 10 of 255


def test_mono1_is_turned_round_for_presentation_only(write):
    pixels = np.array([[0, 255, 7]], np.uint8)
    data = write(pixels, photometric_interpretation="MONOCHROME1")
    assert shown(data).tolist() == [[255, 0, 248]]
    assert shown(data, RAW).tolist() == [[0, 255, 7]]
    assert decode(parse(data), FILE)[0].inverted
    assert not decode(parse(data), RAW)[0].inverted


def test_full_range_leaves_padding_out_and_darkest():
    stored = np.array([[-2000, 0, 50, 100]], "<i2")
    extra = (element(0x00280120, "US", struct.pack("<h", -2000)),)
    for photometric, expected in (
        ("MONOCHROME2", [0, 0, 128, 255]),
        ("MONOCHROME1", [0, 255, 127, 0]),
    ):
        data = image_file(
            stored.tobytes(), rows=1, columns=4, allocated=16, signed=1, extra=extra,
            photometric=photometric,
        )  # fmt: skip
        assert shown(data).tolist() == [expected]


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [(1, -1024, "int16"), (1, 40000, "uint16"), (100, -1024, "int32"), (0.5, 0, "float32")],
)
def test_modality_values_are_exact_in_the_smallest_dtype(write, slope, intercept, dtype):
    data = write(STORED, bits_stored=12, rescale=(slope, intercept), window=(1, 2))
    pixels = shown(data, RAW)
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels, STORED * float(slope) + intercept)


def lut_sequence(tag, first, entries, bits, vr="US"):
    body = element(0x00283002, vr, struct.pack("<HhH", len(entries), first, bits))
    body += element(0x00283006, "OW", np.array(entries, "<u2").tobytes())
    return element(tag, "SQ", struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body)


def test_modality_lut_then_voi_lut_by_hand():
    extra = (
        lut_sequence(0x00283000, 1, [10, 20, 30], 8),
        lut_sequence(0x00283010, 10, [0, *range(1, 20), 255], 8),
    )
    data = image_file(bytes([0, 1, 2, 9]), rows=1, columns=4, extra=extra)
    assert shown(data, RAW).tolist() == [[10, 10, 20, 30]]
    assert shown(data).tolist() == [[0, 0, 10, 255]]
    assert shown(data, PixelSpec(window=WindowIndex(index=0))).tolist() == [[0, 0, 10, 255]]
    assert code_of(data, PixelSpec(window=WindowIndex(index=1))) is Code.MISSING_ATTRIBUTE


def test_voi_lut_as_pydicom_does():
    entries = np.linspace(0, 4095, 300).astype(int).tolist()
    data = image_file(
        bytes(range(256)), rows=16, columns=16, signed=1,
        extra=(lut_sequence(0x00283010, -5, entries, 12, "SS"),),
    )  # fmt: skip
    values = np.arange(256).astype(np.int8).reshape(16, 16).astype(np.int16)
    expected = apply_voi_lut(values, pydicom.dcmread(io.BytesIO(data)))
    np.testing.assert_array_equal(shown(data), np.rint(expected * (255 / 4095)))


def test_segmented_palette():
    # PS3.3 C.7.9.2: two entries, a line of 4 up to 100, then the same again
    words = [0, 2, 7, 20, 1, 4, 100, 2, 2, 0, 0]
    assert expand_segments(words, 12) == [7, 20, 40, 60, 80, 100] * 2


def test_table_and_direct_way_agree(write):
    rng = np.random.default_rng(1)
    big = rng.integers(0, 4096, (300, 300)).astype(np.uint16)
    more = {"bits_stored": 12, "rescale": (1, -1024), "window": (40, 400)}
    whole, corner = shown(write(big, **more)), shown(write(big[:9, :9], **more))
    np.testing.assert_array_equal(whole[:9, :9], corner)


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"frames": "10"}, Code.FRAME_MISMATCH),
        ({"frames": "1A"}, Code.INVALID_ATTRIBUTE),
        ({"rows": 5}, Code.SIZE_MISMATCH),
        ({"rows": 4}, Code.FRAME_MISMATCH),
        ({"rows": 9}, Code.TRUNCATED),
        ({"rows": 0}, Code.INVALID_ATTRIBUTE),
        ({"rows": 65535, "columns": 65535}, Code.TOO_LARGE),
        ({"allocated": 12}, Code.UNSUPPORTED_DEPTH),
        ({"stored": 20}, Code.INVALID_ATTRIBUTE),
        ({"photometric": "HSV"}, Code.UNSUPPORTED_PHOTOMETRIC),
        ({"photometric": "RGB"}, Code.INVALID_ATTRIBUTE),
        ({"photometric": "PALETTE COLOR"}, Code.MISSING_ATTRIBUTE),
        ({"syntax": "1.2.840.10008.1.2.4.100"}, Code.UNSUPPORTED_TRANSFER_SYNTAX),
        ({"syntax": "9.9"}, Code.UNSUPPORTED_TRANSFER_SYNTAX),
    ],
)
def test_lies_in_the_header(change, code):
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 200, 64, dtype=np.uint8).tobytes()
    data = image_file(pixels, **{"rows": 8, "columns": 8, **change})
    assert code_of(data) is code


def encapsulated(frame, syntax, **more):
    more = {"rows": 8, "columns": 8, **more}
    return image_file(items(frame), syntax=syntax, vr="OB", encapsulated=True, **more)


SQUARE = np.arange(64, dtype=np.uint8).reshape(8, 8)


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (SV1, bytes(imagecodecs.jpeg8_encode(SQUARE, lossless=True, predictor=1))),
        (JLS, bytes(imagecodecs.jpegls_encode(SQUARE))),
        (
            J2K,
            bytes(imagecodecs.jpeg2k_encode(SQUARE, level=0, codecformat="j2k", reversible=True)),
        ),
        ("1.2.840.10008.1.2.4.201", bytes(imagecodecs.htj2k_encode(SQUARE, reversible=True))),
        ("1.2.840.10008.1.2.4.110", bytes(imagecodecs.jpegxl_encode(SQUARE, lossless=True))),
    ],
)
def test_codestreams_and_their_lies(syntax, frame):
    assert shown(encapsulated(frame, syntax), RAW).tolist() == SQUARE.tolist()
    assert code_of(encapsulated(frame, syntax, rows=7)) is Code.SIZE_MISMATCH
    assert code_of(encapsulated(frame, syntax, frames="3")) is Code.FRAME_MISMATCH
    assert code_of(encapsulated(b"\0" * 40, syntax)) is Code.DECODE_FAILED
    assert code_of(encapsulated(frame[:12], syntax)) in (Code.DECODE_FAILED, Code.SIZE_MISMATCH)


def test_j2k_that_claims_a_huge_picture_is_refused_before_decoding():
    frame = bytearray(imagecodecs.jpeg2k_encode(SQUARE, level=0, codecformat="j2k"))
    frame[8:16] = struct.pack(">LL", 60000, 60000)
    assert code_of(encapsulated(bytes(frame), J2K)) is Code.SIZE_MISMATCH


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        struct.pack("<16L", 1, 64, *[0] * 14),
        struct.pack("<16L", 3, 64, *[0] * 14) + bytes(80),
        struct.pack("<16L", 1, 9999, *[0] * 14) + bytes(80),
        struct.pack("<16L", 1, 64, *[0] * 14) + b"\x7f\x01\x02",
    ],
)
def test_corrupt_rle(frame):
    assert code_of(encapsulated(frame, RLE)) is Code.DECODE_FAILED
