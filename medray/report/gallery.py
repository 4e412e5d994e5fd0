"""gallery.html: molecules drawn, the best and some at random; one file, nothing fetched.

Owns the shape of the page; what is on it comes from medray.generate.
"""

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The most similar molecule of the training set."""

    smiles: str
    svg: str
    similarity: str


@dataclass(frozen=True, slots=True)
class Card:
    """One molecule. values: name → number as people read it."""

    rank: int
    smiles: str
    svg: str
    values: tuple[tuple[str, str], ...]
    novel: bool | None
    neighbour: Neighbour | None


@dataclass(frozen=True, slots=True)
class Fact:
    """One number of the summary, with what it means."""

    label: str
    value: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: numbers as read, and as sorted by (None: last)."""

    rank: int
    smiles: str
    cells: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """All that the page shows.

    order       in words, what they are ranked by. warnings: what a reader must know first.
    plots       title and SVG. best, random: drawn; `columns` and `rows`: the table.
    """

    title: str
    subtitle: str
    research_use: str
    warnings: tuple[str, ...]
    facts: tuple[Fact, ...]
    order: str
    best: tuple[Card, ...]
    random: tuple[Card, ...]
    plots: tuple[tuple[str, str], ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    total: int
    provenance: tuple[tuple[str, str], ...]


def render_gallery(gallery: Gallery) -> str:
    """Give the page. Equal input, equal page."""
    environment = Environment(
        loader=PackageLoader("medray.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("gallery.html.j2").render(gallery=gallery)
