"""A patient's timeline with what each event added to the prediction, as SVG for a page, or PNG.

A lane per code, most important first: markers at the time of each event, up where it raises the
risk and down where it lowers it, larger and darker the more it does; direction and colour say the
same, so that it reads without colour vision and in print. Beside each lane its sum; beneath, how
those sums add up from an empty record to this patient's risk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medray.explain.events import EventPart, Explanation, probability
from medray.report.document import RESEARCH_USE
from medray.report.plots import ACCENT, GRID, INK, MUTED, PAPER, STYLE, WARM, as_svg

_LANES: Final = 12
_FACTS: Final = 6
_WIDTH: Final = 10.5  # inches
_LANE: Final = 0.4
_LABELS: Final = 7  # values written in a lane, at most
_ON_PAPER: Final = {
    INK: "#1a1f24",
    MUTED: "#5a6672",
    GRID: "#d8dee4",
    ACCENT: "#0a62b5",
    WARM: "#b8470b",
    PAPER: "#ffffff",
}
_ON_PAGE: Final = {name: name for name in _ON_PAPER}
_UNITS: Final = ((96.0, "hours", 1.0), (120 * 24.0, "days", 24.0), (np.inf, "years", 365.25 * 24))
_CHANCES: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.997, 0.999)


@dataclass(frozen=True, slots=True)
class Lane:
    """One row of the figure: its name, its sum in log-odds, and its events (none: a sum only)."""

    name: str
    total: float
    events: tuple[EventPart, ...] = ()


def timeline_svg(explanation: Explanation) -> str:
    """The figure as an <svg> element in the colours of the page."""
    figure = draw(explanation, _ON_PAGE)
    alt = (
        f"Timeline of the events behind a predicted risk of {explanation.score:.3f} for "
        f"{explanation.target}; the table below holds the same numbers."
    )
    return as_svg(figure, "timeline-" + explanation.item_id, alt)


def timeline_png(explanation: Explanation) -> bytes:
    """The figure as PNG bytes, with its title and the notice of research use."""
    figure = draw(explanation, _ON_PAPER)
    figure.set_facecolor("white")
    figure.suptitle(
        f"{explanation.target}: predicted risk {_percent(explanation.score)}"
        f"   ({explanation.package})",
        x=0.01,
        ha="left",
        fontsize=11,
        fontweight="bold",
        color=_ON_PAPER[INK],
    )
    figure.supxlabel(
        f"{completeness(explanation)}\n{RESEARCH_USE}", x=0.01, ha="left", fontsize=7.5,
        color=_ON_PAPER[MUTED],
    )  # fmt: skip
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def completeness(explanation: Explanation) -> str:
    """How exactly the parts add up, in words."""
    return (
        f"The parts add up to the predicted log-odds within {abs(explanation.error):.1e} "
        f"({100 * explanation.error_share:.2g} % of what facts and events explain; integrated "
        f"gradients, {explanation.points} points)."
    )


def lanes(explanation: Explanation) -> list[Lane]:
    """Rows of the figure: codes by the size of their parts, then all else, then facts and times."""
    by_code: dict[str, list[EventPart]] = {}
    for event in explanation.events:
        if event.hours_before is not None:
            by_code.setdefault(event.code, []).append(event)
    ranked = sorted(by_code.values(), key=lambda events: -sum(abs(e.contribution) for e in events))
    rows = [_lane(events) for events in ranked[:_LANES]]
    others = [event for events in ranked[_LANES:] for event in events]
    if others:
        count = len(ranked) - _LANES
        rows.append(_lane(others, f"{count} other code{'s' if count > 1 else ''}"))
    return [*rows, *_facts(explanation), Lane("times of the entries", explanation.timing)]


def _lane(events: Sequence[EventPart], name: str | None = None) -> Lane:
    total = sum(event.contribution for event in events)
    return Lane(name or _with_unit(events[0]), total, tuple(events))


def _with_unit(event: EventPart) -> str:
    return f"{event.code} ({event.unit})" if event.unit else event.code


def _facts(explanation: Explanation) -> list[Lane]:
    """A row for each of the greatest facts without time, one for the rest."""
    facts = [event for event in explanation.events if event.hours_before is None]
    rows = [
        Lane(f"{fact.code}: {fact.said}".rstrip(": "), fact.contribution) for fact in facts[:_FACTS]
    ]
    if facts[_FACTS:]:
        rest = sum(fact.contribution for fact in facts[_FACTS:])
        rows.append(Lane(f"{len(facts) - _FACTS} more facts", rest))
    return rows


def draw(explanation: Explanation, colours: Mapping[str, str] = _ON_PAPER) -> Figure:
    """The figure itself; `colours`: what each colour of `plots` becomes."""
    rows = lanes(explanation)
    style: Any = {key: colours.get(str(value), value) for key, value in STYLE.items()}
    height = _LANE * len(rows)
    with mpl.rc_context(style):
        figure = Figure(figsize=(_WIDTH, height + 2.6), layout="constrained", dpi=160)
        grid = figure.add_gridspec(2, 2, width_ratios=(4.2, 1), height_ratios=(height, 0.9))
        course = figure.add_subplot(grid[0, 0])
        sums = figure.add_subplot(grid[0, 1], sharey=course)
        bar = figure.add_subplot(grid[1, :])
        _draw_course(course, rows, colours)
        _draw_sums(sums, rows, colours)
        _draw_bar(bar, explanation, rows, colours)
    return figure


def _draw_course(axes: Axes, rows: Sequence[Lane], colours: Mapping[str, str]) -> None:
    """Markers of every event, and the values of the greatest."""
    times = [_before(event) for row in rows for event in row.events]
    longest = max(times, default=1.0)
    unit, hours = next((name, size) for most, name, size in _UNITS if longest <= most)
    peak = max((abs(e.contribution) for row in rows for e in row.events), default=0.0) or 1.0
    span = max(longest / hours, 1e-6)
    for place, row in enumerate(rows):
        _draw_lane(axes, place, row, hours, span, peak, colours)
    timeless = [place for place, row in enumerate(rows) if not row.events]
    axes.axhspan(timeless[0] - 0.5, len(rows) - 0.5, color=colours[GRID], alpha=0.35, linewidth=0)
    axes.text(
        0.5, (timeless[0] + len(rows) - 1) / 2, "no time of their own", color=colours[MUTED],
        transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=8,
    )  # fmt: skip
    axes.set_yticks(range(len(rows)), [_short(row.name) for row in rows])
    axes.set(ylim=(len(rows) - 0.4, -0.75), xlim=(span * 1.03, -span * 0.03))
    axes.tick_params(axis="y", labelcolor=colours[INK])
    axes.xaxis.set_major_locator(MaxNLocator(7, integer=span > 7))
    axes.set_xlabel(f"{unit.capitalize()} before the prediction")
    axes.spines["left"].set_visible(False)
    axes.set_title(
        "▲ raises the risk   ▼ lowers it   (larger and darker: more; the number is the value)",
        loc="left", fontsize=8, color=colours[MUTED],
    )  # fmt: skip


def _draw_lane(
    axes: Axes,
    place: int,
    row: Lane,
    hours: float,
    span: float,
    peak: float,
    colours: Mapping[str, str],
) -> None:
    for sign, marker, tint in ((1, "^", WARM), (-1, "v", ACCENT)):
        events = [event for event in row.events if event.contribution * sign > 0]
        if not events:
            continue
        strength = [(abs(event.contribution) / peak) ** 0.5 for event in events]
        axes.scatter(
            [_before(event) / hours for event in events],
            [place] * len(events),
            s=[(3 + 8 * share) ** 2 for share in strength],
            color=[to_rgba(colours[tint], 0.25 + 0.75 * share) for share in strength],
            marker=marker,
            linewidths=0,
            zorder=3,
        )
    for event in _labelled(row, hours, span):
        axes.annotate(
            _value(event),
            (_before(event) / hours, place),
            xytext=(0, 5 + 4 * (abs(event.contribution) / peak) ** 0.5),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=colours[INK],
        )


def _labelled(row: Lane, hours: float, span: float) -> list[EventPart]:
    """Events whose values are written: the greatest, as far as they do not run into each other."""
    taken: list[tuple[float, float]] = []
    found: list[EventPart] = []
    if row.name.endswith(("other codes", "other code")):
        return found  # values of unlike codes side by side say nothing
    for event in sorted(row.events, key=lambda event: -abs(event.contribution)):
        text = _value(event)
        if not text or len(found) == _LABELS:
            continue
        at, half = _before(event) / hours, (len(text) + 2) * span * 0.0052
        if all(abs(at - other) > half + size for other, size in taken):
            taken.append((at, half))
            found.append(event)
    return found


def _draw_sums(axes: Axes, rows: Sequence[Lane], colours: Mapping[str, str]) -> None:
    """Sum of every lane as a bar from 0, its number beside it."""
    totals = [row.total for row in rows]
    reach = max((abs(total) for total in totals), default=0.0) or 1.0
    tints = [colours[WARM if total > 0 else ACCENT] for total in totals]
    axes.barh(range(len(rows)), totals, height=0.5, color=tints)
    for place, total in enumerate(totals):
        axes.annotate(
            _signed(total),
            (total, place),
            xytext=(3 if total >= 0 else -3, 0),
            textcoords="offset points",
            ha="left" if total >= 0 else "right",
            va="center",
            fontsize=7.5,
            color=colours[INK],
        )
    axes.axvline(0, color=colours[MUTED], linewidth=0.6)
    axes.set(xlim=(-1.55 * reach, 1.55 * reach), xlabel="Sum, log-odds")
    axes.tick_params(axis="y", labelleft=False)
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _draw_bar(
    axes: Axes, explanation: Explanation, rows: Sequence[Lane], colours: Mapping[str, str]
) -> None:
    """From the risk of an empty record up by every sum that raises it, down by those that lower."""
    start, end = explanation.empty, explanation.answer
    ups = sorted((row for row in rows if row.total > 0), key=lambda row: -row.total)
    downs = sorted((row for row in rows if row.total < 0), key=lambda row: row.total)
    up, down = sum(row.total for row in ups), sum(row.total for row in downs)
    top = start + up
    width = max(top - min(start, end), 0.5)
    low, high = min(start, end) - 0.26 * width, top + 0.26 * width
    room = (high - low) / (_WIDTH * 0.97 * 72)  # log-odds a point is wide
    _draw_stack(axes, 0, start, ups, colours[WARM], colours[PAPER], room)
    _draw_stack(axes, 1, top, downs, colours[ACCENT], colours[PAPER], room)
    for at, row, side, text in (
        (start, 0, -1, f"empty record {_percent(probability(start))}"),
        (end, 1, -1, f"this patient {_percent(probability(end))}"),
        (top, 0, 1, f"what raises it {_signed(up)}"),
        (top, 1, 1, f"what lowers it {_signed(down)}"),
    ):
        if side < 0:
            axes.plot([at, at], [row - 0.4, row + 0.4], color=colours[INK], linewidth=1.6)
        axes.annotate(
            text,
            (at, row),
            xytext=(5 * side, 0),
            textcoords="offset points",
            ha="right" if side < 0 else "left",
            va="center",
            fontsize=8,
            color=colours[INK],
        )
    ticks = [p for p in _CHANCES if low <= np.log(p / (1 - p)) <= high]
    axes.set_xticks([np.log(p / (1 - p)) for p in ticks], [f"{100 * p:g} %" for p in ticks])
    axes.set(xlim=(low, high), ylim=(1.5, -0.5), yticks=[], xlabel="Predicted risk")
    axes.spines["left"].set_visible(False)


def _draw_stack(
    axes: Axes, place: int, start: float, rows: Sequence[Lane], tint: str, paper: str, room: float
) -> None:
    """Sums end to end from `start`, named where the name fits. `room`: log-odds of a point."""
    at = start
    for row in rows:
        axes.barh(
            [place], [row.total], left=at, height=0.62, color=tint, edgecolor=paper, linewidth=0.8
        )
        name = _short(row.name, 22)
        if abs(row.total) > (4.2 * len(name) + 6) * room:
            axes.text(
                at + row.total / 2, place, name, color=paper, fontsize=7, ha="center", va="center"
            )
        at += row.total


def _before(event: EventPart) -> float:
    return 0.0 if event.hours_before is None else event.hours_before


def _value(event: EventPart) -> str:
    if event.text_value is not None:
        return _short(event.text_value, 14)
    return "" if event.numeric_value is None else f"{event.numeric_value:.4g}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _short(text: str, most: int = 30) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _percent(share: float) -> str:
    digits = 1 if share < 0.0995 or share > 0.9005 else 0
    return f"{100 * share:.{digits}f} %"
