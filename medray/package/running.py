"""A package's networks: loaded, checked against their self-test, and run."""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from pydantic import BaseModel
from torch import nn

from medray.errors import PackageError
from medray.package.opened import Package
from medray.workload import Batch, Columns, Workload

Task = Workload[Any, Any]
Array = np.ndarray[Any, Any]

SELFTEST_TOLERANCE: Final = 1e-4  # of a logit: libraries and processors round differently
INPUTS, OUTPUTS = "selftest/inputs.safetensors", "selftest/outputs.safetensors"


def load_modules(
    package: Package, workload: Task, device: torch.device | str = "cpu"
) -> tuple[BaseModel, BaseModel, dict[str, nn.Module]]:
    """`(params, fitted, modules)` of a package; modules in evaluation mode on `device`.

    Raises PackageError when the workload is another one, or does not take what the package holds.
    """
    if workload.name != package.workload:
        raise PackageError(
            f"{package.ref} is made for the workload {package.workload!r}, not {workload.name!r}"
        )
    names = ("fitted.json", *(n for n in package.manifest.files if n.startswith("weights/")))
    files = {name: (package.folder / name).read_bytes() for name in names}
    try:
        params = workload.params_model.model_validate(package.spec.params)
        fitted = workload.fitted_model.model_validate_json(files["fitted.json"])
    except ValueError as error:
        raise PackageError(
            f"this medray does not read {package.ref}: {error}",
            remedy="use the medray version that package.json names under provenance",
        ) from None
    modules = restore(files, workload, params, fitted)
    return params, fitted, {name: module.to(device) for name, module in modules.items()}


def replay_selftest(
    package: Package,
    workload: Task,
    params: BaseModel,
    fitted: BaseModel,
    modules: Mapping[str, nn.Module],
    device: torch.device | str = "cpu",
) -> float:
    """Return the greatest difference of a logit from the recorded one, on the recorded inputs.

    Raises PackageError when it passes 1e-4 (relative to logits above 1).
    """
    inputs = safetensors.numpy.load_file(package.folder / INPUTS)
    recorded = safetensors.numpy.load_file(package.folder / OUTPUTS)
    answered = forward(workload, modules, inputs, params, fitted, torch.device(device))
    if set(answered) != set(recorded):
        raise PackageError(f"{package.ref} answers other targets than when it was written")
    worst = 0.0
    for target, expected in recorded.items():
        if answered[target].shape != expected.shape:
            raise PackageError(f"{package.ref}: the shape of {target!r} is not the recorded one")
        scale = np.maximum(1.0, np.abs(expected))
        # NaN on both sides is the same answer; on one side it is a difference without bound.
        same = np.isnan(answered[target]) & np.isnan(expected)
        gap = np.where(same, 0.0, np.abs(answered[target] - expected) / scale)
        worst = max(worst, float(np.nan_to_num(gap, nan=np.inf).max(initial=0.0)))
    if worst > SELFTEST_TOLERANCE:
        raise PackageError(
            f"{package.ref} does not reproduce its self-test: a logit is off by {worst:.1e}",
            remedy="compare the library versions with those in package.json; do not use it here",
        )
    return worst


def forward(
    workload: Task,
    modules: Mapping[str, nn.Module],
    columns: Columns,
    params: BaseModel,
    fitted: BaseModel,
    device: torch.device,
) -> dict[str, Array]:
    """Uncalibrated logits per target as float32, from columns of B rows; see `answer`."""
    return answer(workload, modules, workload.collate(columns, params, fitted), params, device)


def answer(
    workload: Task,
    modules: Mapping[str, nn.Module],
    batch: Batch,
    params: BaseModel,
    device: torch.device,
) -> dict[str, Array]:
    """Uncalibrated logits per target as float32, from a batch of B rows; no gradients.

    Reduced-precision matrix units are not used, so that a GPU stays within the self-test. On a
    processor one thread computes, as in a worker of the cluster: the same sums in the same order
    everywhere, and on a busy machine threads that wait for each other cost many times the work.
    """
    return exactly(lambda there: workload.predict(modules, there, params), batch, device)


def exactly(
    ask: Callable[[Batch], Mapping[str, torch.Tensor]], batch: Batch, device: torch.device
) -> dict[str, Array]:
    """What `ask` answers of a batch on `device`, as float32 arrays; see `answer`."""
    with torch.inference_mode(), repeatable(device):
        there = {name: values.to(device) for name, values in batch.items()}
        answered = ask(there)
        # Contiguous: safetensors writes the memory of a numpy view, not its values.
        return {
            name: np.ascontiguousarray(logits.float().cpu().numpy())
            for name, logits in answered.items()
        }


def repeatable(device: torch.device) -> AbstractContextManager[object]:
    """Where the same input gives the same numbers on `device`, whatever else runs; see `answer`."""
    if device.type == "cuda":
        return torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False)
    return _one_thread()


@contextmanager
def _one_thread() -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def restore(
    files: Mapping[str, bytes], workload: Task, params: BaseModel, fitted: BaseModel
) -> dict[str, nn.Module]:
    """Fresh modules with the weights of `files`, on the CPU, in evaluation mode."""
    # Building draws random numbers, which the caller may count on not to move.
    with torch.random.fork_rng(devices=[]), _one_thread():
        modules = workload.build_modules(params, fitted)
    if {f"weights/{name}.safetensors" for name in modules} != {
        name for name in files if name.startswith("weights/")
    }:
        raise PackageError(f"the modules of {workload.name!r} are not the packaged ones")
    for name, module in modules.items():
        try:
            state = safetensors.torch.load(files[f"weights/{name}.safetensors"])
            with _one_thread():
                module.load_state_dict(state)
        except RuntimeError as error:
            raise PackageError(f"the weights of {name!r} do not fit the network: {error}") from None
        module.eval()
    return modules
