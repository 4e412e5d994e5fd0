"""A workload small enough to read: a logistic model of an item's mean, for tests of its users."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from pydantic import BaseModel
from torch import nn

from medray.calibration import Calibration, TargetCalibration
from medray.package import Package, write_package
from medray.spec.models import IngestSpec, RunSpec
from medray.spec.pixels import PixelSpec
from medray.workload import Heatmaps, Monitor, Target


class Params(BaseModel):
    classes: int = 3


class Fitted(BaseModel):
    mean: float = 100.0


class Tiny:
    """binary `bright`, multi-class `kind`; both from mean and deviation of the pixels."""

    name: ClassVar[str] = "tiny"
    summary: ClassVar[str] = "for tests"
    params_model = Params
    fitted_model = Fitted

    def targets(self, params: Params, fitted: Fitted) -> tuple[Target, ...]:
        names = tuple(f"k{i}" for i in range(params.classes))
        return (Target("bright", "binary"), Target("kind", "multiclass", names))

    def label_columns(self, params: Params) -> tuple[str, ...]:
        return ("bright", "kind")

    def summarize(self, columns: Any, params: Params) -> pa.Table:
        return pa.table({"sum": [float(columns["pixels"].mean())]})

    def fit(self, summaries: pa.Table, params: Params) -> Fitted:
        return Fitted()

    def collate(self, columns: Any, params: Params, fitted: Fitted) -> dict[str, torch.Tensor]:
        pixels = torch.from_numpy(np.array(columns["pixels"], dtype=np.float32))
        return {"x": (pixels.reshape(len(pixels), -1) - fitted.mean) / 50.0}

    def build_modules(self, params: Params, fitted: Fitted) -> dict[str, nn.Module]:
        return {"classifier": nn.Linear(2, 1 + params.classes)}

    def objectives(self, params: Params, fitted: Fitted) -> tuple[Any, ...]:
        return ()

    def predict(self, modules: Any, batch: Any, params: Params) -> Mapping[str, torch.Tensor]:
        x = batch["x"]
        logits = modules["classifier"](torch.stack([x.mean(1), x.std(1)], dim=1))
        return {"bright": logits[:, 0], "kind": logits[:, 1:]}

    def truth(self, columns: Any, params: Params) -> Mapping[str, np.ndarray]:
        return {"bright": columns["bright"], "kind": columns["kind"]}

    def monitor(self, params: Params) -> Monitor:
        return Monitor("loss", "min")

    def measure(
        self, logits: Any, columns: Any, params: Params, fitted: Fitted
    ) -> Mapping[str, float]:
        return {"loss": 0.0}

    def explain(
        self,
        modules: Any,
        columns: Any,
        target: str,
        class_index: int,
        params: Params,
        fitted: Fitted,
    ) -> Heatmaps:
        x = self.collate(columns, params, fitted)["x"]
        side = round(x.shape[1] ** 0.5)
        return Heatmaps(torch.linspace(0, 1, x.shape[1]).expand_as(x).reshape(-1, side, side))

    def example(self, params: Params, fitted: Fitted, rows: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(7)
        return {"pixels": rng.integers(0, 255, (rows, 16, 16), dtype=np.uint8)}


TINY = Tiny()
SPEC = RunSpec(
    name="tiny",
    workload="tiny",
    params={"classes": 3},
    ingest=IngestSpec(archive=("archive",), pixels=PixelSpec(size=(16, 16))),
)
CALIBRATION = Calibration(
    targets={
        "bright": TargetCalibration(kind="binary", temperature=1.5, threshold=0.4, rule="youden"),
        "kind": TargetCalibration(kind="multiclass", classes=("k0", "k1", "k2"), temperature=0.7),
    }
)


def make_package(uri: str, seed: int = 0, spec: RunSpec = SPEC) -> Package:
    """A package of fixed weights at `uri`."""
    params, fitted = Params(), Fitted()
    modules = TINY.build_modules(params, fitted)
    rng = torch.Generator().manual_seed(seed)
    for parameter in modules["classifier"].parameters():
        parameter.data = torch.randn(parameter.shape, generator=rng)
    return write_package(
        uri,
        spec=spec,
        workload=TINY,
        params=params,
        fitted=fitted,
        modules=modules,
        calibration=CALIBRATION,
        lineage={"dataset": "0" * 64},
        history=[{"epoch": 1, "loss": 0.5}],
    )
