"""Figure 1: the MOSES metrics, beside the published Train row and beside molsets' own code.

    python -m benchmarks.moses_metrics

30,000 training molecules, drawn in six lists of 5,000, are measured as generated ones are. The
published row was made with the whole training set: FCD and Scaf depend on the size of a set, so
they are carried from 30,000 to 1,584,663 molecules before they are compared.

    FCD    grows by c/n: c from the lists and the whole draw
    Scaf   counts of n molecules have the squared norm n(n − 1)·s + n, where s, how often two
           molecules share a scaffold, has an unbiased estimate

A value may miss the published one by four standard errors, from the spread of the six lists, and
half a unit of the last digit printed. Profiles are kept beside the data (some 40 CPU minutes the
first time; no more than the similarity search afterwards).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from math import sqrt

import numpy as np
from rdkit import Chem, rdBase

from benchmarks import molsets_oracle, moses
from benchmarks.figures import Figure
from medray.molecules.metrics.distributions import cosine, frechet_distance
from medray.molecules.metrics.moses import moses_metrics
from medray.molecules.metrics.profile import Profile, Role, merge
from medray.molecules.metrics.reading import canonical
from medray.molecules.metrics.similarity import internal_diversity, nearest
from medray.score.profiles import known_smiles, profiled

LISTS, EACH = 6, 5_000
TRAIN = 1_584_663
# Polykovskiy et al. 2020, the row "Train".
PUBLISHED = {
    "valid": 1.0,
    "unique@10000": 1.0,
    "FCD/Test": 0.008,
    "FCD/TestSF": 0.4755,
    "SNN/Test": 0.6419,
    "Frag/Test": 1.0,
    "Scaf/Test": 0.9907,
    "Scaf/TestSF": 0.0,
    "IntDiv": 0.8567,
    "Filters": 1.0,
}
ROUNDED = {"FCD/Test": 0.0005}
STANDARD_ERRORS = 4.0
BAR = 1e-5  # the authors average ChemNet's activations in single precision


def figures() -> list[Figure]:
    """Measure both comparisons; the second first, as it takes a minute."""
    return [*beside_molsets(), *beside_the_published_row()]


# ---------------------------------------------------------------- the published row


def beside_the_published_row() -> list[Figure]:
    """30,000 training molecules against Test and TestSF."""
    train = moses.smiles("train")
    drawn = np.random.default_rng(0).choice(len(train), LISTS * EACH, replace=False)
    lists = [_profile([train[at] for at in part], "generated") for part in drawn.reshape(LISTS, -1)]
    references = {
        "Test": _profile(moses.smiles("test"), "reference"),
        "TestSF": _profile(moses.smiles("test_scaffolds"), "reference"),
    }
    started = time.perf_counter()
    row = moses_metrics(merge(lists), references, unique_at=(10_000,)).to_dict()
    note = f"n = {LISTS * EACH:,}, sets compared in {time.perf_counter() - started:.0f} s"
    carried = _carried(lists, references)
    errors = _standard_errors(lists, references)
    found = []
    for column, published in PUBLISHED.items():
        value = carried.get(column, row[column])
        allowed = STANDARD_ERRORS * errors.get(column, 0.0) + ROUNDED.get(column, 0.00005)
        at_n = f" ({row[column]:.4f} at n = {LISTS * EACH:,})" if column in carried else ""
        found.append(
            Figure(
                name=f"Train row: {column}",
                value=f"{value:.4f}{at_n}",
                bar=f"{published} ± {allowed:.4f}",
                ok=abs(value - published) <= allowed,
                note=note,
            )
        )
    return found


def _carried(lists: Sequence[Profile], references: Mapping[str, Profile]) -> dict[str, float]:
    """What depends on the size of a set, as of the whole training set."""
    whole = merge(lists)
    found = {"Scaf/Test": _scaf(whole, references["Test"])}
    for name, reference in references.items():
        small = np.mean([frechet_distance(one.chemnet, reference.chemnet) for one in lists])
        large = frechet_distance(whole.chemnet, reference.chemnet)
        slope = (small - large) / (1 / EACH - 1 / whole.given)
        found[f"FCD/{name}"] = float(large - slope * (1 / whole.given - 1 / TRAIN))
    return found


def _scaf(generated: Profile, reference: Profile) -> float:
    """Scaf as of the whole training set."""
    ours, theirs = generated.scaffolds(), reference.scaffolds()
    counts = np.array(list(ours.values()), float)
    n = counts.sum()
    shared = (counts * (counts - 1)).sum() / (n * (n - 1))
    size = TRAIN * n / generated.given
    # The cosine of the draw, with the norm that its counts would have in the larger set.
    norm = np.sqrt((counts**2).sum()) / n
    return float(cosine(ours, theirs) * norm / sqrt(shared + (1 - shared) / size))


def _standard_errors(
    lists: Sequence[Profile], references: Mapping[str, Profile]
) -> dict[str, float]:
    """Of a column's value over the whole draw."""

    def spread(of: Callable[[Profile], float]) -> float:
        return float(np.std([of(one) for one in lists], ddof=1)) / sqrt(len(lists))

    test, beyond = references["Test"], references["TestSF"]
    one_by_one = nearest(lists[0].fingerprints(), test.fingerprints())
    return {
        "FCD/Test": spread(lambda one: frechet_distance(one.chemnet, test.chemnet)),
        "FCD/TestSF": spread(lambda one: frechet_distance(one.chemnet, beyond.chemnet)),
        "SNN/Test": float(one_by_one.std()) / sqrt(LISTS * EACH),
        "Frag/Test": spread(lambda one: cosine(one.fragments(), test.fragments())),
        "Scaf/Test": spread(lambda one: _scaf(one, test)),
        "IntDiv": spread(lambda one: internal_diversity(one.fingerprints())[0]),
    }


