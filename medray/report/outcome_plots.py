"""Plots of outcomes in time and of numbers, as inline SVG in the page's colours.

See medray.report.plots.
"""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medray.report.elements import Curve
from medray.report.outcomes import ForecastResult, RiskThird, SurvivalResult
from medray.report.plots import ACCENT, GRID, INK, MUTED, STYLE, WARM, as_svg
from medray.report.values import ValueResult

_YEAR = 365.25
_COLOURS = (ACCENT, MUTED, WARM)


def incidence_svg(result: SurvivalResult) -> str:
    """Observed incidence by third of predicted risk, with bands; empty where undefined."""
    if not result.thirds:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.7), layout="constrained")
        axes = figure.subplots()
    last = result.horizons[-1].horizon_days
    unit, name = _unit(last)
    for colour, third in zip(_COLOURS, result.thirds, strict=False):
        _band(axes, third, colour, unit)
        x = [value / unit for value in third.incidence.x]
        label = f"{third.name} ({third.events} of {third.items})"
        axes.plot(x, third.incidence.y, color=colour, label=label)
    axes.set(
        xlim=(0, last / unit),
        ylim=(0, None),
        xlabel=f"{name} after the prediction",
        ylabel="Share with the outcome",
    )
    axes.legend(labelcolor=INK, frameon=False, fontsize=8, loc="upper left")
    alt = f"Observed incidence of {result.name} by third of predicted risk."
    return as_svg(figure, "incidence-" + result.name, alt)


def _band(axes: Axes, third: RiskThird, colour: str, unit: float) -> None:
    """Shade between the bounds, whose corners stand at the same times."""
    low, high = dict(_last_at(third.low)), dict(_last_at(third.high))
    times = sorted(set(low) & set(high))
    if times:
        axes.fill_between(
            [time / unit for time in times],
            [low[time] for time in times],
            [high[time] for time in times],
            color=colour,
            alpha=0.12,
            linewidth=0,
            step="post",
        )


def _last_at(curve: Curve) -> list[tuple[float, float]]:
    return list(zip(curve.x, curve.y, strict=True))


def _unit(days: float) -> tuple[float, str]:
    if days >= 2 * _YEAR:
        return _YEAR, "Years"
    return (1.0, "Days") if days >= 3 else (1 / 24, "Hours")


def risk_calibration_svg(result: SurvivalResult) -> str:
    """Observed against predicted risk at every horizon; empty where undefined."""
    shown = [at for at in result.horizons if at.bins][:3]
    if not shown:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(shown) + 0.4, 2.9), layout="constrained")
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, at in zip(panels, shown, strict=True):
        top = max(max(b.high, b.predicted) for b in at.bins) * 1.05
        top = min(max(top, 0.05), 1.02)
        axes.plot([0, top], [0, top], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        x, y = [b.predicted for b in at.bins], [b.observed for b in at.bins]
        spread = [[b.observed - b.low for b in at.bins], [b.high - b.observed for b in at.bins]]
        axes.errorbar(x, y, yerr=spread, color=ACCENT, fmt="o", markersize=4, elinewidth=0.9)
        unit, name = _unit(at.horizon_days)
        axes.set_title(f"{at.horizon_days / unit:.3g} {name.lower()}", color=INK)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="Predicted risk")
    panels[0].set(ylabel="Observed risk")
    return as_svg(
        figure, "risk-" + result.name, f"Observed against predicted risk of {result.name}."
    )


def forecast_svg(result: ForecastResult) -> str:
    """Values against the middle of their forecast, by horizon; empty where undefined."""
    shown = [at for at in result.horizons if at.seen.x][:3]
    if not shown:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(shown) + 0.4, 2.9), layout="constrained")
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, at in zip(panels, shown, strict=True):
        _against(axes, at.seen)
        unit, name = _unit(at.horizon_days)
        axes.set_title(f"{at.horizon_days / unit:.3g} {name.lower()}", color=INK)
        axes.set(xlabel="Foreseen")
    panels[0].set(ylabel="Measured")
    alt = f"Measured values of {result.name} against their forecast."
    return as_svg(figure, "forecast-" + result.name, alt)


def value_svg(result: ValueResult) -> str:
    """Values against answers; empty where undefined."""
    if not result.seen.x:
        return ""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 3.9), layout="constrained")
        axes = figure.subplots()
    _against(axes, result.seen)
    axes.set(xlabel="Predicted", ylabel="Measured")
    alt = f"Measured values of {result.name} against predicted ones."
    return as_svg(figure, "value-" + result.name, alt)


def _against(axes: Axes, seen: Curve) -> None:
    """One dot per value, and the diagonal; logarithmic where values span much."""
    both: Sequence[float] = (*seen.x, *seen.y)
    low, high = min(both), max(both)
    axes.plot([low, high], [low, high], color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.plot(seen.x, seen.y, "o", color=ACCENT, markersize=2.5, alpha=0.5)
    if low > 0 and high / low > 20:
        axes.set(xscale="log", yscale="log")
    axes.grid(visible=True, color=GRID)
