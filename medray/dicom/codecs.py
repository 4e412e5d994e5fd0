"""One frame's bytes → stored values, by one literal table of transfer syntaxes.

Owns: the table, reading codestream headers, size checks before and after decoding. Knows
neither datasets nor modality or colour transforms, so that the decode child (see contained)
starts without pydicom. Cutting pixel data into frames is frames' work.

Shapes: H rows, W columns, S samples per pixel.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import imagecodecs
import numpy as np
import numpy.typing as npt

from medray.errors import Code, RejectError

Array = npt.NDArray[Any]

MAX_DECODED_BYTES = 1 << 30  # per instance

DEFLATED = "1.2.840.10008.1.2.1.99"
GE_PRIVATE = "1.2.840.113619.5.2"  # implicit VR little endian, pixels big endian

Family = Literal["native", "rle", "deflate", "jpeg", "jpegls", "j2k", "htj2k", "jpegxl"]


@dataclass(frozen=True, slots=True)
class Codec:
    """How pixel data of one transfer syntax is stored."""

    family: Family
    lossless: bool = True  # then bits above Bits Stored are overlays or padding: masked away
    big_endian: bool = False

    @property
    def encapsulated(self) -> bool:
        """Whether frames are fragments of items rather than one run of samples."""
        return self.family != "native"


# PS3.6 table A-1; PS3.5 annex A
CODECS: dict[str, Codec] = {
    "1.2.840.10008.1.2": Codec("native"),
    "1.2.840.10008.1.2.1": Codec("native"),
    DEFLATED: Codec("native"),  # inflated by files.parse
    "1.2.840.10008.1.2.2": Codec("native", big_endian=True),
    GE_PRIVATE: Codec("native", big_endian=True),
    "1.2.840.10008.1.2.5": Codec("rle"),
    "1.2.840.10008.1.2.8.1": Codec("deflate"),  # deflated image frame
    "1.2.840.10008.1.2.4.50": Codec("jpeg", lossless=False),  # baseline, process 1
    "1.2.840.10008.1.2.4.51": Codec("jpeg", lossless=False),  # extended, processes 2 and 4
    "1.2.840.10008.1.2.4.53": Codec("jpeg", lossless=False),  # spectral selection, retired
    "1.2.840.10008.1.2.4.55": Codec("jpeg", lossless=False),  # full progression, retired
    "1.2.840.10008.1.2.4.57": Codec("jpeg"),  # lossless, process 14
    "1.2.840.10008.1.2.4.70": Codec("jpeg"),  # lossless, process 14 SV1
    "1.2.840.10008.1.2.4.80": Codec("jpegls"),
    "1.2.840.10008.1.2.4.81": Codec("jpegls", lossless=False),
    "1.2.840.10008.1.2.4.90": Codec("j2k"),
    "1.2.840.10008.1.2.4.91": Codec("j2k", lossless=False),
    "1.2.840.10008.1.2.4.201": Codec("htj2k"),
    "1.2.840.10008.1.2.4.202": Codec("htj2k"),
    "1.2.840.10008.1.2.4.203": Codec("htj2k", lossless=False),
    "1.2.840.10008.1.2.4.110": Codec("jpegxl"),
    "1.2.840.10008.1.2.4.111": Codec("jpegxl", lossless=False),
    "1.2.840.10008.1.2.4.112": Codec("jpegxl", lossless=False),
}


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """What the header says of every frame (PS3.3 C.7.6.3); JSON-able."""

    transfer_syntax_uid: str
    photometric_interpretation: str
    rows: int
    columns: int
    samples_per_pixel: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    pixel_representation: int
    planar_configuration: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """(H,W) or (H,W,S)."""
        plane = (self.rows, self.columns)
        return plane if self.samples_per_pixel == 1 else (*plane, self.samples_per_pixel)

    @property
    def frame_bits(self) -> int:
        """Bits of one native frame; native 4:2:2 shares each Cb and Cr between two pixels."""
        samples = self.samples_per_pixel
        if samples == 3 and self.photometric_interpretation == "YBR_FULL_422":
            samples = 2
        return self.rows * self.columns * samples * self.bits_allocated

    @property
    def decoded_bytes(self) -> int:
        """Bytes of one decoded frame."""
        size = max(self.bits_allocated // 8, 1)
        return self.rows * self.columns * self.samples_per_pixel * size


DecodeFrame = Callable[[bytes, FrameFormat], Array]


@dataclass(frozen=True, slots=True)
class Codestream:
    """What a codestream's own header says."""

    rows: int
    columns: int
    components: int
    precision: int = 0  # 0: not said
    colour_transform: bool | None = None  # the decoder leaves RGB; None: not said


