"""The imaging workload: binds labels, preprocessing, networks and losses to the protocol."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from medray.errors import Code, RejectError
from medray.workload import (
    Batch,
    Columns,
    Heatmaps,
    Modules,
    Monitor,
    Objective,
    Rivals,
    Target,
    Unit,
    on_device,
)
from medray.workloads.imaging import classifier, embedding, fit, heatmap, labels, measure
from medray.workloads.imaging.params import ImagingFitted, ImagingParams

Array = np.ndarray[Any, Any]


class Imaging:
    """Classification of pictures; see `ImagingParams` for what can be asked for."""

    name: ClassVar[str] = "imaging"
    summary: ClassVar[str] = "pictures → diagnoses with convolutional networks"
    inputs: ClassVar[tuple[str, ...]] = ("pixels",)
    unit: ClassVar[Unit] = "images"
    params_model = ImagingParams
    fitted_model = ImagingFitted

    def targets(self, params: ImagingParams, fitted: ImagingFitted) -> tuple[Target, ...]:
        """One target per label column."""
        return params.targets

    def label_columns(self, params: ImagingParams) -> tuple[str, ...]:
        """The label columns."""
        return params.columns

    def items(self, columns: Columns, params: ImagingParams) -> Columns:
        """Pictures are items as they are."""
        return columns

    def sizes(self, columns: Columns) -> Array | None:
        """All alike."""
        return None

    def trim(self, batch: Batch) -> Batch:
        """There is no padding."""
        return batch

    def summarize(self, columns: Columns, params: ImagingParams) -> pa.Table:
        """Sums of pixels and label counts of one batch: one row."""
        return fit.summarize(columns, params)

    def fit(self, summaries: pa.Table, params: ImagingParams) -> ImagingFitted:
        """Size, scale and class counts.

        Raises DataError when pictures differ in shape, are too small for the network, or a class
        never occurs.
        """
        return fit.fit(summaries, params)

    def collate(self, columns: Columns, params: ImagingParams, fitted: ImagingFitted) -> Batch:
        """`pixels` (B, C, H, W), uint8 as stored or float32; `labels` when they are there.

        Raises RejectError (unexpected_shape) for pictures of another size than trained on.
        """
        pixels_BHWC = fit.pixels_of(columns)
        expected = (*fitted.size, fitted.channels)
        if pixels_BHWC.shape[1:] != expected:
            raise RejectError(
                Code.UNEXPECTED_SHAPE, f"{pixels_BHWC.shape[1:]} where the model takes {expected}"
            )
        if pixels_BHWC.dtype != np.uint8:
            pixels_BHWC = pixels_BHWC.astype(np.float32)
        pixels_BCHW = np.ascontiguousarray(pixels_BHWC.transpose(0, 3, 1, 2))
        batch = {"pixels": _tensor(pixels_BCHW)}
        if labels.labels_present(columns, params):
            observed = labels.truth_of(columns, params)
            batch["labels"] = (
                torch.from_numpy(observed[params.columns[0]])
                if params.task == "multiclass"
                else torch.from_numpy(np.stack(list(observed.values()), axis=1)).float()
            )
        return batch

    def build_modules(self, params: ImagingParams, fitted: ImagingFitted) -> dict[str, nn.Module]:
        """One classifier per member."""
        return classifier.build_modules(params, fitted)

    def objectives(self, params: ImagingParams, fitted: ImagingFitted) -> tuple[Objective, ...]:
        """One update per member: members learn independently."""
        return tuple(
            Objective(
                name=member.name,
                trains=(member.name,),
                loss=partial(
                    classifier.training_loss, member=member.name, params=params, fitted=fitted
                ),
            )
            for member in params.ensemble
        )

    def predict(
        self, modules: Modules, batch: Batch, params: ImagingParams
    ) -> Mapping[str, Tensor]:
        """Label column → logits."""
        return classifier.predict_logits(modules, batch, params)

    def embed(self, modules: Modules, batch: Batch, params: ImagingParams) -> Tensor:
        """What the last layer of every network reads (B, D)."""
        return embedding.embed(modules, batch, params)

    def truth(self, columns: Columns, params: ImagingParams) -> Mapping[str, Array]:
        """Label column → observed values."""
        return labels.truth_of(columns, params)

    def monitor(self, params: ImagingParams) -> Monitor:
        """The tuning metric `params.monitor` names."""
        return Monitor(params.monitor, "min" if params.monitor == "loss" else "max")

    def measure(
        self,
        logits: Mapping[str, Array],
        columns: Columns,
        params: ImagingParams,
        fitted: ImagingFitted,
    ) -> Mapping[str, float]:
        """`loss`, `accuracy`, `auroc`."""
        return measure.measure(logits, columns, params)

    def baselines(
        self,
        train: Columns,
        held_out: Columns,
        params: ImagingParams,
        fitted: ImagingFitted,
        seed: int,
    ) -> Rivals:
        """None: no simple model reads pictures."""
        return {}

    def unseen(
        self, columns: Columns, params: ImagingParams, fitted: ImagingFitted
    ) -> Array | None:
        """None: a picture has no codes."""
        return None

    def explain(
        self,
        modules: Modules,
        columns: Columns,
        target: str,
        class_index: int,
        params: ImagingParams,
        fitted: ImagingFitted,
    ) -> Heatmaps:
        """Grad-CAM of one target (class_index: multi-class)."""
        batch = on_device(self.collate(columns, params, fitted), modules)
        output = class_index if params.task == "multiclass" else params.columns.index(target)
        return Heatmaps(heatmap.grad_cam(modules, batch, output, params))

    def example(self, params: ImagingParams, fitted: ImagingFitted, rows: int) -> Columns:
        """Smooth synthetic pictures in the range and type of the training pixels."""
        height, width = fitted.size
        y_H1 = np.linspace(0, 1, height)[:, None]
        x_1W = np.linspace(0, 1, width)[None, :]
        pictures = []
        for row in range(rows):
            waves = [
                np.sin(2 * np.pi * ((row + 1) * x_1W + (channel + 1) * y_H1) + row)
                for channel in range(fitted.channels)
            ]
            pictures.append(np.stack(waves, axis=-1))
        unit = (np.stack(pictures) + 1) / 2
        values = fitted.low + unit * (fitted.high - fitted.low)
        dtype = np.dtype(fitted.dtype)
        if dtype.kind in "iu":
            values = np.rint(values)
        values = values.astype(dtype)
        return {"pixels": values[..., 0] if fitted.channels == 1 else values}


def _tensor(values: Array) -> Tensor:
    """A tensor that owns its memory: batches may be views of read-only buffers."""
    return torch.from_numpy(values if values.flags.writeable else values.copy())
