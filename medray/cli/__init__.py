"""The command line: parse, show progress, print. Everything else is `medray.api`.

Exit codes: 0 done · 1 the run failed · 2 bad spec or arguments · 3 done, but the rejected share
passed its limit, or fewer molecules were found than asked for · 130 stopped by Ctrl-C.
"""

import sys
from typing import Annotated

import typer

from medray.cli import access, makers, serving
from medray.cli.running import Sets, Spec, with_progress
from medray.errors import MedrayError

app = typer.Typer(
    name="medray",
    help=(
        "Medical deep learning on Ray: archive → dataset → model → report → nightly scores.\n\n"
        "A run is one YAML file (a spec); every verb reads its section of it. Start with "
        "`medray demo`, then copy jobs/demo/spec.yaml."
    ),
    epilog="Exit codes: 0 done, 1 failed, 2 bad arguments, 3 too many rejects, too few molecules.",
    no_args_is_help=True,
    rich_markup_mode=None,  # the rich help page costs twice the start-up
    pretty_exceptions_enable=False,
    add_completion=False,
)

export = typer.Typer(
    help="Write a dataset in a form that other tools read.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(export, name="export")
app.add_typer(access.token, name="token")
app.add_typer(access.audit, name="audit")


@app.callback(invoke_without_command=True)
def _root(  # pyright: ignore[reportUnusedFunction]
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from medray import __version__

        typer.echo(f"medray {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def ingest(spec: Spec, sets: Sets = None) -> None:
    """Read an archive into a dataset.

    Scan, decode, pseudonymise, join labels, split. A second run does only what is new or
    changed. Refused files become rows with a reason.
    """
    from medray import api
    from medray.cli import output

    summary = with_progress(api.ingest, spec, sets or [])
    output.ingest(summary)
    raise typer.Exit(3 if summary.over_limit else 0)


@app.command()
def train(spec: Spec, sets: Sets = None) -> None:
    """Train on the dataset, write a package.

    Interrupted (Ctrl-C, a lost node), the same command resumes at the last epoch.
    """
    from medray import api
    from medray.cli import output

    output.train(with_progress(api.train, spec, sets or []))


app.command()(makers.reinforce)


@app.command()
def evaluate(spec: Spec, sets: Sets = None) -> None:
    """Open `held_out`, write the report.

    Intervals, calibration, operating point, subgroups, mistakes with heat maps, model card.
    """
    from medray import api
    from medray.cli import output

    output.evaluate(with_progress(api.evaluate, spec, sets or []))


@app.command()
def crossval(spec: Spec, sets: Sets = None) -> None:
    """Train and judge every fold.

    `split.folds: 5` parts the patients; folds run side by side on Ray, each with its own package
    and report. Interrupted, the same command goes on with the folds that are not done.
    """
    from medray import api
    from medray.cli import output

    output.crossval(with_progress(api.crossval, spec, sets or []))


@app.command()
def score(spec: Spec, sets: Sets = None) -> None:
    """Score an archive, each item once.

    Only what this package has not scored yet; killed and run again, nothing is lost or doubled.
    """
    from medray import api
    from medray.cli import output

    summary = with_progress(api.score, spec, sets or [])
    output.score(summary)
    raise typer.Exit(3 if summary.over_limit else 0)


@app.command()
def predict(
    package: Annotated[
        str, typer.Argument(help="The package's folder; with --url the name of a served model.")
    ],
    files: Annotated[
        list[str],
        typer.Argument(
            help="DICOM, PNG or JPEG files; for a model of records CSV or Parquet tables, or "
            "folders of them, in the form it was trained on; for a model of molecules SMILES, "
            "or files of them (.smi, .csv, .parquet, .sdf; - for standard input)."
        ),
    ],
    explain: Annotated[
        str | None,
        typer.Option(help="Write a heat map of each picture, or structure, into this folder."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    every: Annotated[
        bool, typer.Option("--all", help="Records: at all times, not only the latest.")
    ] = False,
    source: Annotated[
        int | None,
        typer.Option(min=1, help="Tables: which of the package's sources the files are."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Ask a service (medray serve), e.g. https://host:8000.")
    ] = None,
    token_file: Annotated[
        str | None, typer.Option(help="With --url: holds the token; else $MEDRAY_TOKEN.")
    ] = None,
    ca: Annotated[
        str | None, typer.Option(help="With --url: PEM file of the service's authority.")
    ] = None,
) -> None:
    """Score single files, without Ray.

    The same numbers as `score`; with --explain also a heat map of where the model looked, or what
    each atom added. Tables of records: a line per patient, by pseudonym; of molecules: per row.
    With --url a service answers; records go there as MEDS rows or FHIR.
    """
    from medray import api
    from medray.cli import output

    if url is None:
        rows = api.predict(package, files, explain, device, every=every, source=source)
    else:
        from medray.cli import remote

        address = (url, token_file, ca)
        rows = remote.predict(address, package, files, explain, every=every, source=source)
    output.predict(rows, as_json=as_json)
    raise typer.Exit(3 if all(row.rejected for row in rows) else 0)


app.command()(makers.generate)
app.command()(serving.serve)


@export.command("meds")
def export_meds(
    source: Annotated[
        str,
        typer.Argument(help="The run's YAML file, or its output folder.", metavar="SPEC|OUTPUT"),
    ],
    out: Annotated[str, typer.Option(help="A new folder, or one of an earlier export.")],
    sets: Sets = None,
) -> None:
    """Patients' records as a MEDS 0.4 folder.

    Events by split, codes, splits; with a spec that asks whether something happens (event_within)
    also its labels. Checked with the `meds` package.
    """
    from medray import api
    from medray.cli import output

    output.exported(with_progress(api.export_meds, source, out, sets or []))


@app.command()
def explain(
    package: Annotated[str, typer.Argument(help="The folder of a package that reads records.")],
    subject: Annotated[
        str, typer.Option(help="Pseudonym of the patient, or an item of predictions.")
    ],
    dataset: Annotated[
        str | None, typer.Option(help="Where the record lies; else beside the package.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Latest time of the prediction: days after the start, or a date."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Which target; else that of the highest score.")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Write page, picture, Parquet and JSON into this folder.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Events to show.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Take one patient's prediction apart.

    What each event of the record added to the risk (integrated gradients), as a table and, with
    --out, as a timeline. For pictures: medray predict --explain.
    """
    from medray import api
    from medray.cli import output

    found, files = api.explain(
        package, subject, dataset=dataset, at=at, target=target, out=out, top=top, device=device
    )
    output.explanation(found, files, top, as_json=as_json)


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="A run, archive, dataset, package, predictions.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a path is and holds.

    A run, archive, dataset, package or predictions: counts, versions, lineage.
    """
    from medray import api
    from medray.cli import output

    output.inspection(api.inspect(path), as_json=as_json)


@app.command()
def validate(spec: Spec, sets: Sets = None) -> None:
    """Check a spec; list every problem.

    Each problem comes with its line and a suggestion. A sound spec is printed with all defaults.
    """
    from medray import api
    from medray.spec.load import dump_spec, spec_sha256

    checked = api.validate(spec, sets or [])
    typer.echo(dump_spec(checked), nl=False)
    typer.echo(f"# sound; sha256 {spec_sha256(checked)}")


@app.command()
def embed(
    package: Annotated[str, typer.Argument(help="An imaging package's folder.")],
    dataset: Annotated[str, typer.Argument(help="A dataset of images.")],
    time: Annotated[str, typer.Option(help="Its column with the scan's date, e.g. StudyDate.")],
    out: Annotated[str, typer.Option(help="The Parquet file to write.")],
    dimensions: Annotated[int, typer.Option(min=1, help="Codes that a scan becomes.")] = 16,
) -> None:
    """Turn scans into events of patients' records.

    What the package's networks see in each scan stands at the scan's time. Name the file in
    `records.sources` as {format: long, path: …, pseudonyms: true}: image and record in one model.
    """
    from medray import api
    from medray.cli import output

    output.embedded(with_progress(api.embed, package, dataset, time, out, dimensions))


@app.command()
def workloads() -> None:
    """List the prediction tasks."""
    from medray import api

    for name, summary in api.workloads().items():
        typer.echo(f"{name:<12} {summary}")


@app.command()
def demo(
    output: Annotated[str, typer.Option(help="Where everything goes.")] = "runs/demo",
    archive: Annotated[str | None, typer.Option(help="Your own DICOM folder.")] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="CSV: a key (SOP, study or patient id), a label, perhaps a split."),
    ] = None,
) -> None:
    """Go the whole way, in minutes.

    On a small archive made on the spot (real files of many syntaxes and synthetic radiographs),
    or on your own with --archive and --labels.
    """
    from medray import api
    from medray.cli import output as out

    out.demo(with_progress(api.demo, output, archive, labels))


def main() -> None:
    """Run the command line; what went wrong is one message and an exit code."""
    try:
        app(standalone_mode=True)
    except MedrayError as error:
        typer.secho(f"medray: {error}", err=True, fg="red" if sys.stderr.isatty() else None)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("medray: stopped; run the same command again to go on where it was", err=True)
        sys.exit(130)
