"""Table and summary → what the gallery shows: which molecules are drawn, and every word and number.

Pure but for RDKit's drawing; the same table gives the same page.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medray.generate.summary import GenerateSummary
from medray.molecules.inline_drawing import molecule_svg
from medray.report.gallery import Card, Fact, Gallery, Neighbour, Row
from medray.report.molecule_plots import distribution_svg
from medray.report.words import MISSING, decimal, percent

BEST, RANDOM, ROWS = 100, 100, 1000
RESEARCH_USE = (
    "Research use only. Ideas of a model, not advice: nothing here says that a molecule can be "
    "made, works or is safe."
)
PROPERTIES = ("QED", "SA", "logP", "weight")  # in the order of the page
_DIGITS: Mapping[str, int] = {"QED": 3, "SA": 2, "logP": 2, "weight": 1, "similarity": 2}
AXES: Mapping[str, str] = {
    "QED": "QED (drug-likeness, 0 to 1)",
    "SA": "SA (1 easy to make, 10 hard)",
    "logP": "logP",
    "weight": "Weight, g/mol",
    "similarity": "Similarity to the nearest molecule of train",
}


def gallery_of(
    summary: GenerateSummary,
    table: pa.Table,
    order: str,
    train: Mapping[str, NDArray[np.float64]],
) -> Gallery:
    """The page on the rows of GENERATED.

    order  in words, what they are ranked by. train: property → values of some of `train`.
    """
    judged = tuple(name for name in table.column_names if "/" in name)
    compared = ("similarity",) if table["similarity"].null_count == 0 else ()
    rest = table.num_rows - BEST
    drawn = np.random.default_rng(summary.seed).permutation(max(rest, 0))[:RANDOM] + BEST
    which = pa.array(np.sort(drawn), pa.int64())
    shown = (*PROPERTIES, *compared, *judged)
    return Gallery(
        title=summary.package.partition("#")[0],
        subtitle=f"{summary.kept:,} molecules drawn by the way “{summary.way}”, temperature "
        f"{summary.temperature:g}, seed {summary.seed}.",
        research_use=RESEARCH_USE,
        warnings=_warnings(summary),
        facts=tuple(_facts(summary)),
        order=order,
        best=tuple(card_of(row, shown) for row in table.slice(0, BEST).to_pylist()),
        random=tuple(card_of(row, shown) for row in table.take(which).to_pylist()),
        plots=tuple(_plots(table, shown, train)),
        columns=shown,
        rows=tuple(_row(row, shown) for row in table.slice(0, ROWS).to_pylist()),
        total=summary.kept,
        provenance=_provenance(summary),
    )


def _warnings(summary: GenerateSummary) -> tuple[str, ...]:
    found: list[str] = []
    if summary.short:
        found.append(
            f"{summary.wanted:,} molecules were asked for; after {summary.drawn:,} draws there "
            f"were {summary.kept:,}, and it was given up."
        )
    if summary.of_training is None:
        found.append(
            "There was no dataset to compare with: whether a molecule is new is not known here."
        )
    if summary.of_training is False:
        found.append(
            "The molecules were compared with another dataset than the package was trained on: "
            "“new” and “nearest” are about that one."
        )
    if not summary.filtered and summary.alerts:
        found.append(
            f"Medicinal chemistry filters hold something against {summary.alerts:,} of the "
            "molecules; they were kept, as was asked."
        )
    return tuple(found)


def _facts(summary: GenerateSummary) -> Sequence[Fact]:
    facts = [
        Fact("Molecules", f"{summary.kept:,}", f"of {summary.drawn:,} draws"),
        Fact("Valid", percent(summary.valid / summary.drawn), "of the draws are molecules"),
    ]
    if summary.novel is not None:
        share = summary.novel / max(summary.distinct, 1)
        facts.append(Fact("New", percent(share), "of the distinct ones are not in train"))
    qed, of_train = summary.means["QED"], summary.train_means.get("QED")
    beside = "" if of_train is None else f"; molecules of train have {of_train:.3f}"
    facts.append(Fact("Mean QED", decimal(qed), f"drug-likeness, 0 to 1{beside}"))
    return facts


def card_of(row: Mapping[str, Any], columns: Sequence[str]) -> Card:
    """One molecule, with those of `columns` that are numbers; `neighbour` and `novel` if known."""
    near = row.get("neighbour")
    neighbour = None
    if near is not None:
        svg = molecule_svg(near, f"nearest molecule of train, {near}")
        neighbour = Neighbour(near, svg, decimal(row["similarity"], 2))
    values = tuple((name, _text(name, row[name])) for name in columns if name != "similarity")
    svg = molecule_svg(row["smiles"], f"molecule {row['rank']}, {row['smiles']}")
    return Card(row["rank"], row["smiles"], svg, values, row.get("novel"), neighbour)


def _row(row: Mapping[str, Any], columns: Sequence[str]) -> Row:
    cells = tuple((_text(name, row[name]), row[name]) for name in columns)
    return Row(row["rank"], row["smiles"], cells)


def _text(name: str, value: float | None) -> str:
    return MISSING if value is None else decimal(value, _DIGITS.get(name, 3))


def _plots(
    table: pa.Table, columns: Sequence[str], train: Mapping[str, NDArray[np.float64]]
) -> Sequence[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name in columns:
        made = table[name].drop_null().to_numpy()
        if not len(made):
            continue
        sets = {"train": train[name]} if name in train else {}
        svg = distribution_svg(name, {**sets, "generated": made}, AXES.get(name, name))
        found.append((name, svg))
    return found


def _provenance(summary: GenerateSummary) -> tuple[tuple[str, str], ...]:
    judges = [("Predictions by", ref) for ref in summary.toxicity]
    counts = [
        ("Draws", f"{summary.drawn:,}, of which {summary.valid:,} valid"),
        ("Distinct molecules", f"{summary.distinct:,}"),
        ("With filter alerts", f"{summary.alerts:,}"),
        ("Identity of the work", summary.identity),
    ]
    return (("Package", summary.package), *judges, *counts)