def codec_of(transfer_syntax_uid: str) -> Codec:
    """Look the table up. Raises RejectError(UNSUPPORTED_TRANSFER_SYNTAX)."""
    codec = CODECS.get(transfer_syntax_uid)
    if codec is None:
        public = transfer_syntax_uid.startswith("1.2.840.10008.")
        detail = transfer_syntax_uid[:64] if public else "a private or absent transfer syntax"
        raise RejectError(Code.UNSUPPORTED_TRANSFER_SYNTAX, detail)
    return codec


# ---------------------------------------------------------------- codestream headers


def codestream_of(frame: bytes, family: Family) -> Codestream | None:
    """Read size, depth and colour transform from a codestream's header; None where it has none.

    Raises RejectError(DECODE_FAILED) where the header cannot be read.
    """
    try:
        if family in ("jpeg", "jpegls"):
            return _jpeg_header(frame)
        if family in ("j2k", "htj2k"):
            return _j2k_header(frame)
        if family == "jpegxl":
            return _jpegxl_header(frame)
    except (struct.error, IndexError):
        raise RejectError(Code.DECODE_FAILED, "the codestream ends inside its header") from None
    return None


def _jpeg_header(frame: bytes) -> Codestream:
    """Markers up to the frame header (ISO 10918-1 B.2, ISO 14495-1 C.2)."""
    if frame[:2] != b"\xff\xd8":
        raise RejectError(Code.DECODE_FAILED, "the codestream has no SOI marker")
    at, transform, jfif = 2, None, False
    while True:
        while frame[at] != 0xFF or frame[at + 1] in (0xFF, 0x00):
            at += 1
        marker, length = frame[at + 1], struct.unpack_from(">H", frame, at + 2)[0]
        body = frame[at + 4 : at + 2 + length]
        if marker == 0xE0 and body.startswith(b"JFIF"):
            jfif = True
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            transform = body[11] != 0
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            precision, rows, columns, components = struct.unpack_from(">BHHB", body)
            if transform is None and body[6::3] == b"RGB":
                transform = False  # component identifiers name the colours
            if transform is None and jfif:
                transform = True  # JFIF is YCbCr by definition
            return Codestream(rows, columns, components, precision, transform)
        elif marker == 0xDA:
            raise RejectError(Code.DECODE_FAILED, "the codestream has no frame header")
        at += 2 + length


def _j2k_header(frame: bytes) -> Codestream:
    """SIZ and COD (ISO 15444-1 A.5.1, A.6.1); a JP2 wrapper is stepped over."""
    at = 0 if frame[:4] == b"\xff\x4f\xff\x51" else frame.find(b"\xff\x4f\xff\x51")
    if at < 0:
        raise RejectError(Code.DECODE_FAILED, "the codestream has no SIZ marker")
    x1, y1, x0, y0 = struct.unpack_from(">4L", frame, at + 8)
    components = struct.unpack_from(">H", frame, at + 40)[0]
    precision = (frame[at + 42] & 0x7F) + 1
    transform = None
    at += 2
    while frame[at] == 0xFF and frame[at + 1] not in (0x90, 0xD9):
        if frame[at + 1] == 0x52:
            transform = frame[at + 8] == 1
            break
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    return Codestream(y1 - y0, x1 - x0, components, precision, transform)


