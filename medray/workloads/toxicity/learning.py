"""The networks that are trained, their losses, and how their answers are read.

Shapes: B molecules, L targets.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from medray.metrics.discrimination import auroc
from medray.models.properties import Layout, build
from medray.workload import Batch, Columns, Modules
from medray.workloads.toxicity.labels import truth_of
from medray.workloads.toxicity.params import (
    SIMILARITY,
    Member,
    ToxicityFitted,
    ToxicityParams,
)

Array = np.ndarray[Any, Any]


def build_modules(
    params: ToxicityParams,
    fitted: ToxicityFitted,
    atom_sizes: tuple[int, ...],
    bond_sizes: tuple[int, ...],
) -> dict[str, nn.Module]:
    """A network per member of the ensemble, under its name."""

    def layout(member: Member) -> Layout:
        return Layout(
            places=params.fingerprint.places,
            descriptors=fitted.descriptors.width if member.descriptors else 0,
            tokens=fitted.vocabulary.size if fitted.vocabulary else 0,
            atom_sizes=atom_sizes,
            bond_sizes=bond_sizes,
            hidden=member.hidden,
            layers=member.layers,
            steps=member.steps,
            dropout=member.dropout,
            input_dropout=member.input_dropout,
            outputs=len(params.targets),
            readout=member.readout,
        )

    return {member.name: build(member.network, layout(member)) for member in params.ensemble}


def loss(
    modules: Modules,
    batch: Batch,
    rng: Generator,
    member: str,
    params: ToxicityParams,
    fitted: ToxicityFitted,
) -> Tensor:
    """Mean loss over the labels that are there; 0 when none is."""
    output_BL, labels_BL = modules[member](batch).float(), batch["labels"]
    known_BL = ~torch.isnan(labels_BL)
    weight_BL = known_BL.float()
    observed_BL = torch.where(known_BL, labels_BL, 0.0)
    if params.task == "regression":
        each_BL = (output_BL - _standard(observed_BL, fitted)) ** 2
    else:
        smooth_BL = observed_BL * (1 - params.label_smoothing) + 0.5 * params.label_smoothing
        each_BL = functional.binary_cross_entropy_with_logits(
            output_BL, smooth_BL, reduction="none"
        )
        if params.class_weights == "balanced":
            even_L2 = torch.tensor(_balanced(fitted.counts), device=output_BL.device)
            weight_BL = weight_BL * torch.where(observed_BL > 0.5, even_L2[:, 1], even_L2[:, 0])
    return (each_BL * weight_BL).sum() / weight_BL.sum().clamp_min(1e-12)


def _standard(values_BL: Tensor, fitted: ToxicityFitted) -> Tensor:
    """Values of the source in standard deviations; see `Scale.standard`."""
    columns = [
        (torch.log1p(value_B) if scale.transform == "log" else value_B).sub(scale.mean) / scale.std
        for scale, value_B in zip(fitted.scales, values_BL.unbind(1), strict=True)
    ]
    return torch.stack(columns, 1)


def _balanced(counts: tuple[tuple[int, int], ...]) -> list[list[float]]:
    return [[sum(pair) / (2 * max(one, 1)) for one in pair] for pair in counts]


def predict(modules: Modules, batch: Batch, params: ToxicityParams) -> Mapping[str, Tensor]:
    """Target → logits (B,), the mean of the members'; and the similarity beside them."""
    total_BL = sum(modules[member.name](batch).float() for member in params.ensemble)
    mean_BL = torch.as_tensor(total_BL) / params.members
    asked = dict(zip(params.targets, mean_BL.unbind(1), strict=True))
    return asked | {SIMILARITY: batch["similarity"].float()}


def measure(
    logits: Mapping[str, Array], columns: Columns, params: ToxicityParams, fitted: ToxicityFitted
) -> dict[str, float]:
    """`loss` and `auroc`, or `loss` (in standard deviations) and `rmse`: means over the targets.

    Targets where one is undefined are left out of it; NaN says that none is left.
    """
    truth = truth_of(columns, params)
    each: list[dict[str, float]] = []
    for place, name in enumerate(params.targets):
        known = ~np.isnan(truth[name])
        answer, observed = np.asarray(logits[name], np.float64)[known], truth[name][known]
        if not len(observed) or not np.isfinite(answer).all():
            continue
        if params.task == "binary":
            cost = np.logaddexp(0, answer) - observed * answer
            each.append({"loss": float(cost.mean()), "auroc": auroc(observed, answer)})
            continue
        scale = fitted.scales[place]
        squared = (answer - scale.standard(observed)) ** 2
        error = float(np.sqrt(np.mean((scale.back(answer) - observed) ** 2)))
        each.append({"loss": float(squared.mean()), "rmse": error})
    names = ("loss", "auroc") if params.task == "binary" else ("loss", "rmse")
    return {name: _mean([one[name] for one in each]) for name in names}


def _mean(values: list[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
