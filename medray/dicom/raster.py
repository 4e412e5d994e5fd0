"""PNG and JPEG files → the same pictures that DICOM files give.

Owns: bounds on the picture's size, Pillow's modes, orientation. An EXIF orientation is applied,
so that pixels are as any viewer shows them; transparency is composed on black. A grey PNG of
16 bits is windowed as a DICOM image of 16 bits stored is.
"""

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from medray.dicom.codecs import MAX_DECODED_BYTES
from medray.dicom.files import quiet, sniff
from medray.dicom.luts import GreyMeaning
from medray.dicom.pixels import Picture, as_pictures, render_grey
from medray.errors import Code, RejectError
from medray.spec.pixels import PixelSpec

Array = npt.NDArray[Any]

_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L")
_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


def decode_raster(data: bytes, spec: PixelSpec) -> list[Picture]:
    """Decode a PNG or JPEG file to one Picture (spacing unknown, never inverted).

    Raises RejectError: EMPTY_FILE, NOT_DICOM, TOO_LARGE, TRUNCATED, DECODE_FAILED,
    MISSING_ATTRIBUTE (a window by index: these files have none).
    """
    if not data:
        raise RejectError(Code.EMPTY_FILE, "0 bytes")
    kind = sniff(data[:512])
    if kind not in ("png", "jpeg"):
        raise RejectError(Code.NOT_DICOM, "neither DICOM nor PNG nor JPEG")
    try:
        array = _read(data, kind)
    except (RejectError, KeyboardInterrupt, SystemExit):
        raise
    except (MemoryError, Image.DecompressionBombError):
        raise RejectError(Code.TOO_LARGE, f"a {kind} file past the limit") from None
    except BaseException as fault:  # the library raises what it likes
        cut = "truncated" in str(fault).lower()
        code = Code.TRUNCATED if cut else Code.DECODE_FAILED
        raise RejectError(code, f"{kind}: {type(fault).__name__}") from None
    photometric = "RGB" if array.ndim == 3 else "MONOCHROME2"
    if array.ndim == 2:
        bits = 8 * array.dtype.itemsize
        (array,) = render_grey([array], [GreyMeaning()], spec, bits=bits, inverted=False)
    return as_pictures([array], [None], spec, photometric=photometric, inverted=False)


def _read(data: bytes, kind: str) -> Array:
    """Return (H,W) uint8 or uint16, or (H,W,3) uint8."""
    with quiet():
        image = Image.open(BytesIO(data), formats=[kind])
    size = image.width * image.height * (2 if image.mode in _DEEP_MODES else 4)
    if size > MAX_DECODED_BYTES:
        raise RejectError(Code.TOO_LARGE, f"would take {size} bytes")
    image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP_MODES:
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > 0xFFFF:
            raise RejectError(Code.UNSUPPORTED_DEPTH, "grey of more than 16 bits")
        return deep.astype(np.uint16)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        grey = image.mode in ("LA", "La")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA")).convert("L" if grey else "RGB")
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGB"))
