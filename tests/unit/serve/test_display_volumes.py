"""Files → a volume for display, read back by nibabel; places are reckoned here from the header."""

import gzip
import json
from functools import cache
from io import BytesIO
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medray.dicom.contained import ContainedDecoder
from medray.dicom.resize import resize
from medray.dicom.write import JPEG_LS_LOSSLESS, write_instance
from medray.serve.asked import Part
from medray.serve.pictures import Displayed, display, seen_of
from medray.serve.problems import ProblemError
from medray.spec.pixels import PixelSpec

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
# Turned about two axes, so that every entry of the affine is at work.
OBLIQUE = (0.8, 0.6, 0.0, 0.36, -0.48, -0.8)


def made(number: int, orientation: Any = AXIAL, **more: Any) -> bytes:
    """Slice `number`, 2.5 mm further along the normal each, whose pixels say its number."""
    pixels = np.full((4, 6), 1000 + number, np.uint16)
    pixels[0, 0], pixels[3, 5] = 0, 4095
    settings: dict[str, Any] = {"rescale": (1, -1024), "window": (40, 400), "bits_stored": 12}
    settings |= {"modality": "CT", "pixel_spacing_mm": (0.5, 0.75)}
    data = write_instance(
        more.pop("pixels", pixels),
        sop_instance_uid=f"2.25.5{number}",
        study_instance_uid="2.25.6",
        series_instance_uid="2.25.7",
        patient_id="V1",
        **(settings | more),
    )
    if orientation is None:
        return data
    dataset = pydicom.dcmread(BytesIO(data))
    normal = np.cross(orientation[:3], orientation[3:])
    dataset.ImageOrientationPatient = list(orientation)
    dataset.ImagePositionPatient = [
        round(v, 6) for v in np.array([-10, 20, 5]) + 2.5 * number * normal
    ]
    out = BytesIO()
    dataset.save_as(out)
    return out.getvalue()


@cache
def five(orientation: Any) -> list[bytes]:
    return [made(number, orientation) for number in range(5)]


def shown(*files: bytes, spec: PixelSpec | None = None) -> tuple[Any, Displayed]:
    with ContainedDecoder() as decoder:
        found = display([Part("file", one) for one in files], decoder, spec)
    return nib.Nifti1Image.from_bytes(gzip.decompress(found.body)), found


def told(image: Any) -> dict[str, Any]:
    (extension,) = image.header.extensions
    return json.loads(extension.get_content().rstrip(b"\0"))


@pytest.mark.parametrize("orientation", [AXIAL, OBLIQUE])
@settings(max_examples=20)
@given(order=st.permutations(range(5)))
def test_slices_lie_along_the_normal_whatever_order_they_come_in(
    orientation: Any, order: list[int]
) -> None:
    image, found = shown(*(five(orientation)[number] for number in order))
    values = np.asarray(image.dataobj)
    assert values.shape == (6, 4, 5)
    assert values.dtype == np.int16
    assert values[2, 2].tolist() == [1000 + number - 1024 for number in range(5)]
    assert told(image)["slices"] == [[order.index(number), 0] for number in range(5)]
    assert (found.facts["placed"], found.facts["even"]) == (True, True)
    assert found.facts["spacing_mm"] == [0.5, 0.75, pytest.approx(2.5, abs=1e-4)]
    # PS3.3 C.7.6.2.1.1: a pixel's place; NIfTI turns x and y round.
    column, row, slice_ = 5, 3, 4
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    place = np.array([-10, 20, 5]) + column * 0.75 * across + row * 0.5 * down
    place = place + 2.5 * slice_ * np.cross(across, down)
    assert image.affine @ [column, row, slice_, 1] == pytest.approx(
        [-place[0], -place[1], place[2], 1], abs=1e-3
    )


def test_a_gap_in_a_series_is_told() -> None:
    _, found = shown(made(0), made(1), made(2), made(5))
    assert found.facts["even"] is False
    assert found.facts["spacing_mm"][2] == pytest.approx(2.5)


@pytest.mark.parametrize(
    "files",
    [
        (made(0, None, modality="DX"), made(1, None, modality="DX")),
        (made(0), made(1, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0))),
        (made(0, (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)),),
    ],
    ids=["no position", "two directions", "no plane"],
)
def test_pictures_without_one_place_are_stacked_as_they_came(files: tuple[bytes, ...]) -> None:
    image, found = shown(*files)
    assert found.facts["placed"] is False
    assert found.facts["spacing_mm"][2] is None
    assert np.diag(image.affine).tolist() == [-0.75, -0.5, 1, 1]
    assert told(image)["slices"] == [[part, 0] for part in range(len(files))]


