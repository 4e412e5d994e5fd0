import io

import numpy as np
import pytest
from PIL import Image

from medray.dicom.raster import decode_raster
from medray.dicom.resize import fit_picture, luminance, resize
from medray.errors import Code, RejectError
from medray.spec.pixels import PixelSpec

AS_IS = PixelSpec(channels=None)


def test_whole_blocks_become_their_mean():
    pixels = np.random.default_rng(0).integers(0, 4096, (12, 20)).astype(np.int16)
    means = pixels.reshape(3, 4, 5, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(resize(pixels, (3, 5))[0], np.rint(means), atol=1)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("size", [(4, 4), (20, 3), (3, 20), (20, 20)])
def test_constant_stays_constant_and_dtype_too(dtype, size):
    out, _ = resize(np.full((7, 9), 100, dtype), size)
    assert out.dtype == dtype
    assert (out == 100).all()


def test_pad_keeps_the_aspect_ratio():
    out, scale = resize(np.full((10, 20), 200, np.uint8), (10, 10), pad=True)
    assert (out[:2] == 0).all()
    assert (out[3:7] == 200).all()
    assert (out[8:] == 0).all()
    assert scale == (2, 2)


def test_channels():
    rgb = np.zeros((1, 3, 3), np.uint8)
    rgb[0, [0, 1, 2], [0, 1, 2]] = 255
    assert luminance(rgb).tolist() == [[76, 150, 29]]  # .299, .587, .114 of 255
    assert fit_picture(rgb, PixelSpec())[0].shape == (1, 3)
    assert fit_picture(rgb[..., 0], PixelSpec(channels=3))[0].shape == (1, 3, 3)


def saved(array, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_grey_colour_alpha_and_16_bits():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(decode_raster(saved(grey), AS_IS)[0].pixels, grey)
    rgb = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    np.testing.assert_array_equal(decode_raster(saved(rgb), AS_IS)[0].pixels, rgb)
    clear = np.dstack([rgb, np.zeros((3, 4), np.uint8)])
    assert not decode_raster(saved(clear), AS_IS)[0].pixels.any()
    deep = np.array([[0, 1000, 65535]], np.uint16)
    raw = decode_raster(saved(deep), PixelSpec(window="none", channels=None))[0].pixels
    assert raw.dtype == np.uint16
    np.testing.assert_array_equal(raw, deep)
    assert decode_raster(saved(deep), AS_IS)[0].pixels.tolist() == [[0, 4, 255]]


def test_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(np.zeros((8, 16), np.uint8), "JPEG", exif=exif)
    assert decode_raster(data, AS_IS)[0].pixels.shape == (16, 8)


def test_faults():
    png = saved(np.random.default_rng(0).integers(0, 256, (40, 40)).astype(np.uint8))
    bomb = png[:16] + (60000).to_bytes(4, "big") * 2 + png[24:]
    for data, codes in (
        (b"", [Code.EMPTY_FILE]),
        (b"GIF89a" + bytes(100), [Code.NOT_DICOM]),
        (png[:300], [Code.TRUNCATED, Code.DECODE_FAILED]),
        (bomb, [Code.TOO_LARGE, Code.DECODE_FAILED]),
    ):
        with pytest.raises(RejectError) as caught:
            decode_raster(data, AS_IS)
        assert caught.value.code in codes
