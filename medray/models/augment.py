"""Random changes to a batch of pictures during training, drawn from an explicit generator.

Works on the batch's device; the generator's state alone decides what comes out. Pictures are
expected in 0..1 of their training range, so that intensities mean the same for every archive.

Shapes: B items, C channels, H rows, W columns.
"""

import math
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional

from medray.spec.base import Section

_FILL = {"dark": "zeros", "edge": "border", "reflect": "reflection"}


class AugmentSpec(Section):
    """How far training pictures are changed; the default changes nothing.

    shift            largest move, as a share of height and width.
    flip_horizontal, flip_vertical  mirrored with probability one half.
    rotate_degrees, shear_degrees   largest angle either way.
    zoom             scale drawn from 1/(1 + zoom) .. 1 + zoom.
    crop             smallest share of the picture's area that a random crop keeps, resized back.
    fill             what lies outside the picture after a move.
    brightness       largest addition, in units of the training range.
    contrast         factor drawn from 1/(1 + contrast) .. 1 + contrast, around the mean.
    gamma            exponent drawn from 1/(1 + gamma) .. 1 + gamma.
    noise            largest standard deviation of Gaussian noise, in units of the range.
    erase            probability that a rectangle of 2 to 25 % of the area is set to the mean.
    mixup            alpha of the Beta distribution that mixes pairs of items and labels.
    """

    shift: float = Field(default=0.0, ge=0, le=0.5)
    flip_horizontal: bool = False
    flip_vertical: bool = False
    rotate_degrees: float = Field(default=0.0, ge=0, le=180)
    shear_degrees: float = Field(default=0.0, ge=0, le=60)
    zoom: float = Field(default=0.0, ge=0, le=1)
    crop: float = Field(default=1.0, gt=0, le=1)
    fill: Literal["dark", "edge", "reflect"] = "edge"
    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, le=2)
    gamma: float = Field(default=0.0, ge=0, le=2)
    noise: float = Field(default=0.0, ge=0, le=1)
    erase: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0, le=4)


def augment(x_BCHW: Tensor, spec: AugmentSpec, rng: Generator) -> Tensor:
    """Float pictures in 0..1 → changed pictures of the same shape (values may leave 0..1)."""
    if spec.rotate_degrees or spec.shear_degrees or spec.zoom or spec.crop < 1:
        x_BCHW = _move_freely(x_BCHW, spec, rng)
    elif spec.shift or spec.flip_horizontal or spec.flip_vertical:
        x_BCHW = _move_by_pixels(x_BCHW, spec, rng)
    if spec.gamma or spec.contrast or spec.brightness or spec.noise:
        x_BCHW = _change_intensity(x_BCHW, spec, rng)
    if spec.erase:
        x_BCHW = _erase(x_BCHW, spec.erase, rng)
    return x_BCHW


def mix_partners(count: int, alpha: float, rng: Generator) -> tuple[Tensor, float]:
    """Whom each of `count` items is mixed with, and the share it keeps (one per batch).

    Indices lie on the generator's device. Source: Zhang et al. 2018, arXiv:1710.09412.
    """
    # torch draws no Beta from a given generator; numpy's is seeded from it
    seed = int(torch.randint(2**62, (1,), generator=rng, device=rng.device))
    keep = float(np.random.default_rng(seed).beta(alpha, alpha))
    partners = torch.randperm(count, generator=rng, device=rng.device)
    return partners, max(keep, 1 - keep)


def _uniform(count: int, low: float, high: float, like: Tensor, rng: Generator) -> Tensor:
    values = torch.rand(count, generator=rng, device=rng.device, dtype=torch.float32)
    return (values * (high - low) + low).to(like.device)


def _log_uniform(count: int, spread: float, like: Tensor, rng: Generator) -> Tensor:
    """Factors from 1/(1 + spread) to 1 + spread, as often below one as above."""
    edge = math.log1p(spread)
    return torch.exp(_uniform(count, -edge, edge, like, rng))


def _signs(count: int, active: bool, like: Tensor, rng: Generator) -> Tensor:
    if not active:
        return torch.ones(count, device=like.device)
    return torch.where(_uniform(count, 0, 1, like, rng) < 0.5, -1.0, 1.0)


def _move_freely(x_BCHW: Tensor, spec: AugmentSpec, rng: Generator) -> Tensor:
    """Every geometric change in one resampling, so that the picture is blurred once."""
    count, _, rows, columns = x_BCHW.shape
    angle = torch.deg2rad(_uniform(count, -spec.rotate_degrees, spec.rotate_degrees, x_BCHW, rng))
    shear = torch.tan(
        torch.deg2rad(_uniform(count, -spec.shear_degrees, spec.shear_degrees, x_BCHW, rng))
    )
    scale = 1 / _log_uniform(count, spec.zoom, x_BCHW, rng)
    kept = torch.sqrt(_uniform(count, spec.crop, 1.0, x_BCHW, rng))
    flip_x = _signs(count, spec.flip_horizontal, x_BCHW, rng)
    flip_y = _signs(count, spec.flip_vertical, x_BCHW, rng)
    # grid_sample maps outputs to inputs in -1..1; a crop may lie anywhere inside the picture
    slack = 1 - kept
    move_x = _uniform(count, -2 * spec.shift, 2 * spec.shift, x_BCHW, rng)
    move_y = _uniform(count, -2 * spec.shift, 2 * spec.shift, x_BCHW, rng)
    move_x = move_x + slack * _uniform(count, -1, 1, x_BCHW, rng)
    move_y = move_y + slack * _uniform(count, -1, 1, x_BCHW, rng)
    scale = scale * kept
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    aspect = rows / columns
    top = torch.stack([cos * flip_x, (shear * cos - sin) * flip_y * aspect, move_x], dim=1)
    bottom = torch.stack([sin * flip_x / aspect, (shear * sin + cos) * flip_y, move_y], dim=1)
    theta = torch.stack([top, bottom], dim=1).to(x_BCHW.dtype)
    grid = functional.affine_grid(theta, list(x_BCHW.shape), align_corners=False)
    return functional.grid_sample(
        x_BCHW, grid, mode="bilinear", padding_mode=_FILL[spec.fill], align_corners=False
    )


