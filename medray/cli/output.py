"""What the verbs print when they are done: tables for people, JSON for programs."""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from medray.crossval import CrossvalResult
    from medray.demo.run import DemoSummary
    from medray.embedding import EmbedSummary
    from medray.evaluate import EvaluationResult
    from medray.evaluate.makers import MakerResult
    from medray.explain.events import Explanation
    from medray.export import MedsSummary
    from medray.generate import GenerateSummary
    from medray.ingest.molecules_summary import MoleculesSummary
    from medray.ingest.records_summary import RecordsSummary
    from medray.ingest.summary import IngestSummary
    from medray.inspection import Inspection
    from medray.reinforce import ReinforceResult
    from medray.score.prediction import FilePrediction, MoleculesPrediction, TablesPrediction
    from medray.score.summary import ScoreSummary
    from medray.serve.launch import Service
    from medray.train.driver import TrainResult


@lru_cache(maxsize=1)
def console() -> Console:
    """The terminal; wide enough for tables when output goes to a file."""
    plain = Console()
    return plain if plain.is_terminal else Console(width=120)


def ingest(summary: "IngestSummary | RecordsSummary | MoleculesSummary") -> None:
    """What was read, refused, joined and split."""
    _done(summary.headline(), summary.facts())
    if summary.over_limit:
        _warn("the rejected share passed the spec's reject_limit (exit code 3); the dataset stands")


def train(result: "TrainResult") -> None:
    """Where the package lies and what it reached on tuning."""
    _done(result.headline(), result.to_dict())


def reinforced(result: "ReinforceResult") -> None:
    """Where the new package lies, and what its molecules were and are worth."""
    _done(result.headline(), result.to_dict())


def evaluate(result: "EvaluationResult | MakerResult") -> None:
    """The headline numbers and the page to open."""
    _done(result.headline(), result.to_dict())


def crossval(result: "CrossvalResult") -> None:
    """Means over folds, a row per model and measure."""
    console().print(f"[bold]{result.headline()}[/]", highlight=False)
    table = Table("target", "model", "measure", "mean", "SD", "folds")
    for row in result.measures:
        each = " ".join("–" if value is None else f"{value:.3f}" for value in row.folds)
        numbers = ("–" if v is None else f"{v:.4f}" for v in (row.mean, row.deviation))
        table.add_row(row.target, row.model, row.name, *numbers, each)
    console().print(table)
    console().print(f"  reports of the folds: {', '.join(result.reports)}", soft_wrap=True)


def score(summary: "ScoreSummary") -> None:
    """What was scored and refused."""
    _done(summary.headline(), summary.to_dict())
    if summary.over_limit:
        _warn("the rejected share passed score.reject_limit (exit code 3); the scores stand")


def told(line: str) -> None:
    """What a long-running verb is doing, on standard error."""
    typer.secho(f"  {line}", err=True, dim=True)


def served(service: "Service") -> None:
    """Where a service answers, and what with."""
    console().print(f"[bold]serving on {service.url}[/]", highlight=False)
    table = Table("model", "answers to", "predicts from", "replicas")
    for one in service.plan.routes.every if service.plan else ():
        share = f", {one.weight:.0%} of requests" if one.weight else ""
        role = ", shadow" if one.shadow else ""
        names = ", ".join((f"{one.name}@{one.version}", *one.aliases))
        grows = "on demand" if one.pooled else f"{one.resting} to {one.most}"
        table.add_row(one.ref, names + share + role, one.reads, grows)
    console().print(table)


def predict(
    found: Iterable["FilePrediction | TablesPrediction | MoleculesPrediction"], *, as_json: bool
) -> None:
    """One line or one JSON object per file, patient and moment, or molecule, in order."""
    for one in found:
        if as_json:
            for content in one.dicts():
                typer.echo(json.dumps(content, ensure_ascii=False))
        else:
            for line in one.lines():
                typer.echo(line)


