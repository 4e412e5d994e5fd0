"""The MOSES metrics of a set of generated molecules, from profiles. Pure functions; no torch.

Definitions: Polykovskiy et al., Front. Pharmacol. 2020;11:565644, as the molsets package (MIT)
computes them. What they hold of: every valid molecule, as often as it was generated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import wasserstein_distance

from medray.molecules.metrics.distributions import cosine, frechet_distance
from medray.molecules.metrics.profile import Profile
from medray.molecules.metrics.similarity import internal_diversity, nearest
from medray.molecules.properties import PROPERTIES

compute: Any = pc
NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Closeness:
    """How near the generated molecules are to a reference set.

    fcd   Fréchet ChemNet distance; biased upward by about c/n, so compare sets of one size.
    snn   mean Tanimoto similarity to the most similar reference.
    frag  cosine similarity of the counts of BRICS fragments; scaf: of scaffolds.
    """

    fcd: float
    snn: float
    frag: float
    scaf: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """A row of the MOSES table. NaN where a number is not defined.

    given      SMILES that went in; valid: the share of them that are molecules.
    unique     k → share of distinct molecules among the first k valid ones; NaN with fewer.
    closeness  name of a reference → distances to it.
    filters    share that passes the MCF, PAINS, element, charge and ring filters.
    properties name → Wasserstein distance to the first reference, in units of the property.
    novelty    share of the distinct molecules that is not in the training set.
    """

    given: int
    valid: float
    unique: Mapping[int, float]
    closeness: Mapping[str, Closeness]
    int_div: float
    int_div2: float
    filters: float
    properties: Mapping[str, float]
    novelty: float

    def to_dict(self) -> dict[str, float]:
        """Column of the MOSES table → value, after `n`, how many SMILES went in."""
        row: dict[str, float] = {"n": self.given, "valid": self.valid}
        row |= {f"unique@{k}": share for k, share in self.unique.items()}
        for column, name in _CLOSENESS.items():
            row |= {f"{column}/{r}": getattr(c, name) for r, c in self.closeness.items()}
        row |= {"IntDiv": self.int_div, "IntDiv2": self.int_div2, "Filters": self.filters}
        return row | dict(self.properties) | {"Novelty": self.novelty}


_CLOSENESS = {"FCD": "fcd", "SNN": "snn", "Frag": "frag", "Scaf": "scaf"}


def moses_metrics(
    generated: Profile,
    references: Mapping[str, Profile],
    known: pa.Array | pa.ChunkedArray | None = None,
    *,
    unique_at: Sequence[int] = (1000, 10000),
) -> Metrics:
    """Every column of the MOSES table.

    generated   a profile of the role `generated`, its SMILES in the order they were made in.
    references  name → profile; MOSES has `Test` and `TestSF`. The first is the one whose properties
                are compared.
    known       canonical SMILES of the training set; absent: novelty is NaN.

    Raises ValueError without a reference.
    """
    if not references:
        raise ValueError("there is no reference to compare with")
    smiles, passes = generated.smiles(), generated.passes()
    int_div, int_div2 = internal_diversity(generated.fingerprints())
    return Metrics(
        given=generated.given,
        valid=len(smiles) / generated.given if generated.given else NAN,
        unique={k: unique_share(smiles, k) for k in unique_at},
        closeness={name: closeness(generated, other) for name, other in references.items()},
        int_div=int_div,
        int_div2=int_div2,
        filters=float(passes.mean()) if passes.size else NAN,
        properties=property_distances(generated, next(iter(references.values()))),
        novelty=NAN if known is None else novel_share(smiles, known),
    )


def closeness(generated: Profile, reference: Profile) -> Closeness:
    """Distances to one reference set; NaN where a set has no molecules."""
    similar = nearest(generated.fingerprints(), reference.fingerprints())
    return Closeness(
        fcd=frechet_distance(generated.chemnet, reference.chemnet),
        snn=float(similar.mean()) if similar.size else NAN,
        frag=cosine(reference.fragments(), generated.fragments()),
        scaf=cosine(reference.scaffolds(), generated.scaffolds()),
    )


def unique_share(smiles: pa.Array | pa.ChunkedArray, k: int) -> float:
    """Share of distinct SMILES among the first k; NaN where there are fewer than k."""
    return compute.count_distinct(smiles[:k]).as_py() / k if 0 < k <= len(smiles) else NAN


def novel_share(smiles: pa.Array | pa.ChunkedArray, known: pa.Array | pa.ChunkedArray) -> float:
    """Share of the distinct SMILES that are not known; NaN where there are none."""
    distinct = compute.unique(smiles)
    if not len(distinct):
        return NAN
    return 1.0 - compute.sum(compute.is_in(distinct, value_set=known)).as_py() / len(distinct)


def property_distances(generated: Profile, reference: Profile) -> dict[str, float]:
    """Property → 1-Wasserstein distance of its distributions; NaN where a set is empty."""
    return {
        name: float(wasserstein_distance(ours, theirs)) if min(ours.size, theirs.size) else NAN
        for name in PROPERTIES
        for ours, theirs in [(generated.values(name), reference.values(name))]
    }
