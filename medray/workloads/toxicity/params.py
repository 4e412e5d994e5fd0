"""What can be asked about molecules, and what is learned before the networks are."""

from dataclasses import dataclass
from itertools import cycle
from typing import Literal, Self

from pydantic import Field, model_validator

from medray.models.properties import Kind, Readout
from medray.molecules.domain import Known
from medray.molecules.scaling import DescriptorScale
from medray.molecules.tokens import Vocabulary
from medray.records.scale import Scale
from medray.spec.base import Section
from medray.workload import Target

SIMILARITY = "nearest_similarity"


class NetworkSpec(Section):
    """What one member is; what is left out is as in the params around it."""

    network: Kind | None = None
    hidden: int | None = Field(default=None, ge=8)
    layers: int | None = Field(default=None, ge=1, le=8)
    steps: int | None = Field(default=None, ge=1, le=16)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    input_dropout: float | None = Field(default=None, ge=0, lt=1)
    readout: Readout | None = None
    descriptors: bool | None = None


class FingerprintSpec(Section):
    """Morgan counts: surroundings of up to `radius` bonds, folded into so many places."""

    radius: int = Field(default=2, ge=1, le=4)
    places: int = Field(default=2048, ge=64, le=16384)


@dataclass(frozen=True, slots=True)
class Member:
    """One trained network of a run."""

    name: str
    network: Kind
    hidden: int
    layers: int
    steps: int
    dropout: float
    input_dropout: float
    readout: Readout
    descriptors: bool


class ToxicityParams(Section):
    """The `params:` of a run on properties of molecules.

    task           binary: columns of 0 and 1, any of them missing. regression: columns of numbers.
    targets        these columns; all are learned together.
    transform      regression: `log` learns log(1 + x) of values that are not negative.
    network        mlp reads a fingerprint, gru the SMILES, mpnn the graph.
    members        networks trained side by side; their logits are averaged.
    variants       what members differ in, taken in turn: an ensemble of unlike networks errs less
                   alike. Absent: they differ in their random start alone.
    hidden, layers units of a layer, and layers before the outputs; steps: of messages (mpnn).
    dropout        between layers; input_dropout: of what a network reads.
    readout        mpnn: a molecule is the `mean` of its atoms, or their `sum`.
    descriptors    numbers that RDKit computes of the whole molecule are read, too. Members that do
                   without err unlike those that rest on them.
    min_molecules  gru: tokens of fewer molecules of `train` are unknown.
    class_weights  balanced: both answers of a column count as if they were equally frequent.
    label_smoothing  share of certainty taken from every label.
    interval       regression: share of values that should lie in the interval given with each.
    domain         most molecules of `train` that similarity is measured to; a draw, if it has more.
    monitor        the tuning metric that picks the best epoch; auto: auroc, or rmse.
    """

    task: Literal["binary", "regression"] = "binary"
    targets: tuple[str, ...] = Field(min_length=1)
    transform: Literal["linear", "log"] = "linear"
    network: Kind = "mlp"
    members: int = Field(default=1, ge=1, le=16)
    variants: tuple[NetworkSpec, ...] = ()
    hidden: int = Field(default=256, ge=8)
    layers: int = Field(default=2, ge=1, le=8)
    steps: int = Field(default=3, ge=1, le=16)
    dropout: float = Field(default=0.3, ge=0, lt=1)
    input_dropout: float = Field(default=0.1, ge=0, lt=1)
    fingerprint: FingerprintSpec = FingerprintSpec()
    readout: Readout = "mean"
    descriptors: bool = True
    min_molecules: int = Field(default=5, ge=1)
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    interval: float = Field(default=0.8, gt=0, lt=1)
    domain: int = Field(default=20_000, ge=1)
    monitor: Literal["auto", "auroc", "rmse", "loss"] = "auto"

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if len(set(self.targets)) != len(self.targets) or SIMILARITY in self.targets:
            raise ValueError(f"`targets` names columns, each once, and none is {SIMILARITY}")
        if len(self.variants) > self.members:
            raise ValueError(f"{len(self.variants)} variants need as many `members` at least")
        odd = {"binary": "rmse", "regression": "auroc"}[self.task]
        if self.monitor == odd:
            raise ValueError(f"{self.task} has no {odd} to monitor")
        if self.task == "binary" and self.transform != "linear":
            raise ValueError("`transform` belongs to regression")
        if self.task == "regression" and (self.class_weights != "none" or self.label_smoothing > 0):
            raise ValueError("`class_weights` and `label_smoothing` belong to binary")
        return self

    @property
    def ensemble(self) -> tuple[Member, ...]:
        """The networks to train: `network`, or `network_1`, `network_2` and so on."""
        return tuple(
            Member(
                name="network" if self.members == 1 else f"network_{number + 1}",
                network=one.network or self.network,
                hidden=self.hidden if one.hidden is None else one.hidden,
                layers=self.layers if one.layers is None else one.layers,
                steps=self.steps if one.steps is None else one.steps,
                dropout=self.dropout if one.dropout is None else one.dropout,
                input_dropout=(
                    self.input_dropout if one.input_dropout is None else one.input_dropout
                ),
                readout=one.readout or self.readout,
                descriptors=self.descriptors if one.descriptors is None else one.descriptors,
            )
            for number, one in zip(
                range(self.members), cycle(self.variants or (NetworkSpec(),)), strict=False
            )
        )

    @property
    def kinds(self) -> frozenset[Kind]:
        """The different networks of the ensemble."""
        return frozenset(member.network for member in self.ensemble)

    @property
    def described(self) -> bool:
        """Whether any member reads descriptors."""
        return any(member.descriptors for member in self.ensemble)


class ToxicityFitted(Section):
    """What preprocessing learned from `train`.

    descriptors  their scale. vocabulary: tokens of SMILES, for gru.
    counts       binary: (negatives, positives) of every target.
    scales       regression: of every target.
    known        fingerprints of what was learned from.
    """

    molecules: int = Field(ge=1)
    descriptors: DescriptorScale
    vocabulary: Vocabulary | None
    counts: tuple[tuple[int, int], ...] = ()
    scales: tuple[Scale, ...] = ()
    known: Known


def targets_of(params: ToxicityParams, fitted: ToxicityFitted) -> tuple[Target, ...]:
    """One target per column, and how near the molecule is to those that were learned from."""
    if params.task == "binary":
        asked = [Target(name, "binary") for name in params.targets]
    else:
        outside = (1 - params.interval) / 2
        asked = [
            Target(name, "value", levels=(outside, 1 - outside), scale=scale)
            for name, scale in zip(params.targets, fitted.scales, strict=True)
        ]
    return (*asked, Target(SIMILARITY, "domain"))
