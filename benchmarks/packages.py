"""Packages and archives for figures that need a model but no trained one."""

from pathlib import Path

import numpy as np
import torch

from medray.calibration import Calibration, TargetCalibration
from medray.dicom.write import WRITABLE, write_instance
from medray.package import write_package
from medray.spec.models import IngestSpec, RunSpec
from medray.spec.pixels import PixelSpec
from medray.workloads import WORKLOADS


def untrained_package(
    folder: Path,
    network: str,
    size: int,
    temperature: float = 0.05,
    seed: int = 0,
    version: str = "1",
) -> str:
    """Write an imaging package of random weights.

    temperature  of its calibration; the least there is, 0.05, shows differences of logits
                 twenty-fold, as long as the scores stay away from 0 and 1.
    """
    workload = WORKLOADS["imaging"]
    spec = RunSpec(
        name=f"untrained-{network}".replace("_", "-"),
        version=version,
        params={"task": "binary", "label": "lesion", "network": network},
        ingest=IngestSpec(archive=("archive",), pixels=PixelSpec(size=(size, size))),
        output=str(folder),
    )
    params = workload.params_model.model_validate(spec.params)
    fitted = workload.fitted_model.model_validate(
        {
            "size": (size, size),
            "channels": 1,
            "dtype": "uint8",
            "items": 1000,
            "low": 0,
            "high": 255,
            "mean": (110.0,),
            "std": (60.0,),
            "counts": ((500, 500),),
        }
    )
    torch.manual_seed(seed)
    modules = workload.build_modules(params, fitted)
    calibration = TargetCalibration(
        kind="binary", temperature=temperature, threshold=0.5, rule="youden"
    )
    package = write_package(
        str(folder / "package"),
        spec=spec,
        workload=workload,
        params=params,
        fitted=fitted,
        modules=modules,
        calibration=Calibration(targets={"lesion": calibration}),
        lineage={"dataset": None},
        history=[],
    )
    return package.uri


def write_scans(folder: Path, count: int) -> None:
    """Write radiographs through every transfer syntax that medray writes, 8 and 12 bits deep."""
    for number in range(count):
        rng = np.random.default_rng(number)
        bits, dtype = ((8, np.uint8), (12, np.uint16))[number % 2]
        y, x = np.mgrid[0:96, 0:80] / 96
        ring = np.exp(-(((x - rng.random()) ** 2 + (y - rng.random()) ** 2) / 0.02))
        picture = np.clip(0.2 + 0.5 * y + ring * rng.random() + rng.normal(0, 0.05, x.shape), 0, 1)
        path = folder / f"{number % 7}" / f"{number:05d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(
            write_instance(
                np.rint(picture * ((1 << bits) - 1)).astype(dtype),
                sop_instance_uid=f"2.25.7{number:06d}",
                study_instance_uid=f"2.25.8{number // 2:06d}",
                series_instance_uid=f"2.25.9{number // 2:06d}",
                patient_id=f"P{number // 4:05d}",
                transfer_syntax_uid=WRITABLE[number % len(WRITABLE)],
                bits_stored=bits,
                photometric_interpretation=("MONOCHROME2", "MONOCHROME1")[number % 3 == 0],
            )
        )
