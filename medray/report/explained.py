"""explain.html: one page on one prediction; nothing is fetched from anywhere."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from medray.explain.events import Explanation, probability
from medray.report.document import RESEARCH_USE
from medray.report.timeline import completeness, timeline_svg


def render_explanation(explanation: Explanation, top: int) -> str:
    """Give the page, the `top` greatest events in its table. Equal input, equal page."""
    environment = Environment(
        loader=PackageLoader("medray.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = explanation.events[:top]
    rest = sum(event.contribution for event in explanation.events[top:])
    return environment.get_template("explain.html.j2").render(
        explanation=explanation,
        research_use=RESEARCH_USE,
        timeline=timeline_svg(explanation),
        shown=shown,
        rest=rest,
        others=len(explanation.events) - len(shown),
        reach=max((abs(event.contribution) for event in shown), default=0.0) or 1.0,
        empty_risk=probability(explanation.empty),
        completeness=completeness(explanation),
    )
