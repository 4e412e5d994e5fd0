"""The module that is trained, its losses, and how its logits are read.

Shapes: B items, C channels, H rows, W columns, K outputs, L label columns.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, combinations, product

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from medray.models.augment import AugmentSpec, augment, mix_partners
from medray.models.cnn import NETWORKS, Layout
from medray.workload import Batch, Modules
from medray.workloads.imaging.params import SMALL_PICTURE, ImagingFitted, ImagingParams, Member

_MIRROR_DIMS = {"vertical": -2, "horizontal": -1}


class Classifier(nn.Module):
    """Normalisation and a network, so that weights carry the scale they were trained at."""

    def __init__(self, network: nn.Module, fitted: ImagingFitted) -> None:
        super().__init__()
        # channels last is the faster layout for convolutions, on CPUs and GPUs alike
        self.network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        shape = (1, fitted.channels, 1, 1)
        self.register_buffer("mean", torch.tensor(fitted.mean, dtype=torch.float32).view(shape))
        self.register_buffer("std", torch.tensor(fitted.std, dtype=torch.float32).view(shape))

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Pixels in stored units, of any numeric type → logits_BK."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        x_BCHW = (pixels_BCHW.to(mean.dtype) - mean) / std
        return self.network(x_BCHW.contiguous(memory_format=torch.channels_last))


def build_modules(params: ImagingParams, fitted: ImagingFitted) -> dict[str, nn.Module]:
    """A classifier per member of the ensemble, under its name."""
    return {member.name: _build(member, params, fitted) for member in params.ensemble}


def _build(member: Member, params: ImagingParams, fitted: ImagingFitted) -> Classifier:
    network, stem = NETWORKS[member.network], member.stem
    if stem == "auto":
        small = "small" in network.stems and min(fitted.size) <= SMALL_PICTURE
        stem = "small" if small else "standard"
    layout = Layout(
        fitted.channels, fitted.size, params.outputs, stem, member.width, member.dropout
    )
    return Classifier(network.build(layout), fitted)


def training_loss(
    modules: Modules,
    batch: Batch,
    rng: Generator,
    member: str,
    params: ImagingParams,
    fitted: ImagingFitted,
) -> Tensor:
    """Scalar loss of one member on one augmented batch."""
    pixels_BCHW, labels = batch["pixels"], batch["labels"]
    if params.augment != AugmentSpec():
        reach = fitted.high - fitted.low
        unit_BCHW = (pixels_BCHW.float() - fitted.low) / reach
        pixels_BCHW = augment(unit_BCHW, params.augment, rng) * reach + fitted.low
    if not params.augment.mixup:
        return supervised_loss(modules[member](pixels_BCHW), labels, params, fitted)
    partners, keep = mix_partners(len(labels), params.augment.mixup, rng)
    partners = partners.to(labels.device)
    logits_BK = modules[member](pixels_BCHW * keep + pixels_BCHW[partners] * (1 - keep))
    own = supervised_loss(logits_BK, labels, params, fitted)
    other = supervised_loss(logits_BK, labels[partners], params, fitted)
    return own * keep + other * (1 - keep)


def supervised_loss(
    logits_BK: Tensor, labels: Tensor, params: ImagingParams, fitted: ImagingFitted
) -> Tensor:
    """Mean loss over the labels that are there; 0 when none is.

    labels: (B,) class indices with -1 missing, or (B, L) of 0/1 with NaN missing.
    """
    logits_BK = logits_BK.float()
    if params.task == "multiclass":
        known = labels >= 0
        if not bool(known.any()):
            return logits_BK.sum() * 0
        return functional.cross_entropy(
            logits_BK,
            labels,
            weight=_class_weights(params, fitted, logits_BK.device),
            ignore_index=-1,
            label_smoothing=params.label_smoothing,
        )
    known_BL = ~torch.isnan(labels)
    observed_BL = torch.where(known_BL, labels, 0.0)
    smooth_BL = observed_BL * (1 - params.label_smoothing) + 0.5 * params.label_smoothing
    loss_BL = functional.binary_cross_entropy_with_logits(logits_BK, smooth_BL, reduction="none")
    weight_BL = known_BL.float()
    if params.class_weights == "balanced":
        weight_L2 = torch.tensor(_balanced(fitted.counts), device=logits_BK.device)
        weight_BL = weight_BL * torch.where(observed_BL > 0.5, weight_L2[:, 1], weight_L2[:, 0])
    return (loss_BL * weight_BL).sum() / weight_BL.sum().clamp_min(1e-12)


def _balanced(counts: Sequence[Sequence[int]]) -> list[list[float]]:
    """Per column and class: items / (classes × items of the class)."""
    return [[sum(column) / (len(column) * max(n, 1)) for n in column] for column in counts]


def _class_weights(
    params: ImagingParams, fitted: ImagingFitted, device: torch.device
) -> Tensor | None:
    if params.class_weights == "none":
        return None
    return torch.tensor(_balanced(fitted.counts)[0], device=device)


def predict_logits(modules: Modules, batch: Batch, params: ImagingParams) -> Mapping[str, Tensor]:
    """Column → logits, averaged over members and views: (B,), or (B, K) multi-class."""
    views = _views(batch["pixels"], params)
    total_BK = sum(
        modules[member.name](view_BCHW).float() for member in params.ensemble for view_BCHW in views
    )
    logits_BK = torch.as_tensor(total_BK) / (len(views) * params.members)
    if params.task == "multiclass":
        return {params.columns[0]: logits_BK}
    return {name: logits_BK[:, index] for index, name in enumerate(params.columns)}


def _views(pixels_BCHW: Tensor, params: ImagingParams) -> list[Tensor]:
    """The picture, and towards every corner if asked for, each with its mirror images."""
    places = [pixels_BCHW]
    if params.tta_shift:
        reach = [max(1, round(params.tta_shift * length)) for length in pixels_BCHW.shape[-2:]]
        places += [
            _moved(pixels_BCHW, down * reach[0], right * reach[1])
            for down, right in product((-1, 1), repeat=2)
        ]
    dims = [_MIRROR_DIMS[name] for name in params.tta]
    mirrors = list(chain.from_iterable(combinations(dims, n) for n in range(len(dims) + 1)))
    return [place.flip(mirror) if mirror else place for mirror in mirrors for place in places]


def _moved(pixels_BCHW: Tensor, down: int, right: int) -> Tensor:
    """Pictures moved by whole pixels; edges are repeated, so that no new value comes in."""
    rows_H, columns_W = (
        (torch.arange(length, device=pixels_BCHW.device) - step).clamp(0, length - 1)
        for length, step in zip(pixels_BCHW.shape[-2:], (down, right), strict=True)
    )
    return pixels_BCHW[..., rows_H[:, None], columns_W]