def test_frames_of_one_file_take_their_own_places() -> None:
    dataset = pydicom.dcmread(BytesIO(made(0)))
    dataset.NumberOfFrames = 3
    frames = [np.full((4, 6), value, np.uint16) for value in (10, 20, 30)]
    dataset.PixelData = b"".join(frame.tobytes() for frame in frames)
    dataset.PerFrameFunctionalGroupsSequence = [pydicom.Dataset() for _ in frames]
    for group, height in zip(
        dataset.PerFrameFunctionalGroupsSequence, (4.0, 0.0, 2.0), strict=True
    ):
        group.PlanePositionSequence = [pydicom.Dataset()]
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, height]
        group.PlaneOrientationSequence = [pydicom.Dataset()]
        group.PlaneOrientationSequence[0].ImageOrientationPatient = [*AXIAL]
    out = BytesIO()
    dataset.save_as(out)
    image, found = shown(out.getvalue())
    assert told(image)["slices"] == [[0, 1], [0, 2], [0, 0]]
    assert np.asarray(image.dataobj)[0, 0].tolist() == [20 - 1024, 30 - 1024, 10 - 1024]
    assert found.facts["spacing_mm"][2] == 2.0


def test_values_are_those_after_the_modality_transform() -> None:
    image, found = shown(made(0, rescale=(0.5, 3.25)))
    assert np.asarray(image.dataobj)[2, 2, 0] == np.float32(1000 * 0.5 + 3.25)
    assert found.facts["range"] == [3.25, 4095 * 0.5 + 3.25]
    deep, _ = shown(made(0, rescale=(20, 0)))  # past int16
    assert np.asarray(deep.dataobj).max() == 81900


def test_monochrome1_is_told_and_compressed_frames_are_decoded() -> None:
    image, found = shown(
        made(0, photometric_interpretation="MONOCHROME1", transfer_syntax_uid=JPEG_LS_LOSSLESS)
    )
    assert found.facts["invert"] is True
    assert np.asarray(image.dataobj)[2, 2, 0] == 1000 - 1024


def test_colour_stays_colour_and_eight_bits_keep_their_range() -> None:
    rgb = np.zeros((3, 5, 3), np.uint8)
    rgb[1, 2] = (10, 20, 30)
    image, found = shown(png(rgb))
    assert np.asarray(image.dataobj)[2, 1, 0].tolist() == (10, 20, 30)
    assert found.facts["colour"] is True
    _, grey = shown(png(np.full((3, 5), 90, np.uint8)))
    assert grey.facts["range"] == [0, 255]


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def test_what_makes_no_one_volume_is_refused_in_words() -> None:
    other = made(1, pixels=np.zeros((4, 7), np.uint16))
    with pytest.raises(ProblemError, match="4 × 6, 4 × 7") as mixed:
        shown(made(0), other)
    assert mixed.value.kind == "mixed-shapes"
    with pytest.raises(ProblemError, match="none of 2 files") as none:
        shown(b"", b"read me" * 99)
    assert [one["detail"] for one in none.value.errors] == ["empty_file", "not_dicom"]


def test_a_bad_file_in_a_series_costs_itself_only() -> None:
    image, found = shown(made(0)[:700], made(1))
    assert found.facts["refused"] == [{"part": 0, "reason": "truncated"}]
    assert told(image)["slices"] == [[1, 0]]


def test_nothing_that_names_a_person_goes_out() -> None:
    _, found = shown(made(0, patient={"PatientName": "DOE^JANE", "AccessionNumber": "ACC77"}))
    plain = gzip.decompress(found.body)
    assert not any(name in plain for name in (b"DOE", b"ACC77", b"V1", b"2.25.5"))


@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    fit=st.sampled_from(["pad", "stretch"]),
)
def test_where_a_picture_lies_in_what_the_model_reads(
    shape: tuple[int, int], size: tuple[int, int], fit: Any
) -> None:
    seen = seen_of(shape, PixelSpec(size=size, fit=fit))
    assert seen is not None
    top, left, rows, columns = seen["box"]
    white = np.full(shape, 255, np.uint8)
    lit = np.argwhere(resize(white, size, pad=fit == "pad")[0])
    assert lit.min(0).tolist() == [top, left]
    assert lit.max(0).tolist() == [top + rows - 1, left + columns - 1]