def _jpegxl_header(frame: bytes) -> Codestream:
    """Size header (ISO 18181-1 D.2), bits least significant first."""
    at = frame.find(b"\xff\x0a", 0, 1 << 16)
    if at < 0:
        raise RejectError(Code.DECODE_FAILED, "the codestream has no JPEG XL signature")
    bits, used = int.from_bytes(frame[at + 2 : at + 14], "little"), 0

    def take(count: int) -> int:
        nonlocal used
        used += count
        return bits >> (used - count) & ((1 << count) - 1)

    small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    rows, ratio = side(), take(3)
    if ratio == 0:
        return Codestream(rows, side(), 0)
    above, below = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return Codestream(rows, rows * above // below, 0)


def check_codestream(frame: bytes, fmt: FrameFormat) -> Codestream | None:
    """Compare the codestream's header with the dataset's before any memory is given to a codec.

    Raises RejectError(SIZE_MISMATCH or DECODE_FAILED).
    """
    stream = codestream_of(frame, codec_of(fmt.transfer_syntax_uid).family)
    if stream is None:
        return None
    said = (stream.rows, stream.columns, stream.components or fmt.samples_per_pixel)
    if said != (fmt.rows, fmt.columns, fmt.samples_per_pixel):
        detail = f"codestream {said}, header {(fmt.rows, fmt.columns, fmt.samples_per_pixel)}"
        raise RejectError(Code.SIZE_MISMATCH, detail)
    if stream.precision > fmt.bits_allocated:
        detail = f"codestream {stream.precision} bits, Bits Allocated {fmt.bits_allocated}"
        raise RejectError(Code.SIZE_MISMATCH, detail)
    return stream


def colour_left(frame: bytes, fmt: FrameFormat) -> Literal["RGB", "YBR_FULL"]:
    """Name the colour space that `decode_frame` leaves a colour frame in (PS3.5 8.2)."""
    codec, declared = codec_of(fmt.transfer_syntax_uid), fmt.photometric_interpretation
    if codec.family == "jpeg" and not codec.lossless:
        return "RGB"  # asked of the codec in _decode_jpeg
    stream = codestream_of(frame, codec.family)
    if codec.family in ("j2k", "htj2k") and stream is not None and stream.colour_transform:
        return "RGB"  # the codec undoes RCT and ICT (ISO 15444-1 annex G)
    if codec.family == "jpegxl":
        return "RGB"
    return "YBR_FULL" if declared.startswith("YBR_FULL") else "RGB"


# ---------------------------------------------------------------- decoding


def decode_frame(frame: bytes, fmt: FrameFormat) -> Array:
    """Decode one frame to stored values: (H,W) or (H,W,S), masked and sign-extended.

    The dtype is uint8, uint16, uint32 (or 64), or the signed one by Pixel Representation.
    Colour stays in the space that `colour_left` names. Raises RejectError: DECODE_FAILED,
    SIZE_MISMATCH, TOO_LARGE, UNSUPPORTED_TRANSFER_SYNTAX, UNSUPPORTED_DEPTH, TRUNCATED.
    """
    codec = codec_of(fmt.transfer_syntax_uid)
    if fmt.decoded_bytes > MAX_DECODED_BYTES:
        raise RejectError(Code.TOO_LARGE, f"one frame would take {fmt.decoded_bytes} bytes")
    if fmt.bits_allocated not in (1, 8, 16, 32, 64):
        raise RejectError(Code.UNSUPPORTED_DEPTH, f"{fmt.bits_allocated} bits allocated")
    stream = check_codestream(frame, fmt)
    try:
        array = _DECODERS[codec.family](frame, fmt, stream)
    except (RejectError, KeyboardInterrupt, SystemExit):
        raise
    except MemoryError:
        raise RejectError(Code.TOO_LARGE, "the codec ran out of memory") from None
    except BaseException as fault:  # codecs raise what they like
        detail = f"{codec.family}: {type(fault).__name__}"
        raise RejectError(Code.DECODE_FAILED, detail) from None
    array = _checked_shape(array, fmt)
    return _stored_values(array, fmt, codec, stream)


def _checked_shape(array: Array, fmt: FrameFormat) -> Array:
    """Return the decoded array as (H,W) or (H,W,S), or refuse it."""
    if array.ndim == 3 and array.shape != fmt.shape and array.shape[0] == fmt.samples_per_pixel:
        array = np.moveaxis(array, 0, -1)  # decoded plane by plane
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.shape != fmt.shape:
        raise RejectError(Code.SIZE_MISMATCH, f"decoded {array.shape}, header {fmt.shape}")
    if array.dtype.kind not in "ui" or array.dtype.itemsize * 8 > max(fmt.bits_allocated, 8):
        detail = f"decoded {array.dtype}, {fmt.bits_allocated} bits allocated"
        raise RejectError(Code.UNSUPPORTED_DEPTH, detail)
    return array


def _stored_values(
    array: Array, fmt: FrameFormat, codec: Codec, stream: Codestream | None
) -> Array:
    """Keep the stored bits only, sign-extended where signed (PS3.5 8.1.1).

    Overlays may sit above the high bit. A lossy codec may overshoot Bits Stored, which must not
    wrap. A codestream's own idea of the sign gives way to Pixel Representation.
    """
    width = max(fmt.bits_allocated, 8)
    kind = "i" if fmt.pixel_representation else "u"
    precision = stream.precision if stream is not None and stream.precision else width
    bits = min(precision, fmt.bits_stored) if codec.lossless or stream is None else precision
    bits = fmt.bits_allocated if fmt.bits_allocated == 1 else bits
    array = array.astype(f"u{width // 8}", copy=False)
    shift = fmt.high_bit + 1 - fmt.bits_stored if stream is None else 0
    if shift > 0:
        array = array >> shift
    if bits < width and kind == "u":
        array = array & array.dtype.type((1 << bits) - 1)
    array = array.view(f"{kind}{width // 8}")
    if bits < width and kind == "i" and fmt.bits_allocated > 1:
        array = (array << (width - bits)) >> (width - bits)
    return np.ascontiguousarray(array)


def _decode_native(frame: bytes, fmt: FrameFormat, stream: Codestream | None) -> Array:
    """One run of samples, little or big endian, by pixel or by plane (PS3.5 8.1, PS3.3 C.7.6.3)."""
    if len(frame) * 8 < fmt.frame_bits:
        raise RejectError(Code.TRUNCATED, f"frame: {len(frame)} bytes, {fmt.frame_bits} bits due")
    if fmt.bits_allocated == 1:
        packed = np.frombuffer(frame, np.uint8)
        bits = np.unpackbits(packed, bitorder="little", count=fmt.frame_bits)
        return bits.reshape(fmt.shape)
    order = ">" if CODECS[fmt.transfer_syntax_uid].big_endian else "<"
    size = fmt.bits_allocated // 8
    array = np.frombuffer(frame, f"{order}u{size}", fmt.frame_bits // fmt.bits_allocated)
    array = array.astype(f"=u{size}")
    if fmt.samples_per_pixel == 1:
        return array.reshape(fmt.shape)
    if fmt.photometric_interpretation == "YBR_FULL_422":  # Y1 Y2 Cb Cr, PS3.3 C.7.6.3.1.2
        pairs = array.reshape(-1, 4)
        luma, chroma = pairs[:, :2].reshape(-1, 1), np.repeat(pairs[:, 2:], 2, axis=0)
        return np.concatenate([luma, chroma], axis=1).reshape(fmt.shape)
    if fmt.planar_configuration == 1:
        planes = array.reshape(fmt.samples_per_pixel, fmt.rows, fmt.columns)
        return np.moveaxis(planes, 0, -1)
    return array.reshape(fmt.shape)


def _decode_rle(frame: bytes, fmt: FrameFormat, stream: Codestream | None) -> Array:
    """PackBits byte planes, most significant first, sample by sample (PS3.5 annex G)."""
    size = fmt.bits_allocated // 8
    planes = size * fmt.samples_per_pixel
    if size < 1 or len(frame) < 64 or struct.unpack_from("<L", frame)[0] != planes:
        raise RejectError(Code.DECODE_FAILED, f"rle: {planes} segments expected")
    edges = [*struct.unpack_from(f"<{planes}L", frame, 4), len(frame)]
    if edges[0] < 64 or edges != sorted(edges):
        raise RejectError(Code.DECODE_FAILED, "rle: segment offsets out of order")
    need = fmt.rows * fmt.columns
    out = np.empty((fmt.samples_per_pixel, size, need), np.uint8)
    for plane in range(planes):
        segment = frame[edges[plane] : edges[plane + 1]]
        if len(segment) * 64 < need:  # PackBits at its best
            raise RejectError(Code.DECODE_FAILED, "rle: a segment is too short")
        values = imagecodecs.packbits_decode(segment)
        if len(values) < need:
            raise RejectError(Code.DECODE_FAILED, "rle: a segment is too short")
        out[plane // size, size - 1 - plane % size] = np.frombuffer(values, np.uint8, need)
    samples = np.ascontiguousarray(np.moveaxis(out, 1, -1)).view(f"<u{size}")[..., 0]
    return np.moveaxis(samples, 0, -1).reshape(fmt.shape)


def _decode_deflate(frame: bytes, fmt: FrameFormat, stream: Codestream | None) -> Array:
    need = (fmt.frame_bits + 7) // 8
    return _decode_native(zlib.decompressobj(-15).decompress(frame, need), fmt, stream)


def _decode_jpeg(frame: bytes, fmt: FrameFormat, stream: Codestream | None) -> Array:
    """DCT colour comes out as RGB whatever it was; lossless colour comes out untouched."""
    if fmt.samples_per_pixel != 3:
        return imagecodecs.jpeg8_decode(frame)
    transform = stream.colour_transform if stream is not None else None
    if transform is None:
        transform = fmt.photometric_interpretation.startswith("YBR")
    lossless = codec_of(fmt.transfer_syntax_uid).lossless
    colour = "YCBCR" if transform and not lossless else "RGB"
    return imagecodecs.jpeg8_decode(frame, colorspace=colour, outcolorspace="RGB")


_DECODERS: dict[Family, Callable[[bytes, FrameFormat, Codestream | None], Array]] = {
    "native": _decode_native,
    "rle": _decode_rle,
    "deflate": _decode_deflate,
    "jpeg": _decode_jpeg,
    "jpegls": lambda frame, fmt, stream: imagecodecs.jpegls_decode(frame),
    "j2k": lambda frame, fmt, stream: imagecodecs.jpeg2k_decode(frame),
    "htj2k": lambda frame, fmt, stream: imagecodecs.htj2k_decode(frame),
    "jpegxl": lambda frame, fmt, stream: imagecodecs.jpegxl_decode(frame),
}
