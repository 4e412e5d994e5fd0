"""Whether one way of making molecules is better than another, or only luckier.

A difference counts where the 95 % interval of Welch's t-test over samplings leaves out 0. Samplings
are draws of one training: another training could differ by more, and the words say so.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import mean, stdev

import numpy as np
from scipy import stats

from medray.report.generators import Comparison, MakerRow, Measured, Verdict

_LEVEL = 0.05
# Which end is better. Diversity within has none: a generator should be as diverse as its data.
BETTER: Mapping[str, int] = {
    "valid": 1,
    "unique@1000": 1,
    "unique@10000": 1,
    "FCD": -1,
    "SNN": 1,
    "Frag": 1,
    "Scaf": 1,
    "Filters": 1,
    "Novelty": 1,
    "logP": -1,
    "SA": -1,
    "QED": -1,
    "weight": -1,
}


def measured(values: Sequence[float]) -> Measured:
    """Mean and spread of one measure over samplings; null where one of them has none."""
    each = tuple(float(v) if isfinite(v) else None for v in values)
    known = [v for v in each if v is not None]
    whole = len(known) == len(each)
    return Measured(
        values=each,
        mean=mean(known) if whole else None,
        deviation=stdev(known) if whole and len(known) > 1 else None,
    )


def compare(own: MakerRow, rival: MakerRow, fcd: str) -> Comparison:
    """The first way beside a rival. `fcd`: the measure that says how near molecules are."""
    verdicts: dict[str, Verdict] = {
        name: _verdict(own.measures[name], rival.measures[name], BETTER[name.partition("/")[0]])
        for name in own.measures
        if name.partition("/")[0] in BETTER and _defined(name, own, rival)
    }
    found = verdicts.get(fcd, "spread not known")
    nearer = None if found == "spread not known" else found == "better"
    return Comparison(
        rival=rival.name,
        verdicts=verdicts,
        nearer=nearer,
        sentence=_sentence(own, rival, verdicts, fcd),
    )


def _defined(name: str, *makers: MakerRow) -> bool:
    return all(name in one.measures and one.measures[name].mean is not None for one in makers)


def _verdict(own: Measured, rival: Measured, better: int) -> Verdict:
    one = [v for v in own.values if v is not None]
    other = [v for v in rival.values if v is not None]
    if min(len(one), len(other)) < 2:
        return "spread not known"
    if np.ptp([*one, *other]) == 0:
        return "no clear difference"
    chance = 0.0
    if np.ptp(one) or np.ptp(other):
        ours = (mean(one), stdev(one), len(one))
        theirs = (mean(other), stdev(other), len(other))
        welch = stats.ttest_ind_from_stats(*ours, *theirs, equal_var=False)
        chance = float(welch.pvalue)
    if chance >= _LEVEL:
        return "no clear difference"
    return "better" if (mean(one) - mean(other)) * better > 0 else "worse"


def _sentence(own: MakerRow, rival: MakerRow, verdicts: Mapping[str, Verdict], fcd: str) -> str:
    one, other = own.measures[fcd].mean, rival.measures[fcd].mean
    numbers = "is not defined"
    if one is not None and other is not None:
        numbers = f"{one:.3f} against {other:.3f}"
    head = f"Beside {rival.name}: {fcd} {numbers}"
    counts = {kind: list(verdicts.values()).count(kind) for kind in set(verdicts.values())}
    if counts.get("spread not known"):
        return f"{head}; with one sampling of each, the spread is not known."
    if fcd not in verdicts:
        return f"{head}."
    return (
        f"{head}, {verdicts[fcd]}. Of {len(verdicts)} measures it is better in "
        f"{counts.get('better', 0)}, worse in {counts.get('worse', 0)}, and "
        f"{counts.get('no clear difference', 0)} show no clear difference."
    )


def verdict(own: MakerRow, comparisons: Sequence[Comparison]) -> str:
    """Whether the first way earns its place, in words; "" where nothing stands beside it."""
    if not comparisons:
        return ""
    if any(one.nearer is None for one in comparisons):
        return (
            f"Whether “{own.name}” earns its place cannot be said: one sampling of each says "
            "nothing of their spread. Ask for `evaluate.samplings: 3`."
        )
    others = [one.rival for one in comparisons if not one.nearer]
    trained = "These are samplings of one training; another seed may turn out otherwise."
    if others:
        simpler = "which is simpler" if len(others) == 1 else "which are simpler"
        return (
            f"“{own.name}” does not earn its place: its molecules are not nearer to held-out "
            f"than those of {' and '.join(others)}, {simpler}. {trained}"
        )
    rivals = " and ".join(one.rival for one in comparisons)
    return (
        f"“{own.name}” earns its place: its molecules are nearer to held-out than those of "
        f"{rivals}, by more than samplings differ. {trained}"
    )
