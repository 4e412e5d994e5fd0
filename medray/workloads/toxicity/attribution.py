"""What each atom added to an answer: integrated gradients over what the networks read of it.

Sundararajan et al. 2017 (arXiv:1703.01365). The path goes from a molecule whose atoms, surroundings
and tokens weigh nothing, its bonds and descriptors as they are, to the molecule as it is. A place
of the fingerprint is shared out among the atoms that its surroundings reach; tokens that are no
atom (bonds, branches, rings) and what the empty molecule is answered belong to none. All members
of an ensemble walk the same path, so that credits of the mean answer are the mean of theirs.

Needs RDKit. Shapes: one molecule; A atoms, F places, T tokens, N points of the path.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from medray.errors import DataError
from medray.molecules import tokens
from medray.molecules.fingerprints import by_atom
from medray.molecules.graphs import graphs
from medray.molecules.text import strings
from medray.workload import AtomCredits, Batch, Columns, Modules, on_device
from medray.workloads.toxicity import inputs
from medray.workloads.toxicity.learning import predict
from medray.workloads.toxicity.params import SIMILARITY, ToxicityFitted, ToxicityParams

Array = np.ndarray[Any, Any]

TOLERANCE: Final = 0.01  # of the difference that is explained
_NOISE = 1e-4  # differences of an answer in float32 that say nothing
_POINTS: Final = (32, 64, 128, 256, 512)
_AT_ONCE = 64  # points per pass
_WEIGHTED: Final = {"counts": "weight_counts", "atoms": "weight_atoms", "ids": "weight_tokens"}


def explain_molecules(
    modules: Modules, columns: Columns, target: str, params: ToxicityParams, fitted: ToxicityFitted
) -> AtomCredits:
    """Credit every atom of every molecule. Raises DataError for what is no answer of a network."""
    if target == SIMILARITY:
        raise DataError(
            "the similarity to known molecules is no answer of a network",
            remedy=f"one of: {', '.join(params.targets)}",
        )
    smiles = strings(columns["smiles"])
    each = [_explain(modules, one, target, params, fitted) for one in smiles]
    return AtomCredits(
        atoms=tuple(atoms for atoms, _, _ in each),
        rest=np.array([rest for _, rest, _ in each], np.float64),
        answer=np.array([answer for _, _, answer in each], np.float64),
    )


def _explain(
    modules: Modules, smiles: str, target: str, params: ToxicityParams, fitted: ToxicityFitted
) -> tuple[Array, float, float]:
    """Credits (A,), what belongs to no atom, and the whole."""
    columns = {"smiles": np.array([smiles.encode()])}
    batch = on_device(inputs.trim(inputs.collate(columns, params, fitted)), modules)
    answer, empty, credit = integrated_gradients(modules, batch, target, params)
    atoms_A = np.zeros(len(graphs([smiles]).atoms[0]))
    rest = empty
    if "weight_atoms" in credit:
        atoms_A += credit["weight_atoms"]
    if "weight_counts" in credit:
        _, lost_AF = by_atom(smiles, params.fingerprint.places, params.fingerprint.radius)
        atoms_A += (lost_AF / np.maximum(lost_AF.sum(axis=0), 1)) @ credit["weight_counts"]
    if "weight_tokens" in credit:
        atom_T = _atoms_of_tokens(smiles, len(atoms_A))
        credit_T = credit["weight_tokens"]
        own_T = atom_T >= 0
        np.add.at(atoms_A, atom_T[own_T], credit_T[: len(atom_T)][own_T])
        rest += float(credit_T[: len(atom_T)][~own_T].sum() + credit_T[len(atom_T) :].sum())
    return atoms_A, rest, answer


def integrated_gradients(
    modules: Modules, batch: Batch, target: str, params: ToxicityParams
) -> tuple[float, float, dict[str, Array]]:
    """Answer, answer for the empty molecule, and the credit of every weight, of one molecule.

    Points of the path are doubled until the credits miss the difference by less than TOLERANCE of
    it, or there are 512.
    """
    whole = {
        weight: torch.ones(batch[name].shape[:2], device=batch[name].device)
        for name, weight in _WEIGHTED.items()
        if name in batch
    }
    with torch.no_grad():
        ends = [
            float(predict(modules, {**batch, **weights}, params)[target])
            for weights in ({name: one * share for name, one in whole.items()} for share in (0, 1))
        ]
    credit: dict[str, Array] = {}
    # cuDNN's recurrences have no gradient in evaluation mode
    with torch.backends.cudnn.flags(enabled=False):
        for points in _POINTS:
            credit = _path(modules, batch, whole, target, params, points)
            missed = ends[1] - ends[0] - sum(float(one.sum()) for one in credit.values())
            if abs(missed) < max(TOLERANCE * abs(ends[1] - ends[0]), _NOISE):
                break
    return ends[1], ends[0], credit


def _path(
    modules: Modules,
    batch: Batch,
    whole: Mapping[str, Tensor],
    target: str,
    params: ToxicityParams,
    points: int,
) -> dict[str, Array]:
    """Mean gradient along the path, at the middle of each of its parts."""
    share_N = (torch.arange(points, dtype=torch.float32) + 0.5) / points
    total = {name: np.zeros(one.shape[1]) for name, one in whole.items()}
    for some_N in share_N.split(_AT_ONCE):
        weights = {
            name: (one * some_N[:, None].to(one.device)).requires_grad_()
            for name, one in whole.items()
        }
        rows = {
            name: values.expand(len(some_N), *values.shape[1:]) for name, values in batch.items()
        }
        answer_N = predict(modules, {**rows, **weights}, params)[target]
        slopes = torch.autograd.grad(answer_N.sum(), list(weights.values()))
        for name, slope in zip(weights, slopes, strict=True):
            total[name] += slope.double().sum(0).cpu().numpy() / points
    return total


def _atoms_of_tokens(smiles: str, atoms: int) -> Array:
    """Number of the atom that each token (T,) is; -1 for bonds, branches and rings.

    Explicit hydrogens that RDKit reads into their neighbours are no atoms.
    """
    parts = tokens.split(smiles, "smiles")
    is_atom = [part[0] == "[" or part[0].isalpha() for part in parts]
    if sum(is_atom) != atoms:
        is_atom = [one and part != "[H]" for one, part in zip(is_atom, parts, strict=True)]
    if sum(is_atom) != atoms:
        raise DataError("the tokens of a structure and its atoms do not agree")
    return np.where(is_atom, np.cumsum(is_atom) - 1, -1)
