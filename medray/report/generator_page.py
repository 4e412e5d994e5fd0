"""report.html of a generator: one file that shows a GeneratorReport; nothing is fetched."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from medray.report.gallery import Card
from medray.report.generators import GeneratorReport, MakerRow, meaning, value_text
from medray.report.plots import history_svgs


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the page shows beside the document: plots as (title, SVG), and molecules."""

    distributions: tuple[tuple[str, str], ...]
    latents: str
    molecules: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One measure of every maker: its name, what it says, and its values as read."""

    name: str
    meaning: str
    cells: tuple[str, ...]


def render_generator(report: GeneratorReport, drawn: Drawn) -> str:
    """Give the page. Equal input, equal page."""
    environment = Environment(
        loader=PackageLoader("medray.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("generator.html.j2").render(
        report=report,
        drawn=drawn,
        own=[maker for maker in report.makers if maker.kind != "published"],
        ours=list(_lines(report, ("way", "beside"))),
        published=[maker for maker in report.makers if maker.kind == "published"],
        theirs=list(_lines(report, ("published",), report.main)),
        history=history_svgs(report.history) if report.history else [],
        headline=_headline(report),
        lineage=list(_flat(report.provenance.lineage)),
        software=list(_flat(report.provenance.software)),
        spec_yaml=yaml.safe_dump(report.spec, sort_keys=False, allow_unicode=True),
    )


def _lines(
    report: GeneratorReport, kinds: tuple[str, ...], first: MakerRow | None = None
) -> Iterator[Line]:
    """A line per measure that any of these makers has."""
    makers = [maker for maker in report.makers if maker.kind in kinds]
    if not makers:
        return
    shown = [first, *makers] if first else makers
    for name in report.main.measures:
        if any(name in maker.measures for maker in makers):
            cells = tuple(value_text(maker.measures.get(name)) for maker in shown)
            yield Line(name, meaning(name), cells)


def _headline(report: GeneratorReport) -> list[tuple[str, str, str]]:
    """Label, value and meaning of the numbers that stand first."""
    measures = report.main.measures
    unique = "unique@10000" if _defined(report, "unique@10000") else "unique@1000"
    wanted = ("valid", unique, "Novelty", f"FCD/{report.references[0]}")
    return [(name, value_text(measures[name]).partition(" ±")[0], meaning(name)) for name in wanted]


def _defined(report: GeneratorReport, name: str) -> bool:
    found = report.main.measures.get(name)
    return found is not None and found.mean is not None


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as "a b: value" lines."""
    for key, value in tree.items():
        name = f"{prefix} {key}".strip()
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        elif value is not None:
            yield name, str(value)
