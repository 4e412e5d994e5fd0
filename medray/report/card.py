"""MODEL_CARD.md and the metrics that travel inside a package, from a Report.

The headings follow Mitchell et al., Model Cards for Model Reporting, FAT* 2019 (arXiv:1810.03993).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from medray.report import numbers, words
from medray.report.document import (
    BinaryResult,
    Estimate,
    MulticlassResult,
    Report,
    SplitRow,
    SubgroupTable,
    TargetResult,
)
from medray.report.outcomes import SurvivalResult
from medray.report.values import ValueResult

# What only the report needs: drawing, patients' items, and what the package says elsewhere.
_NOT_IN_PACKAGE: Mapping[str, Any] = {
    "spec": True,
    "history": True,
    "targets": {"__all__": {"roc", "pr", "mistakes", "thirds"}},
}


def evaluation_metrics(report: Report) -> dict[str, Any]:
    """Give every number of the report as JSON, without curves, mistakes, history and spec."""
    return report.model_dump(mode="json", exclude=dict(_NOT_IN_PACKAGE))


def render_card(report: Report) -> str:
    """Give the model card as Markdown."""
    sections = (
        _details(report),
        _intended_use(report),
        _factors(report),
        _metrics(report),
        _data(report, "Training data", ("train", "tuning")),
        _data(report, "Evaluation data", ("held_out",)),
        _results(report),
        _ethics(report),
        _caveats(report),
    )
    return "\n".join(line for section in sections for line in section)


def _details(report: Report) -> Iterator[str]:
    provenance = report.provenance
    yield f"# {report.name} {report.version}\n"
    yield f"**{report.research_use}**\n"
    yield "## Model details\n"
    yield f"- Package: `{provenance.package}` (sha256 `{provenance.package_digest}`)"
    yield f"- Workload: {report.workload}"
    for result in report.targets:
        yield f"- Predicts: {result.name} ({_kind(result)})"
    yield f"- Made with: medray {provenance.software.get('medray', 'of unknown version')}"
    yield f"- Evaluated: {provenance.created}\n"


def _kind(result: TargetResult) -> str:
    if isinstance(result, BinaryResult):
        return "yes or no"
    if isinstance(result, MulticlassResult):
        return ", ".join(result.classes)
    if isinstance(result, ValueResult):
        return "a number"
    times = ", ".join(words.days_text(at.horizon_days) for at in result.horizons)
    return f"{'when' if isinstance(result, SurvivalResult) else 'how much'}: {times}"


def _intended_use(report: Report) -> Iterator[str]:
    names = ", ".join(result.name for result in report.targets)
    yield "## Intended use\n"
    yield f"Research on predicting {names} from data like those of {report.dataset}.\n"
    others = "data of other devices, protocols or patients than those"
    if report.cohort.whom == "molecules":
        others = "other kinds of molecules than those, or other assays,"
    yield (
        f"Not for diagnosis or treatment, and not for {others} evaluated below: nothing is known "
        "about how it does there.\n"
    )


def _factors(report: Report) -> Iterator[str]:
    tables = next((result.subgroups for result in report.targets), ())
    yield "## Factors\n"
    if tables:
        named = ", ".join(table.attribute for table in tables)
        yield (
            f"Results are broken down by {named}. Groups of fewer than {report.min_patients} "
            f"{report.cohort.whom} are not shown.\n"
        )
    else:
        yield f"Results are not broken down by any attribute of the {report.cohort.whom}.\n"


def _metrics(report: Report) -> Iterator[str]:
    yield "## Metrics\n"
    yield (
        f"AUROC, AUPRC and accuracies with 95 % intervals that draw whole {report.cohort.whom} "
        f"({report.replicates} replicates); sensitivity, specificity, PPV and NPV with Wilson "
        "intervals at a threshold chosen on tuning; calibration as expected calibration error "
        "and Brier score after temperature scaling fitted on tuning.\n"
    )


def _data(report: Report, title: str, splits: tuple[str, ...]) -> Iterator[str]:
    rows = [row for row in report.cohort.rows if row.split in splits]
    yield f"## {title}\n"
    yield f"Dataset {report.dataset}, fingerprint `{report.provenance.data_fingerprint}`.\n"
    if report.split:
        yield f"{report.split}\n"
    whom = report.cohort.whom
    groups = "scaffolds" if whom == "molecules" else "studies"
    yield f"| split | {whom} | {groups} | items | labelled |"
    yield "| --- | ---: | ---: | ---: | --- |"
    for row in rows:
        yield f"| {row.split} | {row.patients} | {row.studies} | {row.items} | {_labelled(row)} |"
    yield ""


def _labelled(row: SplitRow) -> str:
    """Outcomes of every target in one cell."""
    parts = [
        f"{label.target}: " + ", ".join(f"{count} {name}" for name, count in label.items.items())
        for label in row.labels
    ]
    return "; ".join(parts)


def _results(report: Report) -> Iterator[str]:
    yield "## Quantitative analyses\n"
    yield (
        f"On held-out, which none of the {report.cohort.whom} of training or tuning is in; opened "
        f"{len(report.openings)} time{'s' if len(report.openings) != 1 else ''}.\n"
    )
    for mean in report.means:
        said = ", ".join(f"{name} {words.with_bounds(one)}" for name, one in mean.measures.items())
        yield f"- Mean of {mean.targets} targets, {mean.model}: {said}"
    if report.means:
        yield ""
    for result in report.targets:
        yield f"### {result.name}\n"
        if result.undefined:
            yield f"{result.undefined}\n"
            continue
        yield "| measure | value | 95 % CI |"
        yield "| --- | ---: | --- |"
        for row in numbers.rows(result):
            yield _row(row.name, row.estimate, row.percent)
        yield ""
        for table in result.subgroups:
            yield from _subgroups(table, report.min_patients, report.cohort.whom)


def _row(name: str, estimate: Estimate | None, as_percent: bool = False) -> str:
    value = words.MISSING if estimate is None else words.value_text(estimate, as_percent=as_percent)
    return f"| {name} | {value} | {words.bounds_text(estimate, as_percent=as_percent)} |"


def _subgroups(table: SubgroupTable, minimum: int, whom: str) -> Iterator[str]:
    shown = [row for row in table.rows if not row.suppressed]
    names = list(shown[0].measures) if shown else []
    yield f"By {table.attribute}. {table.note}".strip() + "\n"
    yield "| " + " | ".join([table.attribute, whom, *names]) + " |"
    yield "| --- | ---: |" + " --- |" * len(names)
    for row in table.rows:
        if row.suppressed:
            cells = [row.group, f"fewer than {minimum}", *([words.MISSING] * len(names))]
        else:
            about = "about " if table.rounded else ""
            values = (words.with_bounds(row.measures[name]) for name in names)
            cells = [row.group, f"{about}{row.patients}", *values]
        yield "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"
    yield ""


def _ethics(report: Report) -> Iterator[str]:
    yield "## Ethical considerations\n"
    if report.cohort.whom == "molecules":
        yield (
            "Learned from structures and what is known of them. The package holds folded "
            "fingerprints of the molecules it learned from: where these are a secret, it is one.\n"
        )
        return
    yield (
        "Learned from patients' data. The package holds no picture and no identifier of a patient, "
        "but weights can remember examples: share it under the rules of the data it comes from. "
        "A model can work worse for groups that were rare in training; read the groups above, "
        "and mind that a group that is not shown was not evaluated.\n"
    )


def _caveats(report: Report) -> Iterator[str]:
    yield "## Caveats and recommendations\n"
    for note in report.notes:
        yield f"- {note}"
    if report.cohort.unit != report.cohort.whom:
        yield (
            f"- Patients have several {report.cohort.unit}: Wilson and DeLong intervals take them "
            "as independent and are too narrow; the bootstrap intervals are not."
        )
    yield (
        f"- Held-out {report.cohort.whom} come from the same source as the training data. Evaluate "
        "on data of another site before trusting it there."
    )
    yield "- Predictive values hold at the stated prevalence only."
