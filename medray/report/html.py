"""report.html: one file that shows a Report, readable in light and dark, on screen and on paper.

Nothing is fetched from anywhere: styles are inlined, plots are inline SVG, pictures are data URIs.
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from medray.report import numbers, words
from medray.report.document import BinaryResult, MulticlassResult, Report, TargetResult
from medray.report.outcome_plots import (
    forecast_svg,
    incidence_svg,
    risk_calibration_svg,
    value_svg,
)
from medray.report.outcomes import ForecastResult, SurvivalResult
from medray.report.plots import history_svgs, pr_svg, reliability_svg, roc_svg
from medray.report.values import ValueResult

_LAST_PARTS = (
    ("calibration", "Calibration"),
    ("subgroups", "Subgroups"),
    ("mistakes", "Mistakes"),
)
_PARTS = {
    "binary": (
        ("discrimination", "Discrimination"),
        ("operating", "Operating point"),
        *_LAST_PARTS,
    ),
    "multiclass": (
        ("classes", "Classes"),
        ("confusion", "Confusion matrix"),
        *_LAST_PARTS,
    ),
    "survival": (
        ("discrimination", "Discrimination"),
        ("thirds", "Thirds of risk"),
        ("calibration", "Calibration"),
        ("subgroups", "Subgroups"),
    ),
    "quantiles": (("forecast", "Forecast"), ("subgroups", "Subgroups")),
    "value": (("errors", "Errors"), ("subgroups", "Subgroups")),
}


@dataclass(frozen=True, slots=True)
class Section:
    """One target's section of the page: its anchor, parts and plots (SVG, "" where none)."""

    id: str
    result: TargetResult
    parts: tuple[tuple[str, str], ...]
    roc: str = ""
    pr: str = ""
    reliability: str = ""
    incidence: str = ""
    forecast: str = ""


def render_html(report: Report, pictures: Mapping[str, bytes]) -> str:
    """Give the page; `pictures[mistake.picture]` are PNG bytes. Equal input, equal page."""
    environment = Environment(
        loader=PackageLoader("medray.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols"],
    )
    return environment.get_template("report.html.j2").render(
        report=report,
        words=words,
        unit=report.cohort.unit,
        whom=report.cohort.whom,
        numbers=numbers.rows,
        held_out=next(row for row in report.cohort.rows if row.split == "held_out"),
        sections=[_section(i, result) for i, result in enumerate(report.targets)],
        history=history_svgs(report.history) if report.history else [],
        pictures={name: b64encode(png).decode() for name, png in pictures.items()},
        lineage=list(_flat(report.provenance.lineage)),
        software=list(_flat(report.provenance.software)),
        spec_yaml=yaml.safe_dump(report.spec, sort_keys=False, allow_unicode=True),
    )


def _section(index: int, result: TargetResult) -> Section:
    anchor = f"target-{index}-" + re.sub(r"[^a-z0-9]+", "-", result.name.lower()).strip("-")
    parts = _PARTS[result.kind]
    if isinstance(result, SurvivalResult):
        curves, reliability = incidence_svg(result), risk_calibration_svg(result)
        return Section(anchor, result, parts, incidence=curves, reliability=reliability)
    if isinstance(result, ForecastResult):
        return Section(anchor, result, parts, forecast=forecast_svg(result))
    if isinstance(result, ValueResult):
        return Section(anchor, result, parts, forecast=value_svg(result))
    return _of_classes(anchor, result, parts)


def _of_classes(
    anchor: str, result: BinaryResult | MulticlassResult, parts: tuple[tuple[str, str], ...]
) -> Section:
    if result.calibration is None:
        return Section(anchor, result, parts)
    binary = isinstance(result, BinaryResult)
    observed = "Observed share with the finding" if binary else "Observed share that is right"
    return Section(
        id=anchor,
        result=result,
        parts=parts,
        roc=roc_svg(result) if binary else "",
        pr=pr_svg(result) if binary else "",
        reliability=reliability_svg(result.name, result.calibration, observed),
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Walk nested facts as "a b: value" lines; long lists are cut."""
    for key, value in tree.items():
        name = f"{prefix} {key}".strip()
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        elif value is not None:
            text = str(value)
            yield name, text if len(text) <= 200 else text[:200] + " …"
