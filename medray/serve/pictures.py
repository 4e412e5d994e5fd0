"""Files of a scan → one volume for display, and what it is.

Pixels are decoded as models get them, but for what is only for a model: window, size, change of
channels. What a file is called, or says of a person, goes nowhere. Order and place of slices:
`volumes`.

Shapes: H rows, W columns.
"""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from medray import items
from medray.dicom import files, pixels
from medray.dicom.codecs import DecodeFrame
from medray.dicom.instance import (
    attribute,
    frame_count_of,
    frame_format_of,
    instance_of,
    macro_of,
    numbers_of,
)
from medray.dicom.luts import Window, grey_meanings
from medray.dicom.raster import decode_raster
from medray.errors import Code, RejectError
from medray.serve.asked import Part
from medray.serve.problems import ProblemError
from medray.serve.volumes import (
    Place,
    Range,
    Slice,
    affine_of,
    in_order,
    nifti,
    range_of,
    require_alike,
    step_of,
    voxels,
)
from medray.spec.pixels import PixelSpec

Array = npt.NDArray[Any]

MAX_VOLUME_BYTES = 1 << 30  # more than this a browser would not hold
_AS_STORED = PixelSpec(window="none", channels=None)


@dataclass(frozen=True, slots=True)
class Displayed:
    """A gzipped NIfTI-1 file, and what is said of it.

    facts  frames      how many slices.
           window      [centre, width], or null.
           range       least and greatest value; of up to 8 stored bits all that they hold.
           spacing_mm  between rows, columns, slices; null where unknown, and then 1 in the file.
           placed      the affine is the patient's; else pictures are only stacked.
           even        slices are equally far apart.
           invert      low values are meant to be white.
           seen        where a picture lies in what the model reads, see `seen_of`.
           refused     parts that are no picture, and why.
           colour, modality
    The file's comment is the same JSON, with `slices`: [part, frame] of each.
    """

    body: bytes
    facts: dict[str, Any]


def display(
    parts: Sequence[Part], decode_codec: DecodeFrame, spec: PixelSpec | None = None
) -> Displayed:
    """Make a volume of the pictures of some files, sorted along the normal.

    spec  how the model that is asked about it reads pictures; tells `seen`.
    Raises ProblemError: no picture among them, pictures of different shapes, too many pixels.
    """
    found, refused = _slices(parts, decode_codec)
    if not found:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "no-picture",
            f"none of {len(parts)} files can be shown",
            [{"pointer": f"/{one['part']}", "detail": one["reason"]} for one in refused],
        )
    require_alike(found)
    ordered, placed = in_order(found)
    step, even = step_of(ordered) if placed else (None, True)
    first = ordered[0]
    facts: dict[str, Any] = {
        "frames": len(ordered),
        "window": first.window,
        "range": range_of(ordered),
        "spacing_mm": [*(first.spacing_mm or (None, None)), step],
        "placed": placed,
        "even": even,
        "invert": first.inverted,
        "colour": first.values.ndim == 3,
        "modality": first.modality,
        "seen": seen_of(first.values.shape[:2], spec),
        "refused": refused,
    }
    whole = facts | {"slices": [[one.part, one.frame] for one in ordered]}
    body = nifti(voxels(ordered), affine_of(ordered, placed, step), whole, placed)
    return Displayed(gzip.compress(body, compresslevel=1, mtime=0), facts)


def seen_of(shape: tuple[int, ...], spec: PixelSpec | None) -> dict[str, Any] | None:
    """Where a picture (H,W) lies in what a model reads, as `dicom.resize` puts it there.

    size  rows, columns that the model reads. box: top, left, rows, columns of the picture in it.
    None without a model.
    """
    if spec is None:
        return None
    height, width = shape[0], shape[1]
    size = spec.size or (height, width)
    if spec.fit != "pad" or spec.size is None:
        return {"size": [*size], "box": [0, 0, *size]}
    ratio = min(size[0] / height, size[1] / width)
    rows = min(size[0], max(1, round(height * ratio)))
    columns = min(size[1], max(1, round(width * ratio)))
    return {
        "size": [*size],
        "box": [(size[0] - rows) // 2, (size[1] - columns) // 2, rows, columns],
    }


# ---------------------------------------------------------------- files → slices


def _slices(
    parts: Sequence[Part], decode_codec: DecodeFrame
) -> tuple[list[Slice], list[dict[str, Any]]]:
    found: list[Slice] = []
    refused: list[dict[str, Any]] = []
    total = 0
    for number, part in enumerate(parts):
        try:
            slices = _of_file(number, part, decode_codec)
        except RejectError as fault:
            refused.append({"part": number, "reason": str(fault.code)})
            continue
        total += sum(one.values.nbytes for one in slices)
        if total > MAX_VOLUME_BYTES:
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too-many-pixels",
                f"the pictures take more than {MAX_VOLUME_BYTES >> 20} MiB; show fewer at once",
            )
        found += slices
    return found, refused


