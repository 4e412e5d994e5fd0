"""Which module was the first to answer with NaN or infinity: asked only when training stops."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn

from medray.workload import Batch, Modules, Objective


def first_bad(modules: Modules, objective: Objective, batch: Batch, rng: Generator) -> str:
    """Name of the first place that is not finite: input, weights, a module's output, gradient."""
    for name, values in batch.items():
        # missing labels are NaN by design; an infinity never is
        bad = torch.isinf(values) if name == "labels" else ~torch.isfinite(values)
        if bool(bad.any()):
            return f"the batch's {name}"
    for name, module in modules.items():
        for path, parameter in module.named_parameters(prefix=name):
            if not bool(torch.isfinite(parameter).all()):
                return f"the weights {path}"
    found: list[str] = []
    handles = [
        layer.register_forward_hook(_watch(path, found))
        for name, module in modules.items()
        for path, layer in module.named_modules(prefix=name)
        if not any(layer.children())
    ]
    try:
        loss = objective.loss(modules, batch, rng)
        if not found and bool(torch.isfinite(loss)):
            loss.backward()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else _first_bad_gradient(modules)


def _watch(path: str, found: list[str]) -> Callable[[nn.Module, Any, Any], None]:
    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not bool(torch.isfinite(output).all()):
            found.append(f"the output of {path} ({type(module).__name__})")

    return look


def _first_bad_gradient(modules: Modules) -> str:
    for name, module in modules.items():
        for path, parameter in module.named_parameters(prefix=name):
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
                return f"the gradient of {path}"
    return "the loss"