def explanation(found: "Explanation", files: Mapping[str, str], top: int, *, as_json: bool) -> None:
    """The greatest events as a table, all others as sums, down to the predicted log-odds."""
    if as_json:
        typer.echo(json.dumps({**found.model_dump(), "files": dict(files)}, ensure_ascii=False))
        return
    out = console()
    out.print(f"[bold]{found.target}: risk {found.score:.1%}[/]", highlight=False)
    table = Table("before", "what", "value", "log-odds")
    table.columns[-1].justify = "right"
    for event in found.events[:top]:
        table.add_row(event.when, escape(event.code), escape(event.said), _part(event.contribution))
    rest = found.events[top:]
    if rest:
        total = sum(event.contribution for event in rest)
        table.add_row("", f"{len(rest):,} other events", "", _part(total))
    table.add_row("", "times of the entries", "", _part(found.timing))
    table.add_row("", "empty record", "", _part(found.empty), end_section=True)
    table.add_row("", "this patient", "", _part(found.answer))
    out.print(table)
    out.print(
        f"  adds up within {abs(found.error):.1e} log-odds ({found.error_share:.2%}, "
        f"{found.points} points); {found.unread:,} events not read by the model",
        highlight=False,
    )
    for uri in files.values():
        out.print(f"  {uri}", highlight=False, soft_wrap=True)


def _part(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def embedded(summary: "EmbedSummary") -> None:
    """What was written."""
    _done(summary.headline(), summary.to_dict())


def generated(summary: "GenerateSummary") -> None:
    """How many molecules, what became of the draws, where they lie."""
    _done(summary.headline(), summary.to_dict())
    if summary.short:
        _warn(
            f"given up after {summary.drawn:,} draws: {summary.kept:,} of {summary.wanted:,} "
            "molecules (exit code 3); what was found stands"
        )


def exported(summary: "MedsSummary") -> None:
    """What was written, split by split."""
    _done(summary.headline(), summary.to_dict())


def inspection(found: "Inspection", *, as_json: bool) -> None:
    """The path's kind and facts, its parts below it."""
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False, indent=1))
        return
    console().print(f"[bold]{found.path}[/]  {found.kind}", highlight=False)
    _print_facts(found.facts)
    for part in found.parts:
        inspection(part, as_json=False)


def demo(summary: "DemoSummary") -> None:
    """The stages as a table of commands to repeat, and where to look."""
    table = Table("stage", "outcome", "seconds", "look at", title="the main path, once through")
    for stage in summary.stages:
        verb = " ".join(stage.command.split()[1:2])
        table.add_row(verb, stage.outcome, f"{stage.seconds:.1f}", stage.where)
    out = console()
    out.print(table)
    out.print("\nThe same, verb by verb:", highlight=False)
    for stage in summary.stages:
        out.print(f"  {stage.command}", highlight=False, soft_wrap=True)
    out.print(f"\n[bold]Open the report:[/] {summary.report}", highlight=False, soft_wrap=True)


def _done(headline: str, values: Mapping[str, Any]) -> None:
    console().print(f"[bold]{headline}[/]", highlight=False)
    _print_facts(values)


def _print_facts(values: Mapping[str, Any]) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 2))
    for key, value in values.items():
        if value not in (None, {}, [], (), "", 0):
            table.add_row(key.replace("_", " "), _say(value))
    console().print(table, highlight=False)


def _say(value: Any) -> str:
    """One cell: numbers short, mappings as `key value`, long lists cut."""
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_say(v)}" for k, v in value.items() if v not in (None, 0, ""))
    if isinstance(value, (list, tuple)):
        shown = ", ".join(_say(v) for v in value[:6])
        return shown + (f", … {len(value) - 6:,} more" if len(value) > 6 else "")
    return str(value)


def _warn(text: str) -> None:
    typer.secho(text, fg="yellow", err=True)
