"""Slices → one volume as NIfTI-1: their order, their affine, and what is honest to say of both.

Shapes: H rows, W columns, S slices. Coordinates are mm: DICOM's are LPS (PS3.3 C.7.6.2.1.1),
NIfTI's are RAS.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import numpy as np
import numpy.typing as npt

from medray.serve.problems import ProblemError

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
Range = tuple[float, float]

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

    @property
    def sound(self) -> bool:
        """Whether its directions span a plane: of length one, at right angles."""
        square = abs(float(self.across @ self.down)) < _ALIKE
        return square and all(
            abs(float(np.linalg.norm(one)) - 1) < _ALIKE for one in (self.across, self.down)
        )


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


def require_alike(slices: Sequence[Slice]) -> None:
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


def in_order(slices: Sequence[Slice]) -> tuple[list[Slice], bool]:
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


def step_of(ordered: Sequence[Slice]) -> tuple[float | None, bool]:
    """Median distance between slices in mm, None for one slice, and whether all are like it."""
    gaps = np.diff([_depth(one) for one in ordered])
    apart = gaps[gaps > 0]
    if not len(apart):
        return None, len(gaps) == 0
    step = float(np.median(apart))
    return step, bool((np.abs(gaps - step) <= _EVEN * step + 1e-6).all())


def voxels(ordered: Sequence[Slice]) -> Array:
    """(W,H,S) as NIfTI has it, first axis fastest."""
    dtype = np.result_type(*(one.values.dtype for one in ordered))
    stack_SHW = np.stack([one.values.astype(dtype, copy=False) for one in ordered])
    if stack_SHW.ndim == 4:
        stack_SHW = np.ascontiguousarray(stack_SHW).view(_RGB24)[..., 0]
    return stack_SHW.T


def affine_of(ordered: Sequence[Slice], placed: bool, step: float | None) -> Vector:
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


def range_of(ordered: Sequence[Slice]) -> list[float]:
    """What is shown from black to white where no window is given."""
    if ordered[0].values.ndim == 3:
        return [0.0, 255.0]
    ends = [one.full or (float(one.values.min()), float(one.values.max())) for one in ordered]
    return [min(low for low, _ in ends), max(high for _, high in ends)]


def nifti(volume: Array, affine: Vector, facts: dict[str, Any], placed: bool) -> bytes:
    """Give the bytes of a file; `facts` are its comment."""
    from nibabel.nifti1 import Nifti1Extension, Nifti1Image  # heavy, and of the extra `serve`

    image: Any = Nifti1Image(volume, affine)
    code = "scanner" if placed else "aligned"
    image.set_sform(affine, code=code)
    image.set_qform(affine, code="unknown", strip_shears=True)
    image.header.set_xyzt_units("mm")
    image.header.extensions.append(Nifti1Extension(_COMMENT, json.dumps(facts).encode()))
    return bytes(image.to_bytes())
