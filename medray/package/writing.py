"""Writing a package, and what an evaluation adds to it."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from pydantic import BaseModel
from torch import nn

from medray.calibration import Calibration
from medray.errors import OutputConflictError, PackageError
from medray.manifest import EVALUATION_FILES, MANIFEST, Manifest, package_digest
from medray.package.opened import Package, open_package
from medray.package.running import INPUTS, OUTPUTS, Task, forward, restore
from medray.package_store import commit, local_folder, read_file
from medray.provenance import provenance
from medray.spec.load import dump_spec, parse_spec
from medray.spec.models import RunSpec
from medray.spec.molecules import MoleculesSpec
from medray.spec.pixels import PixelSpec
from medray.spec.records import RecordsSpec
from medray.workload import Columns

Array = np.ndarray[Any, Any]

SELFTEST_ROWS: Final = 2  # replayed at every load, so few
_METRICS, _CARD = EVALUATION_FILES


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
    molecules: MoleculesSpec | None = None,
) -> Package:
    """Write a package in one step: it is there whole, or not at all.

    pixels, columns  how the training items were decoded; absent: as `spec.ingest` says.
    records, names   instead, for a model of patients' records; see `Manifest`.
    molecules        instead, for a model of molecules.
    lineage          JSON; should hold the dataset's fingerprint as `dataset`.
    A package that stands there with the same digest is left as it is. Raises OutputConflictError
    when something else does, PackageError when the model does not survive being written.
    """
    ingest = spec.ingest
    # with every default: another version of medray may have others
    spec = spec.model_copy(update={"params": params.model_dump(mode="json")})
    if records is None and molecules is None:
        pixels = pixels or (ingest.pixels if ingest else PixelSpec())
    kept = tuple(columns if columns is not None else ingest.columns if ingest else ())
    files = {
        "spec.yaml": _spec_yaml(spec),
        "fitted.json": _json(fitted.model_dump(mode="json")),
        "calibration.json": _json(calibration.model_dump(mode="json")),
        **{f"weights/{name}.safetensors": _weights(module) for name, module in modules.items()},
    }
    restored = restore(files, workload, params, fitted)
    inputs = _numeric(workload.example(params, fitted, SELFTEST_ROWS))
    outputs = forward(workload, restored, inputs, params, fitted, torch.device("cpu"))
    files[INPUTS] = safetensors.numpy.save(inputs)
    files[OUTPUTS] = safetensors.numpy.save(dict(outputs))
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
            spec.name, spec.version, workload.name, pixels, kept, records, molecules, hashes
        ),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        pixels=pixels,
        columns=kept,
        records=records,
        names=dict(names or {}),
        molecules=molecules,
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