def _of_file(number: int, part: Part, decode_codec: DecodeFrame) -> list[Slice]:
    """Every picture of a file. Raises RejectError."""
    header = items.header_row(part.data)
    if header["reason"] is not None:
        raise RejectError(Code(header["reason"]))
    if header["kind"] != "dicom":
        (picture,) = decode_raster(part.data, _AS_STORED)
        values = _as_shown([picture.pixels])[0]
        full = None if _is_deep(part.data, header["kind"]) else (0.0, 255.0)
        return [Slice(number, 0, values, None, None, None, full, False, None)]
    dataset = files.parse(part.data)
    pictures = pixels.decode(dataset, _AS_STORED, decode_codec=decode_codec)
    shown = _as_shown([picture.pixels for picture in pictures])
    windows = _windows(dataset, len(pictures))
    modality = attribute(dataset, "Modality")
    return [
        Slice(
            part=number,
            frame=picture.frame,
            values=values,
            spacing_mm=picture.spacing_mm,
            place=_place(dataset, picture.frame),
            window=window,
            full=full,
            inverted=picture.photometric_interpretation == "MONOCHROME1",
            modality=None if modality is None else str(modality),
        )
        for picture, values, (window, full) in zip(pictures, shown, windows, strict=True)
    ]


def _is_deep(data: bytes, kind: str) -> bool:
    """Whether a PNG or JPEG has more than 8 bits: only a PNG can (ISO 15948 11.2.2)."""
    return kind == "png" and data[24] > 8


def _as_shown(arrays: list[Array]) -> list[Array]:
    """Colour as it is; grey in int16 where all of it fits, else float32."""
    if arrays[0].ndim == 3:
        return arrays
    info = np.iinfo(np.int16)
    fits = all(
        array.dtype.kind != "f" and info.min <= array.min() and array.max() <= info.max
        for array in arrays
    )
    return [array.astype(np.int16 if fits else np.float32, copy=False) for array in arrays]


def _windows(dataset: pydicom.Dataset, count: int) -> list[tuple[Range | None, Range | None]]:
    """Each frame's first window as centre and width, and all that its bits can hold.

    None where the file has no window, or a table; None above 8 bits.
    """
    fmt = frame_format_of(instance_of(dataset))
    if not fmt.photometric_interpretation.startswith("MONOCHROME"):
        return [(None, None)] * count
    with files.quiet():
        meanings = grey_meanings(dataset, fmt, count)
    low, high = 0, (1 << fmt.bits_stored) - 1
    if fmt.pixel_representation:
        low, high = low - (1 << fmt.bits_stored - 1), high - (1 << fmt.bits_stored - 1)
    found: list[tuple[Range | None, Range | None]] = []
    for one in meanings:
        window = next((voi for voi in one.voi if isinstance(voi, Window)), None)
        full = sorted(one.modality(np.array([low, high])).tolist())
        found.append(
            (
                None if window is None else (window.center, window.width),
                (full[0], full[1]) if fmt.bits_stored <= 8 and one.modality_lut is None else None,
            )
        )
    return found


def _place(dataset: pydicom.Dataset, frame: int) -> Place | None:
    """Image Plane of a frame (PS3.3 C.7.6.2, C.7.6.16.2.3-4); None where it says none."""
    sources = (
        (macro_of(dataset, frame, "PlanePositionSequence"), "ImagePositionPatient"),
        (macro_of(dataset, frame, "PlaneOrientationSequence"), "ImageOrientationPatient"),
    )
    several = frame_count_of(instance_of(dataset, header_only=True)) > 1
    try:
        position, orientation = (
            numbers_of(source or (pydicom.Dataset() if several else dataset), keyword)
            for source, keyword in sources
        )
    except RejectError:  # no pixel depends on it
        return None
    if len(position) != 3 or len(orientation) != 6 or not np.isfinite(position).all():
        return None
    place = Place(np.array(position), np.array(orientation[:3]), np.array(orientation[3:]))
    return place if place.sound else None
