"""Distributions of molecules' properties, and clouds of latents, as inline SVG."""

from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medray.report.plots import ACCENT, INK, MUTED, STYLE, WARM, as_svg

Values = NDArray[np.float64]
_BINS = 48
_LINES = ((MUTED, "-"), (ACCENT, "-"), (WARM, "-"), (ACCENT, ":"), (WARM, ":"))


def distribution_svg(title: str, sets: Mapping[str, Values], axis: str) -> str:
    """Shares of one property's values in sets of molecules; the first is filled: what is real.

    Bins are the same for all, between the 0.1 and 99.9 % quantiles of all values.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 2.9), layout="constrained")
        axes = figure.subplots()
    filled = {name: values for name, values in sets.items() if len(values)}
    everything = np.concatenate(list(filled.values()))
    low, high = np.quantile(everything, [0.001, 0.999])
    edges = np.linspace(low, max(high, low + 1e-9), _BINS + 1)
    for number, (name, values) in enumerate(filled.items()):
        colour, dashes = _LINES[number % len(_LINES)]
        shares = np.histogram(values, edges)[0] / len(values)
        if number == 0:
            axes.stairs(shares, edges, fill=True, color=colour, alpha=0.25, label=name)
        else:
            axes.stairs(shares, edges, color=colour, linestyle=dashes, linewidth=1.4, label=name)
    axes.set(xlabel=axis, ylabel="Share", yticks=[])
    axes.legend(labelcolor=INK, frameon=False, fontsize=8)
    means = ", ".join(f"{name} {values.mean():.3g}" for name, values in filled.items())
    return as_svg(figure, "distribution-" + title, f"Distribution of {title}; means: {means}.")


def latents_svg(sets: Mapping[str, NDArray[Any]], explained: tuple[float, float]) -> str:
    """Points (N, 2) on the first two principal components of real latents; each set a panel.

    explained  share of the real latents' variance on each component.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2.6 * len(sets), 2.8), layout="constrained")
        panels = figure.subplots(1, len(sets), sharex=True, sharey=True, squeeze=False)[0]
    colours = (MUTED, ACCENT, WARM)
    for number, (axes, (name, points)) in enumerate(zip(panels, sets.items(), strict=True)):
        colour = colours[min(number, 2)]
        axes.scatter(points[:, 0], points[:, 1], s=4, color=colour, alpha=0.35, linewidths=0)
        axes.set_title(name)
        axes.set(xlabel=f"PC 1 ({explained[0]:.0%})")
    panels[0].set(ylabel=f"PC 2 ({explained[1]:.0%})")
    return as_svg(figure, "latents", f"Latents on two principal components: {', '.join(sets)}.")