def _profile(smiles: Sequence[str], role: Role) -> Profile:
    return profiled(smiles, role, str(moses.folder() / "profiles"))


# ---------------------------------------------------------------- the authors' code


def beside_molsets() -> list[Figure]:
    """Every column of 500 texts, half of them odd, by both implementations."""
    generated, test, beyond, train = _samples()
    references = {"Test": _profile(test, "reference"), "TestSF": _profile(beyond, "reference")}
    ours = moses_metrics(
        _profile(generated, "generated"),
        references,
        known_smiles(train, str(moses.folder() / "profiles")),
        unique_at=(100, 300),
    ).to_dict()
    with molsets_oracle.all_metrics() as get_all_metrics:
        theirs = get_all_metrics(
            generated, k=[100, 300], test=test, test_scaffolds=beyond, train=train
        )
    return [
        Figure(
            name=f"beside molsets: {column}",
            value=f"{abs(ours[column] - value):.1e}",
            bar=f"≤ {BAR:.0e}",
            ok=abs(ours[column] - value) <= BAR,
            note=f"{moses.RELEASE} has {value:.6f} of {len(generated)}",
        )
        for column, value in theirs.items()
    ]


def _samples() -> tuple[list[str], list[str], list[str], list[str]]:
    """Generated, two references and training SMILES; canonical today, or none could be told new."""
    rng = np.random.default_rng(1)
    with rdBase.BlockLogs():
        real = _drawn(rng, "train", 250)
        odd = [_altered(one, rng) for one in _drawn(rng, "train", 200)]
        broken = [one[: len(one) // 2] for one in _drawn(rng, "train", 40)]
        train = [*real[:100], *_drawn(rng, "train", 100), *odd[:60]]
        known = [found[1] for found in map(canonical, train) if found]
    generated = [*real, *odd, *broken, *real[:10]]
    rng.shuffle(generated)
    return generated, _drawn(rng, "test", 500), _drawn(rng, "test_scaffolds", 500), known


def _drawn(rng: np.random.Generator, split: moses.Split, size: int) -> list[str]:
    every = moses.smiles(split)
    return [every[at] for at in rng.choice(len(every), size, replace=False)]


def _altered(smiles: str, rng: np.random.Generator) -> str:
    """Another molecule: an atom turned into what MOSES lacks, a charge, an alert, a large ring."""
    others = ["N", "S", "P", "[N+]", "[O-]", "Br", "C=O", "C#N", "N=N", "C9CCCCCCC9", "OO"]
    places = [at for at, symbol in enumerate(smiles) if symbol in "CNOcn"]
    while True:
        at = int(rng.choice(places))
        made = smiles[:at] + str(rng.choice(others)) + smiles[at + 1 :]
        if Chem.MolFromSmiles(made) is not None:
            return made


if __name__ == "__main__":
    for figure in figures():
        print(*figure.values(), sep="  ")