def _move_by_pixels(x_BCHW: Tensor, spec: AugmentSpec, rng: Generator) -> Tensor:
    """Shifts by whole pixels and flips: an index per row and column, no resampling."""
    count, _, rows, columns = x_BCHW.shape
    row_BH, row_inside = _indices(count, rows, spec.shift, spec.flip_vertical, spec, x_BCHW, rng)
    column_BW, column_inside = _indices(
        count, columns, spec.shift, spec.flip_horizontal, spec, x_BCHW, rng
    )
    item_B = torch.arange(count, device=x_BCHW.device)
    moved_BHWC = x_BCHW.permute(0, 2, 3, 1)[
        item_B[:, None, None], row_BH[:, :, None], column_BW[:, None, :]
    ]
    if spec.fill == "dark" and spec.shift:
        inside = row_inside[:, :, None] & column_inside[:, None, :]
        moved_BHWC = moved_BHWC * inside[..., None]
    return moved_BHWC.permute(0, 3, 1, 2).contiguous()


def _indices(
    count: int,
    length: int,
    shift: float,
    flip: bool,
    spec: AugmentSpec,
    like: Tensor,
    rng: Generator,
) -> tuple[Tensor, Tensor]:
    """Per item, which source row (or column) each place takes, and whether it lay inside."""
    reach = math.floor(shift * length)
    step = torch.randint(-reach, reach + 1, (count, 1), generator=rng, device=rng.device)
    place = torch.arange(length, device=like.device)[None, :] + step.to(like.device)
    inside = (place >= 0) & (place < length)
    if spec.fill == "reflect":
        place = torch.where(place < 0, -1 - place, place)
        place = torch.where(place >= length, 2 * length - 1 - place, place)
    place = place.clamp(0, length - 1)
    mirrored = _signs(count, flip, like, rng)[:, None] < 0
    return torch.where(mirrored, length - 1 - place, place), inside


def _change_intensity(x_BCHW: Tensor, spec: AugmentSpec, rng: Generator) -> Tensor:
    count = x_BCHW.shape[0]
    per_item = (count, 1, 1, 1)
    if spec.gamma:
        exponent = _log_uniform(count, spec.gamma, x_BCHW, rng).view(per_item)
        x_BCHW = x_BCHW.clamp(0, 1) ** exponent
    if spec.contrast:
        factor = _log_uniform(count, spec.contrast, x_BCHW, rng).view(per_item)
        mean = x_BCHW.mean(dim=(1, 2, 3), keepdim=True)
        x_BCHW = (x_BCHW - mean) * factor + mean
    if spec.brightness:
        added = _uniform(count, -spec.brightness, spec.brightness, x_BCHW, rng)
        x_BCHW = x_BCHW + added.view(per_item)
    if spec.noise:
        deviation = _uniform(count, 0, spec.noise, x_BCHW, rng).view(per_item)
        noise = torch.randn(x_BCHW.shape, generator=rng, device=rng.device)
        x_BCHW = x_BCHW + deviation * noise.to(x_BCHW.device)
    return x_BCHW


def _erase(x_BCHW: Tensor, probability: float, rng: Generator) -> Tensor:
    """One rectangle per chosen item becomes the item's mean (Zhong et al., arXiv:1708.04896)."""
    count, _, rows, columns = x_BCHW.shape
    area = _uniform(count, 0.02, 0.25, x_BCHW, rng)
    aspect = torch.exp(_uniform(count, -math.log(3), math.log(3), x_BCHW, rng))
    half_height = torch.sqrt(area * aspect).clamp(max=1) / 2
    half_width = torch.sqrt(area / aspect).clamp(max=1) / 2
    center_y = _uniform(count, 0, 1, x_BCHW, rng)
    center_x = _uniform(count, 0, 1, x_BCHW, rng)
    y_H = (torch.arange(rows, device=x_BCHW.device) + 0.5) / rows
    x_W = (torch.arange(columns, device=x_BCHW.device) + 0.5) / columns
    in_rows = (y_H[None, :] - center_y[:, None]).abs() < half_height[:, None]
    in_columns = (x_W[None, :] - center_x[:, None]).abs() < half_width[:, None]
    chosen = _uniform(count, 0, 1, x_BCHW, rng) < probability
    hole = (in_rows[:, :, None] & in_columns[:, None, :] & chosen[:, None, None])[:, None]
    return torch.where(hole, x_BCHW.mean(dim=(1, 2, 3), keepdim=True), x_BCHW)
