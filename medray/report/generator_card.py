"""MODEL_CARD.md of a package that makes molecules, and the metrics that travel inside it.

The headings follow Mitchell et al., Model Cards for Model Reporting, FAT* 2019 (arXiv:1810.03993).
"""

from collections.abc import Iterator
from typing import Any

from medray.report.generators import GeneratorReport, meaning, value_text


def generator_metrics(report: GeneratorReport) -> dict[str, Any]:
    """Every number of the report as JSON, without history and spec."""
    return report.model_dump(mode="json", exclude={"spec", "history"})


def render_generator_card(report: GeneratorReport) -> str:
    """Give the model card as Markdown."""
    sections = (_details(report), _use(report), _data(report), _results(report), _caveats(report))
    return "\n".join(line for section in sections for line in section)


def _details(report: GeneratorReport) -> Iterator[str]:
    provenance = report.provenance
    yield f"# {report.name} {report.version}\n"
    yield f"**{report.research_use}**\n"
    yield "## Model details\n"
    yield f"- Package: `{provenance.package}` (sha256 `{provenance.package_digest}`)"
    yield f"- Workload: {report.workload}; makes molecules as SMILES"
    ways = ", ".join(maker.name for maker in report.makers if maker.kind == "way")
    yield f"- Ways to draw: {ways}"
    yield f"- Made with: medray {provenance.software.get('medray', 'of unknown version')}"
    yield f"- Evaluated: {provenance.created}\n"


def _use(report: GeneratorReport) -> Iterator[str]:
    yield "## Intended use\n"
    yield (
        f"Ideas for molecules like those of {report.dataset}, for chemists to look at. Whether one "
        "can be made, works or is safe is not known: see what predictors say, and ask a chemist.\n"
    )


def _data(report: GeneratorReport) -> Iterator[str]:
    yield "## Data\n"
    yield f"Dataset {report.dataset}, fingerprint `{report.provenance.data_fingerprint}`.\n"
    yield "| split | source | molecules |"
    yield "| --- | --- | ---: |"
    for row in report.sets:
        yield f"| {row.split} | {row.source} | {row.molecules} |"
    yield ""


def _results(report: GeneratorReport) -> Iterator[str]:
    times = "once" if report.samplings == 1 else f"{report.samplings} times"
    yield "## Quantitative analyses\n"
    yield f"{report.samples} draws, {times}; beside {', '.join(report.references)} (held-out).\n"
    makers = report.makers
    yield "| measure | " + " | ".join(maker.name for maker in makers) + " | |"
    yield "| --- |" + " ---: |" * len(makers) + " --- |"
    for name in report.main.measures:
        cells = " | ".join(value_text(maker.measures.get(name)) for maker in makers)
        yield f"| {name} | {cells} | {meaning(name)} |"
    yield ""
    for text in (report.verdict, *(one.sentence for one in report.comparisons)):
        if text:
            yield f"{text}\n"


def _caveats(report: GeneratorReport) -> Iterator[str]:
    yield "## Caveats and recommendations\n"
    for note in report.notes:
        yield f"- {note}"
    yield "- Distances depend on how many molecules are drawn: compare equal numbers only."
    yield "- Valid, distinct, new molecules alone say little: an untrained model makes them."
    yield "- A generator can give back molecules of its training set: see Novelty.\n"
