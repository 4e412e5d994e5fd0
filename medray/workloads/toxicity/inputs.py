"""SMILES → what preprocessing learns, and the tensors of every network. Needs RDKit.

The same code in training, scoring and serving; what was computed of a structure is remembered.
Shapes: B molecules, F places, D descriptors, A atoms, E directed bonds, T tokens, L targets.
"""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.nn import functional

from medray.errors import DataError
from medray.molecules import tokens
from medray.molecules.descriptors import NAMES, describe
from medray.molecules.domain import Known
from medray.molecules.fingerprints import counts, packed
from medray.molecules.graphs import graphs
from medray.molecules.scaling import DescriptorScale
from medray.molecules.text import strings
from medray.records.scale import Scale
from medray.workload import Batch, Columns
from medray.workloads.toxicity.labels import matrix_of, present
from medray.workloads.toxicity.params import ToxicityFitted, ToxicityParams

Array = np.ndarray[Any, Any]

SUMMARY = pa.schema(
    [
        pa.field("smiles", pa.string()),
        pa.field("fingerprint", pa.binary()),
        pa.field("labels", pa.list_(pa.float64())),
    ]
)


def summarize(columns: Columns, params: ToxicityParams) -> pa.Table:
    """One row per molecule: robust cuts have no sums."""
    smiles = strings(columns["smiles"])
    labels = matrix_of(columns, params)
    rows = [list(row) for row in labels.tolist()]
    return pa.table([smiles, [row.tobytes() for row in packed(smiles)], rows], schema=SUMMARY)


def fit(summaries: pa.Table, params: ToxicityParams) -> ToxicityFitted:
    """Scales, tokens and fingerprints of `train`.

    Raises DataError when a target has nothing to tell apart.
    """
    smiles = summaries["smiles"].to_pylist()
    labels_BL = np.array(summaries["labels"].to_pylist(), np.float64)
    known = summaries["fingerprint"].to_pylist()[: params.domain]  # by item: in random order
    described = DescriptorScale()
    if params.described:
        described = DescriptorScale.learn(NAMES, describe(smiles, NAMES))
    words = None
    if "gru" in params.kinds:
        found, longest = tokens.count(smiles, "smiles")
        words = tokens.learn(dict(Counter(found)), longest, "smiles", params.min_molecules)
    binary = params.task == "binary"
    return ToxicityFitted(
        molecules=len(smiles),
        descriptors=described,
        vocabulary=words,
        counts=_counts(labels_BL, params) if binary else (),
        scales=() if binary else _scales(labels_BL, params),
        known=Known.of(np.frombuffer(b"".join(known), np.uint8).reshape(len(known), -1)),
    )


def _counts(labels_BL: Array, params: ToxicityParams) -> tuple[tuple[int, int], ...]:
    seen = [(int((one == 0).sum()), int((one == 1).sum())) for one in labels_BL.T]
    for name, (negatives, positives) in zip(params.targets, seen, strict=True):
        if not negatives or not positives:
            raise DataError(
                f"`train` holds {negatives} negatives and {positives} positives of {name!r}: there "
                "is nothing to tell apart",
                remedy="leave it out of `params.targets`, or check the split",
            )
    return tuple(seen)


def _scales(labels_BL: Array, params: ToxicityParams) -> tuple[Scale, ...]:
    found: list[Scale] = []
    for name, values in zip(params.targets, labels_BL.T, strict=True):
        known = values[~np.isnan(values)]
        if params.transform == "log" and (known < 0).any():
            raise DataError(
                f"the column {name!r} holds negative values, which have no logarithm",
                remedy="use `params.transform: linear`",
            )
        learned = np.log1p(known) if params.transform == "log" else known
        if len(known) < 2 or not np.std(learned) > 0:
            raise DataError(
                f"`train` holds no two different values of {name!r}: there is nothing to learn",
                remedy="leave it out of `params.targets`, or check the split",
            )
        mean, std = float(learned.mean()), float(learned.std())
        found.append(Scale(transform=params.transform, mean=mean, std=std))
    return tuple(found)


def collate(columns: Columns, params: ToxicityParams, fitted: ToxicityFitted) -> Batch:
    """What the ensemble's networks read, `similarity` (B,), and `labels` (B, L) when there.

    `descriptors` (B, D) float32; `counts` (B, F) uint8; `atoms`, `bonds` uint8 and `ends` int16;
    `ids` (B, T) int16.
    """
    smiles = strings(columns["smiles"])
    scale, found = fitted.descriptors, dict[str, Array]()
    found["descriptors"] = scale.apply(describe(smiles, scale.names))
    if "mlp" in params.kinds:
        spec = params.fingerprint
        found["counts"] = counts(smiles, spec.places, spec.radius)
    if "mpnn" in params.kinds:
        drawn = graphs(smiles)
        found |= {"atoms": drawn.atoms, "bonds": drawn.bonds, "ends": drawn.ends}
    if fitted.vocabulary is not None:
        found["ids"] = fitted.vocabulary.encode(smiles)
    found["similarity"] = fitted.known.nearest(packed(smiles))
    if present(columns, params):
        found["labels"] = matrix_of(columns, params).astype(np.float32)
    return {name: torch.from_numpy(np.ascontiguousarray(one)) for name, one in found.items()}


def trim(batch: Batch) -> Batch:
    """Leave off atoms, bonds and tokens that no molecule of the batch has."""
    return _cut(batch, _lengths(batch))


def framed(batch: Batch) -> Batch:
    """Padded to the next of few fixed numbers of atoms, bonds and tokens."""
    lengths = _lengths(batch)
    padded = dict(_cut(batch, lengths))
    for name, length in lengths.items():
        more = _frame(length) - length
        value = -1 if name == "ends" else 0
        across = [0, 0] * (padded[name].ndim - 2)
        padded[name] = functional.pad(padded[name], [*across, 0, more], value=value)
    return padded


def _lengths(batch: Batch) -> dict[str, int]:
    """Places that the largest molecule of the batch needs, by tensor."""
    found: dict[str, int] = {}
    if "atoms" in batch:
        found["atoms"] = max(1, int((batch["atoms"][..., 0] > 0).sum(1).max()))
        found["bonds"] = found["ends"] = int((batch["ends"][..., 0] >= 0).sum(1).max())
    if "ids" in batch:
        found["ids"] = max(1, int((batch["ids"] != tokens.PAD).sum(1).max()))
    return found


def _cut(batch: Batch, lengths: dict[str, int]) -> Batch:
    return {
        name: values[:, : lengths[name]] if name in lengths else values
        for name, values in batch.items()
    }


def _frame(size: int) -> int:
    """The next multiple of 8, of 16 past 64, of 32 past 128, and so on."""
    step = 8
    while size > 8 * step:
        step *= 2
    return max(8, -(-size // step) * step)
