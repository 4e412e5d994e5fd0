from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from medray.errors import DataError
from medray.explain.heatmap import as_uint8, colours, encode_png, heatmap_png, overlay


def _lightness(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 L* of sRGB (IEC 61966-2-1)."""
    unit = rgb.astype(float) / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


def test_lightness_rises_steadily():
    lightness = _lightness(colours(np.linspace(0, 1, 101)))
    steps = np.diff(lightness)
    assert (steps > 0).all()
    assert lightness[0] == 0
    assert lightness[-1] > 95
    assert steps.max() < 2.5  # no step stands out


def test_values_outside_and_nan_are_held():
    got = colours(np.array([-1.0, np.nan, 2.0]))
    assert got.tolist() == [[0, 0, 0], [0, 0, 0], [253, 248, 210]]


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3)])
def test_a_cold_map_shows_the_picture_unchanged(shape: tuple[int, ...]):
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    got = overlay(picture, np.zeros((3, 3)))
    assert got.shape == (9, 7, 3)
    assert got.dtype == np.uint8
    expected = np.broadcast_to(picture.reshape(9, 7, -1), (9, 7, 3))
    np.testing.assert_array_equal(got, expected)


def test_a_hot_map_shows_the_colour_at_its_strength():
    got = overlay(np.zeros((4, 4), np.uint8), np.ones((4, 4)), strength=1.0)
    assert (got == [253, 248, 210]).all()


def test_the_map_is_scaled_to_the_picture():
    heat = np.array([[0.0, 1.0]])
    got = overlay(np.zeros((8, 8), np.uint8), heat)
    assert (got[:, 0] == 0).all()
    assert got[:, -1].min() > 100


def test_other_types_are_stretched():
    picture = np.array([[-1000, 0], [500, 1000]], np.int16)
    assert as_uint8(picture).tolist() == [[0, 128], [191, 255]]
    assert as_uint8(np.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]


def test_png_round_trip():
    picture = np.random.default_rng(1).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(encode_png(picture)))), picture)


def test_side_by_side_and_large_enough_to_see():
    data = heatmap_png(np.full((32, 48), 9, np.uint8), np.zeros((4, 4)))
    image = Image.open(BytesIO(data))
    assert image.size == (2 * 48 * 8, 32 * 8)


@pytest.mark.parametrize(
    ("picture", "heat"),
    [((4,), (4, 4)), ((4, 4, 2), (4, 4)), ((4, 4), (4,)), ((4, 4), (1, 4, 4))],
)
def test_other_shapes_are_refused(picture: tuple[int, ...], heat: tuple[int, ...]):
    with pytest.raises(DataError):
        overlay(np.zeros(picture, np.uint8), np.zeros(heat))
