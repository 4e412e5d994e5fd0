"""Curves as inline SVG that follow the page's colours, in light and in dark.

Owns drawing. Matplotlib draws with placeholder colours, which become CSS variables of the page;
text stays text. The same data give the same bytes: no dates, a fixed salt for ids.
"""

import re
from collections.abc import Sequence
from io import StringIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from medray.report.document import (
    BinaryResult,
    CalibrationResult,
    Curve,
    Estimate,
    History,
)

INK, MUTED, GRID = "#010203", "#020304", "#030405"
ACCENT, WARM, PAPER = "#040506", "#050607", "#060708"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    ACCENT: "var(--accent)",
    WARM: "var(--warm)",
    PAPER: "var(--paper)",
}
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 1)


def roc_svg(result: BinaryResult) -> str:
    """ROC curve with the operating point; empty where undefined."""
    if not result.roc.x:
        return ""
    figure, axes = _square("roc-" + result.name)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.text(0.66, 0.6, "guessing", color=MUTED, fontsize=8, rotation=0, va="top")
    axes.fill_between(result.roc.x, result.roc.y, color=ACCENT, alpha=0.08, linewidth=0)
    axes.plot(result.roc.x, result.roc.y, color=ACCENT)
    if result.operating is not None:
        at, up = _value(result.operating.specificity), _value(result.operating.sensitivity)
        _mark(axes, None if at is None else 1 - at, up)
    axes.set(xlabel="1 − specificity (false alarms)", ylabel="Sensitivity (found)")
    return as_svg(figure, "roc-" + result.name, _roc_alt(result))


def pr_svg(result: BinaryResult) -> str:
    """Precision-recall curve with prevalence and operating point; empty where undefined."""
    if not result.pr.x:
        return ""
    figure, axes = _square("pr-" + result.name)
    prevalence = result.positives / result.items
    axes.axhline(prevalence, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.text(0.01, prevalence + 0.015, "guessing", color=MUTED, fontsize=8)
    axes.plot(*_stairs(result.pr), color=ACCENT)
    if result.operating is not None:
        _mark(axes, _value(result.operating.sensitivity), _value(result.operating.here.ppv))
    axes.set(xlabel="Sensitivity (recall)", ylabel="PPV (precision)")
    area = "undefined" if result.auprc is None else f"{result.auprc.value:.3f}"
    return as_svg(figure, "pr-" + result.name, f"Precision-recall curve; area {area}.")


def reliability_svg(name: str, calibration: CalibrationResult, observed: str) -> str:
    """Observed share against predicted probability, before and after, with bars for the items."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 4.4), layout="constrained")
        axes, bars = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    before, after = calibration.before.bins, calibration.after.bins
    axes.plot(
        [b.predicted for b in before],
        [b.observed for b in before],
        color=WARM,
        marker="o",
        markersize=3.5,
        linewidth=1,
        linestyle=(0, (2, 2)),
        label="before scaling",
    )
    x, y = [b.predicted for b in after], [b.observed for b in after]
    spread = [[b.observed - b.low for b in after], [b.high - b.observed for b in after]]
    axes.errorbar(x, y, yerr=spread, color=ACCENT, fmt="o-", markersize=4.5, elinewidth=0.9)
    axes.plot([], [], color=ACCENT, marker="o", markersize=4.5, label="after scaling")
    axes.legend(loc="upper left", labelcolor=INK, frameon=False, fontsize=8)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), ylabel=observed, yticks=_TICKS)
    edges = [min(int(b.predicted * 10), 9) / 10 + 0.05 for b in after]
    bars.bar(edges, [b.items for b in after], width=0.09, color=ACCENT, alpha=0.35, linewidth=0)
    bars.set(xlabel="Predicted probability", ylabel="Items", xticks=_TICKS)
    bars.grid(visible=False)
    alt = (
        f"Calibration curve; expected calibration error {_text(calibration.before.ece)} before "
        f"and {_text(calibration.after.ece)} after scaling."
    )
    return as_svg(figure, "reliability-" + name, alt)


def history_svgs(history: History) -> list[tuple[str, str]]:
    """Title and SVG of the learning curves: losses together, all other series together."""
    losses = [name for name in history.series if "loss" in name]
    others = [name for name in history.series if "loss" not in name]
    panels = ([("Loss", losses)] if losses else []) + ([("Metrics", others)] if others else [])
    return [(title, _history_svg(history, title, names)) for title, names in panels]


def _history_svg(history: History, title: str, names: Sequence[str]) -> str:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        axes = figure.subplots()
    styles = [(ACCENT, "-"), (WARM, "-"), (ACCENT, ":"), (WARM, ":"), (MUTED, "-"), (MUTED, ":")]
    for (colour, dashes), name in zip(styles, names, strict=False):
        values = [float("nan") if v is None else v for v in history.series[name]]
        axes.plot(
            history.epochs,
            values,
            color=colour,
            linestyle=dashes,
            marker="o",
            markersize=2.5,
            label=name,
        )
    if history.best_epoch is not None:
        axes.axvline(history.best_epoch, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set(xlabel="Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(labelcolor=INK, frameon=False, fontsize=8)
    return as_svg(figure, "history-" + title, f"{title} by epoch of training: {', '.join(names)}.")


def _square(name: str) -> tuple[Figure, Axes]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 3.9), layout="constrained")
        axes = figure.subplots()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03), xticks=_TICKS, yticks=_TICKS)
    return figure, axes


def _mark(axes: Axes, x: float | None, y: float | None) -> None:
    if x is None or y is None:
        return
    axes.plot([x], [y], "o", color=WARM, markersize=7, markeredgecolor=PAPER, markeredgewidth=1.5)
    right = x < 0.6
    axes.annotate(
        "operating point",
        (x, y),
        xytext=(9 if right else -9, -12),
        textcoords="offset points",
        ha="left" if right else "right",
        color=INK,
        fontsize=8,
    )


def _stairs(curve: Curve) -> tuple[list[float], list[float]]:
    """Draw precision as constant between recalls, as average precision sums it."""
    x, y = [0.0], [curve.y[0]]
    for recall, precision in zip(curve.x, curve.y, strict=True):
        x += [x[-1], recall]
        y += [precision, precision]
    return x, y


def _value(estimate: Estimate) -> float | None:
    return estimate.value


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _roc_alt(result: BinaryResult) -> str:
    area = "undefined" if result.auroc is None else _text(result.auroc.value)
    return f"ROC curve of {result.name}; area {area}."


def as_svg(figure: Figure, salt: str, alt: str) -> str:
    """Turn a figure into an <svg> element: page colours, no ids that could clash, no namespaces."""
    with mpl.rc_context(STYLE | {"svg.hashsalt": salt}):
        buffer = StringIO()
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href", "href")
    text = re.sub(r'(<svg[^>]*?)\s+width="[^"]*"|(<svg[^>]*?)\s+height="[^"]*"', r"\1\2", text)
    text = re.sub(r'(<svg[^>]*?)\s+height="[^"]*"', r"\1", text)
    text = re.sub(r"font: ([\d.]+)px[^;\"]*", r"font-size: \1px", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg", f'<svg class="plot" role="img" aria-label="{label}"', 1)
