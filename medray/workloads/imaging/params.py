"""What an imaging task can be asked for, and what it learns before the network does."""

from dataclasses import dataclass
from itertools import cycle
from typing import Literal, Self

from pydantic import Field, model_validator

from medray.models.augment import AugmentSpec
from medray.models.cnn import NETWORKS
from medray.spec.base import Section
from medray.workload import Target

NetworkName = Literal["conv3", "resnet18", "resnet50", "densenet121", "efficientnet_b0"]
SMALL_PICTURE = 64  # rows or columns up to which a 7×7 stride-2 stem throws too much away


class NetworkSpec(Section):
    """Which network one member is; what a variant leaves out is as in the params around it."""

    network: NetworkName | None = None
    width: float | None = Field(default=None, gt=0, le=4)
    stem: Literal["auto", "small", "standard"] | None = None
    dropout: float | None = Field(default=None, ge=0, lt=1)


@dataclass(frozen=True, slots=True)
class Member:
    """One trained network of a run."""

    name: str
    network: NetworkName
    width: float
    stem: Literal["auto", "small", "standard"]
    dropout: float


class ImagingParams(Section):
    """The `params:` of an imaging run.

    task             binary: one column of 0/1 (or text, with `positive`). multiclass: one column
                     holding one of `classes`. multilabel: several binary columns.
    label, labels    the dataset's label column (binary, multiclass) or columns (multilabel).
    positive         binary: the text that means 1; every other text means 0.
    classes          multiclass: the label's values, in the order of the outputs.
    network          one of medray.models.cnn.NETWORKS; width multiplies its channels.
    members          networks trained side by side; their logits are averaged.
    variants         what members differ in, taken in turn: an ensemble of unlike networks errs
                     less alike. Absent: they differ in their random start alone.
    stem             small: 3×3 stride 1, no pooling; auto: small for pictures up to 64 pixels.
    class_weights    balanced: classes count as if they were equally frequent.
    label_smoothing  share of certainty taken from every label.
    tta              mirror images averaged at prediction, beside the picture as it is.
    tta_shift        the picture also moved towards each corner at prediction, by this share of its
                     height and width (a pixel at least), averaged as mirror images are.
    monitor          the tuning metric that picks the best epoch.
    """

    task: Literal["binary", "multiclass", "multilabel"] = "binary"
    label: str | None = None
    labels: tuple[str, ...] = ()
    positive: str | None = None
    classes: tuple[str, ...] = ()
    network: NetworkName = "resnet18"
    width: float = Field(default=1.0, gt=0, le=4)
    members: int = Field(default=1, ge=1, le=16)
    variants: tuple[NetworkSpec, ...] = ()
    stem: Literal["auto", "small", "standard"] = "auto"
    dropout: float = Field(default=0.2, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augment: AugmentSpec = AugmentSpec()
    tta: tuple[Literal["horizontal", "vertical"], ...] = ()
    tta_shift: float = Field(default=0.0, ge=0, le=0.5)
    monitor: Literal["auroc", "accuracy", "loss"] = "auroc"

    @model_validator(mode="after")
    def _task_is_complete(self) -> Self:
        if self.task == "multilabel":
            if not self.labels:
                raise ValueError("multilabel needs `labels`: the binary columns to predict")
            if self.label is not None or len(set(self.labels)) != len(self.labels):
                raise ValueError("multilabel takes `labels`, each once, and no `label`")
        elif self.label is None or self.labels:
            raise ValueError(f"{self.task} needs `label`: the column to predict (not `labels`)")
        if self.task == "multiclass" and len(set(self.classes)) < 2:
            raise ValueError("multiclass needs `classes`: at least two values of the label")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("`classes` names a value twice")
        if self.task != "multiclass" and self.classes:
            raise ValueError("`classes` belongs to multiclass")
        if self.task != "binary" and self.positive is not None:
            raise ValueError("`positive` belongs to binary")
        return self

    @model_validator(mode="after")
    def _networks_can_do_it(self) -> Self:
        if len(self.variants) > self.members:
            raise ValueError(f"{len(self.variants)} variants need as many `members` at least")
        for member in self.ensemble:
            network = NETWORKS[member.network]
            if member.stem != "auto" and member.stem not in network.stems:
                raise ValueError(f"{member.network} has no {member.stem} stem")
            if member.width != 1.0 and not network.scalable:
                raise ValueError(f"{member.network} has one width: leave `width` out")
        return self

    @property
    def ensemble(self) -> tuple[Member, ...]:
        """The networks to train: `classifier`, or `classifier_1`, `classifier_2` and so on."""
        variants = self.variants or (NetworkSpec(),)
        return tuple(
            Member(
                name="classifier" if self.members == 1 else f"classifier_{number + 1}",
                network=variant.network or self.network,
                width=self.width if variant.width is None else variant.width,
                stem=variant.stem or self.stem,
                dropout=self.dropout if variant.dropout is None else variant.dropout,
            )
            for number, variant in zip(range(self.members), cycle(variants), strict=False)
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The label columns."""
        return self.labels if self.label is None else (self.label,)

    @property
    def outputs(self) -> int:
        """Logits per item."""
        return len(self.classes) if self.task == "multiclass" else len(self.columns)

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is predicted: one target per column."""
        kind = "multiclass" if self.task == "multiclass" else "binary"
        return tuple(Target(column, kind, self.classes) for column in self.columns)


class ImagingFitted(Section):
    """What preprocessing learned from `train`.

    size         rows, columns of every picture; channels 1 or 3.
    dtype        numpy name of the stored pixels.
    low, high    least and greatest pixel value seen: 0 and 1 for augmentation.
    mean, std    per channel, in pixel units.
    counts       labels seen: (negatives, positives) per column, or items per class.
    """

    size: tuple[int, int]
    channels: int = Field(ge=1)
    dtype: str
    items: int = Field(ge=1)
    low: float
    high: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]
