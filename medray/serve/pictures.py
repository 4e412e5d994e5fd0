"""Files of a scan → one volume for display: stored values, where they lie, in what order.

Owns the order of slices, the affine, and what is honest to say of both. Pixels are decoded as
models get them, but for what is only for a model: window, size, change of channels. What a file is
called, or says of a person, goes nowhere.

Shapes: H rows, W columns, S slices. Coordinates are mm: DICOM's are LPS (PS3.3 C.7.6.2.1.1),
NIfTI's are RAS.
"""

import gzip
import json
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
from medray.spec.pixels import PixelSpec

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
Range = tuple[float, float]

MAX_VOLUME_BYTES = 1 << 30  # more than this a browser would not hold
_AS_STORED = PixelSpec(window="none", channels=None)
_RGB24 = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
_COMMENT = 6  # NIfTI-1 extension code of plain text
_EVEN = 0.01  # of a step between slices: what it may be off and still be called even
_ALIKE = 1e-3  # of a direction cosine
# A picture without a place is shown as it is stored: columns to the right, rows downwards.
_UPRIGHT = (np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0]))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a slice lies, LPS: centre of its first pixel, along its columns' index, its rows'."""

    position: Vector
    across: Vector
    down: Vector

    @property
    def normal(self) -> Vector:
        """Along which slices follow each other."""
        return np.cross(self.across, self.down)


@dataclass(frozen=True, slots=True)
class Slice:
    """One picture: (H,W) of a number, or (H,W,3) uint8.

    window  centre and width that the file asks for, in the values' own units. full: what up to 8
            stored bits can hold; None above, where few files use their full depth.
    """

    part: int
    frame: int
    values: Array
    spacing_mm: tuple[float, float] | None
    place: Place | None
    window: Range | None
    full: Range | None
    inverted: bool
    modality: str | None


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
    _require_alike(found)
    ordered, placed = _ordered(found)
    step, even = _step(ordered) if placed else (None, True)
    first = ordered[0]
    facts: dict[str, Any] = {
        "frames": len(ordered),
        "window": first.window,
        "range": _range(ordered),
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
    body = _nifti(_volume(ordered), _affine(ordered, placed, step), whole, placed)
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
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    square = abs(float(across @ down)) < _ALIKE
    unit = all(abs(float(np.linalg.norm(one)) - 1) < _ALIKE for one in (across, down))
    return Place(np.array(position), across, down) if square and unit else None


# ---------------------------------------------------------------- slices → a volume


def _require_alike(slices: Sequence[Slice]) -> None:
    """Refuse pictures that make no one volume. Raises ProblemError."""
    shapes = {one.values.shape for one in slices}
    if len(shapes) > 1:
        said = ", ".join(sorted({f"{s[0]} × {s[1]}{' colour' * (len(s) == 3)}" for s in shapes}))
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "mixed-shapes",
            f"the pictures have different shapes ({said}): show one of them, or one series",
        )
    if len({one.inverted for one in slices}) > 1:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "mixed-photometric",
            "in some pictures low values are black, in others white: show them one by one",
        )


def _ordered(slices: Sequence[Slice]) -> tuple[list[Slice], bool]:
    """Slices along their normal, and whether they have places of one direction and spacing.

    Those without stay in the order of the files and frames.
    """
    first = slices[0].place
    if first is None:
        return [*slices], False
    for one in slices:
        place = one.place
        if place is None or one.spacing_mm is None or one.spacing_mm != slices[0].spacing_mm:
            return [*slices], False
        turned = max(
            np.abs(place.across - first.across).max(), np.abs(place.down - first.down).max()
        )
        if turned > _ALIKE:
            return [*slices], False
    return sorted(slices, key=_depth), True


def _depth(one: Slice) -> float:
    assert one.place is not None  # noqa: S101 - of placed slices only
    return float(one.place.normal @ one.place.position)


def _step(ordered: Sequence[Slice]) -> tuple[float | None, bool]:
    """Median distance between slices in mm, None for one slice, and whether all are like it."""
    gaps = np.diff([_depth(one) for one in ordered])
    apart = gaps[gaps > 0]
    if not len(apart):
        return None, len(gaps) == 0
    step = float(np.median(apart))
    return step, bool((np.abs(gaps - step) <= _EVEN * step + 1e-6).all())


def _volume(ordered: Sequence[Slice]) -> Array:
    """(W,H,S) as NIfTI has it, first axis fastest."""
    dtype = np.result_type(*(one.values.dtype for one in ordered))
    stack_SHW = np.stack([one.values.astype(dtype, copy=False) for one in ordered])
    if stack_SHW.ndim == 4:
        stack_SHW = np.ascontiguousarray(stack_SHW).view(_RGB24)[..., 0]
    return stack_SHW.T


def _affine(ordered: Sequence[Slice], placed: bool, step: float | None) -> Vector:
    """Voxel index (column, row, slice) → RAS, mm."""
    first = ordered[0]
    between_rows, between_columns = first.spacing_mm or (1.0, 1.0)
    if placed and first.place is not None:
        across, down, origin = first.place.across, first.place.down, first.place.position
        along = first.place.normal * (step or 1.0)
        if step is not None and ordered[-1].place is not None:  # gantry tilt shears the stack
            along = (ordered[-1].place.position - origin) / (len(ordered) - 1)
    else:
        (across, down), origin, along = _UPRIGHT, np.zeros(3), np.array([0.0, 0.0, 1.0])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * between_columns, down * between_rows
    affine[:3, 2], affine[:3, 3] = along, origin
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # LPS → RAS


def _range(ordered: Sequence[Slice]) -> list[float]:
    """What is shown from black to white where no window is given."""
    if ordered[0].values.ndim == 3:
        return [0.0, 255.0]
    ends = [one.full or (float(one.values.min()), float(one.values.max())) for one in ordered]
    return [min(low for low, _ in ends), max(high for _, high in ends)]


def _nifti(volume: Array, affine: Vector, facts: dict[str, Any], placed: bool) -> bytes:
    from nibabel.nifti1 import Nifti1Extension, Nifti1Image  # heavy, and of the extra `serve`

    image: Any = Nifti1Image(volume, affine)
    code = "scanner" if placed else "aligned"
    image.set_sform(affine, code=code)
    image.set_qform(affine, code="unknown", strip_shears=True)
    image.header.set_xyzt_units("mm")
    image.header.extensions.append(Nifti1Extension(_COMMENT, json.dumps(facts).encode()))
    return bytes(image.to_bytes())
