"""A picture as the last layer of a network reads it. Shapes: B items, D units."""

import torch
from torch import Tensor, nn

from medray.workload import Batch, Modules
from medray.workloads.imaging.params import ImagingParams


def embed(modules: Modules, batch: Batch, params: ImagingParams) -> Tensor:
    """What the last linear layer of every member reads (B, D), one member after the other."""
    return torch.cat([_of_member(modules[one.name], batch) for one in params.ensemble], dim=1)


def _of_member(module: nn.Module, batch: Batch) -> Tensor:
    last = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]
    seen: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    handle = last.register_forward_pre_hook(keep)
    try:
        module(batch["pixels"])
    finally:
        handle.remove()
    return seen[0].float().flatten(1)
