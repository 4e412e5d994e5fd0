"""A package: everything a trained model needs to predict, in one immutable folder.

    package.json            what is in it (medray.manifest)
    spec.yaml               the validated spec, every default written out
    fitted.json             what preprocessing learned from `train`
    calibration.json        temperatures and thresholds learned on `tuning`
    weights/<module>.safetensors
    selftest/               synthetic inputs and the logits they gave; replayed at load
    metrics.json, MODEL_CARD.md   written again by an evaluation

Owns writing, verifying and loading. No pickle anywhere. Works on local folders and object stores;
a remote package is copied to a local cache first. Imports no workload: callers hand theirs in.
"""

import json
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from pydantic import BaseModel
from torch import nn

from medray.calibration import Calibration
from medray.errors import OutputConflictError, PackageError
from medray.manifest import (
    EVALUATION_FILES,
    MANIFEST,
    Manifest,
    package_digest,
    read_manifest,
    verify_folder,
)
from medray.package_store import commit, fetch, local_folder, read_file
from medray.provenance import provenance
from medray.spec.load import dump_spec, parse_spec
from medray.spec.models import RunSpec
from medray.spec.pixels import PixelSpec
from medray.spec.records import RecordsSpec
from medray.workload import Batch, Columns, Workload

Task = Workload[Any, Any]
Array = np.ndarray[Any, Any]

SELFTEST_ROWS = 2  # replayed at every load, so few
SELFTEST_TOLERANCE = 1e-4  # of a logit: libraries and processors round differently
_INPUTS, _OUTPUTS = "selftest/inputs.safetensors", "selftest/outputs.safetensors"
_METRICS, _CARD = EVALUATION_FILES


