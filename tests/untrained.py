"""An imaging package of random weights: a real model of the real workload, made in a moment."""

from pathlib import Path
from typing import Any

import torch

from medray.calibration import Calibration, TargetCalibration
from medray.package import write_package
from medray.spec.models import IngestSpec, RunSpec
from medray.spec.pixels import PixelSpec
from medray.workloads import WORKLOADS


def imaging(folder: Path, name: str = "scans", version: str = "1", seed: int = 0) -> str:
    """Write a package that reads 32×32 pictures of any file; its folder."""
    workload: Any = WORKLOADS["imaging"]
    spec = RunSpec(
        name=name,
        version=version,
        params={"task": "binary", "label": "lesion", "network": "conv3"},
        ingest=IngestSpec(archive=("archive",), pixels=PixelSpec(size=(32, 32))),
        output=str(folder),
    )
    params = workload.params_model.model_validate(spec.params)
    learned = {
        "size": (32, 32),
        "channels": 1,
        "dtype": "uint8",
        "items": 1000,
        "low": 0,
        "high": 255,
        "mean": (110.0,),
        "std": (60.0,),
        "counts": ((500, 500),),
    }
    fitted = workload.fitted_model.model_validate(learned)
    torch.manual_seed(seed)
    calibration = TargetCalibration(kind="binary", temperature=0.2, threshold=0.5, rule="youden")
    package = write_package(
        str(folder / "package"),
        spec=spec,
        workload=workload,
        params=params,
        fitted=fitted,
        modules=workload.build_modules(params, fitted),
        calibration=Calibration(targets={"lesion": calibration}),
        lineage={"dataset": None},
        history=[],
    )
    return package.uri