@dataclass(frozen=True)
class Package:
    """A verified package. `folder` is where its files lie on this machine."""

    uri: str
    folder: Path
    manifest: Manifest

    @property
    def name(self) -> str:
        """The run's name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The run's version, as the spec states it."""
        return self.manifest.version

    @property
    def digest(self) -> str:
        """sha256 over everything that decides a prediction."""
        return self.manifest.digest

    @property
    def ref(self) -> str:
        """`name@version#sha256[:12]`: the `package` column of every prediction."""
        return f"{self.name}@{self.version}#{self.digest[:12]}"

    @property
    def workload(self) -> str:
        """Name of the workload, a key of WORKLOADS."""
        return self.manifest.workload

    @property
    def pixels(self) -> PixelSpec:
        """How files must be decoded. Raises PackageError for a model of records."""
        if self.manifest.pixels is None:
            raise PackageError(
                f"{self.ref} predicts from patients' records, not from images",
                remedy="give it tables: see `medray predict --help`",
            )
        return self.manifest.pixels

    @property
    def records(self) -> RecordsSpec | None:
        """How rows of tables become events; None for a model of images."""
        return self.manifest.records

    @property
    def names(self) -> dict[str, str]:
        """64-bit name (as text) → the code or text it stands for."""
        return self.manifest.names

    @property
    def columns(self) -> tuple[str, ...]:
        """DICOM keywords that stood beside the pixels in training."""
        return self.manifest.columns

    @property
    def lineage(self) -> dict[str, Any]:
        """Where it comes from: data fingerprint, split, training run."""
        return self.manifest.lineage

    @cached_property
    def spec(self) -> RunSpec:
        """The run's spec."""
        return parse_spec(self._text("spec.yaml"), "spec.yaml")

    @cached_property
    def calibration(self) -> Calibration:
        """Temperatures and thresholds."""
        return Calibration.model_validate_json(self._text("calibration.json"))

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json: `history` of the training; `evaluation`, null before an evaluation."""
        return json.loads(self._text(_METRICS))

    def _text(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")


def write_package(
    uri: str,
    *,
    spec: RunSpec,
    workload: Task,
    params: BaseModel,
    fitted: BaseModel,
    modules: Mapping[str, nn.Module],
    calibration: Calibration,
    lineage: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    pixels: PixelSpec | None = None,
    columns: Sequence[str] | None = None,
    records: RecordsSpec | None = None,
    names: Mapping[str, str] | None = None,
) -> Package:
    """Write a package in one step: it is there whole, or not at all.

    pixels, columns  how the training items were decoded; absent: as `spec.ingest` says.
    records, names   instead, for a model of patients' records; see `Manifest`.
    lineage          JSON; should hold the dataset's fingerprint as `dataset`.
    A package that stands there with the same digest is left as it is. Raises OutputConflictError
    when something else does, PackageError when the model does not survive being written.
    """
    ingest = spec.ingest
    if records is None:
        pixels = pixels or (ingest.pixels if ingest else PixelSpec())
    kept = tuple(columns if columns is not None else ingest.columns if ingest else ())
    files = {
        "spec.yaml": _spec_yaml(spec),
        "fitted.json": _json(fitted.model_dump(mode="json")),
        "calibration.json": _json(calibration.model_dump(mode="json")),
        **{f"weights/{name}.safetensors": _weights(module) for name, module in modules.items()},
    }
    restored = _restore(files, workload, params, fitted)
    inputs = _numeric(workload.example(params, fitted, SELFTEST_ROWS))
    outputs = forward(workload, restored, inputs, params, fitted, torch.device("cpu"))
    files[_INPUTS] = safetensors.numpy.save(inputs)
    files[_OUTPUTS] = safetensors.numpy.save(dict(outputs))
    hashes = {name: sha256(data).hexdigest() for name, data in sorted(files.items())}
    extra = {
        _METRICS: _json({"history": [dict(row) for row in history], "evaluation": None}),
        _CARD: _first_card(spec).encode(),
    }
    manifest = Manifest(
        name=spec.name,
        version=spec.version,
        workload=workload.name,
        digest=package_digest(
            spec.name, spec.version, workload.name, pixels, kept, records, hashes
        ),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        pixels=pixels,
        columns=kept,
        records=records,
        names=dict(names or {}),
        lineage=json.loads(_json(dict(lineage))),
        provenance=json.loads(_json(provenance())),
        files=hashes,
        evaluation={name: sha256(data).hexdigest() for name, data in extra.items()},
    )
    if not _already_there(uri, manifest):
        try:
            commit(uri, {**files, **extra}, MANIFEST, manifest.to_bytes())
        except OSError:
            # Another process may have put the same package there first.
            if not _already_there(uri, manifest):
                raise
    return open_package(uri)


def open_package(uri: str) -> Package:
    """Open a package after checking every byte of it.

    Raises PackageError that names each missing, altered or unexpected file.
    """
    data = read_file(uri, MANIFEST)
    if data is None:
        raise PackageError(
            f"there is no package at {uri}",
            remedy="give the folder that holds package.json; `medray train` makes one",
        )
    manifest = read_manifest(data, uri)
    folder = local_folder(uri) or fetch(uri, data)
    try:
        verify_folder(folder, manifest, uri)
    except PackageError:
        if local_folder(uri) is None:  # the copy made here: fetched again next time
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return Package(uri=uri, folder=folder, manifest=manifest)


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
    modules = _restore(files, workload, params, fitted)
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
    inputs = safetensors.numpy.load_file(package.folder / _INPUTS)
    recorded = safetensors.numpy.load_file(package.folder / _OUTPUTS)
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


def add_evaluation(package: Package, metrics: Mapping[str, Any], card: str) -> Package:
    """Put the results of an evaluation into metrics.json, and its model card beside it.

    The digest stays. A kill at any moment leaves a package that opens: both the old and the new
    hashes are good until the last write.
    """
    content = {**package.metrics, "evaluation": dict(metrics)}
    new = {_METRICS: _json(content), _CARD: card.encode()}
    hashes = {name: sha256(data).hexdigest() for name, data in new.items()}
    steps = (
        (MANIFEST, package.manifest.model_copy(update={"pending": hashes}).to_bytes()),
        *new.items(),
        (MANIFEST, _settled(package.manifest, hashes).to_bytes()),
    )
    from medray import storage

    for name, data in steps:
        storage.write_atomic(storage.join(package.uri, name), data)
    return open_package(package.uri)


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
    exact = (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False)
        if device.type == "cuda"
        else _one_thread()
    )
    with torch.inference_mode(), exact:
        there = {name: values.to(device) for name, values in batch.items()}
        answered = ask(there)
        # Contiguous: safetensors writes the memory of a numpy view, not its values.
        return {
            name: np.ascontiguousarray(logits.float().cpu().numpy())
            for name, logits in answered.items()
        }


@contextmanager
def _one_thread() -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _settled(manifest: Manifest, hashes: dict[str, str]) -> Manifest:
    return manifest.model_copy(update={"evaluation": hashes, "pending": {}})


def _spec_yaml(spec: RunSpec) -> bytes:
    text = dump_spec(spec)
    if parse_spec(text, "spec.yaml") != RunSpec.model_validate(spec.model_dump(mode="json")):
        raise PackageError(
            "the spec does not read back from YAML as it was",
            remedy="write strings under `params:` that look like numbers in another way",
        )
    return text.encode()


def _weights(module: nn.Module) -> bytes:
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    state = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in module.state_dict().items()
    }
    return safetensors.torch.save(state)


def _restore(
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


def _numeric(columns: Columns) -> dict[str, Array]:
    odd = sorted(name for name, values in columns.items() if values.dtype.kind not in "biuf")
    if odd:
        raise PackageError(f"self-test inputs must be numbers; {', '.join(odd)} are not")
    return {name: np.ascontiguousarray(values) for name, values in columns.items()}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n").encode()


def _first_card(spec: RunSpec) -> str:
    return (
        f"# {spec.name} {spec.version}\n\nWorkload: {spec.workload}.\n\n"
        "Not evaluated yet: `medray evaluate` writes the results on the held-out patients here.\n"
        "Not for clinical use.\n"
    )


def _already_there(uri: str, manifest: Manifest) -> bool:
    """Whether this package stands at `uri`; OutputConflictError when something else does."""
    local = local_folder(uri)
    if read_file(uri, MANIFEST) is not None:
        if open_package(uri).digest == manifest.digest:
            return True
        what = "another package stands"
    elif local is not None and local.exists() and not (local.is_dir() and not any(local.iterdir())):
        what = "something that is no package stands"
    else:
        return False
    raise OutputConflictError(
        f"{what} at {uri}",
        remedy="give the run another `output` or `name`, or move what is there away",
    )
