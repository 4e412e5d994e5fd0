"""The commands of packages that make molecules."""

from functools import partial
from typing import Annotated

import typer

from medray.cli.running import Sets, Spec, with_progress


def generate(
    package: Annotated[str, typer.Argument(help="The folder of a package that makes molecules.")],
    out: Annotated[str, typer.Option(help="A new folder for molecules and gallery.")],
    count: Annotated[
        int, typer.Option("-n", "--count", min=1, help="Distinct molecules wanted.")
    ] = 30_000,
    toxicity: Annotated[
        list[str] | None,
        typer.Option(
            help="A package that predicts properties of molecules; its targets become columns. "
            "Repeatable."
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Compare with these molecules; else with the dataset beside PACKAGE."),
    ] = None,
    way: Annotated[
        str | None, typer.Option(help="How to draw, e.g. gan or normal; else the package's first.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Below 1: more usual molecules; above: odder ones.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, the same molecules.")] = 0,
    filters: Annotated[
        bool,
        typer.Option(help="Leave out what medicinal chemistry filters hold something against."),
    ] = True,
    unlike_training: Annotated[
        float | None,
        typer.Option(
            metavar="S", help="Leave out what is this similar to a training molecule (Tanimoto)."
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="Column to rank by, e.g. QED or tox21/NR-AR.")] = "QED",
    lowest: Annotated[
        bool | None,
        typer.Option("--lowest/--highest", help="Which end is best; else as suits the column."),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Files beside the table: csv, sdf or both.")
    ] = "csv,sdf",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Make new molecules, drawn in a gallery.

    Distinct, valid and filtered, with QED, SA, logP, weight, the nearest training molecule and what
    other packages predict: a Delta table, CSV, SDF and gallery.html. Many are made on Ray. Stopped
    or killed, the same command goes on; what is drawn is kept. Exit code 3: fewer were found.

    medray generate runs/moses/package -n 1000 --toxicity runs/tox21/package --out made
    """
    from medray import api
    from medray.cli import output

    run = partial(
        api.generate,
        toxicity=toxicity or [],
        dataset=dataset,
        device=device,
        count=count,
        way=way,
        temperature=temperature,
        seed=seed,
        filters=filters,
        unlike_training=unlike_training,
        by=by,
        lowest=lowest,
        formats=tuple(part for part in formats.split(",") if part),
    )
    summary = with_progress(run, package, out)
    output.generated(summary)
    raise typer.Exit(3 if summary.short else 0)


def reinforce(spec: Spec, sets: Sets = None) -> None:
    """Steer a package that makes molecules toward wanted ones.

    `reinforce:` names the package and what is wanted: QED, SA, logP, likeness, what other packages
    predict. A new package is written; the old one stays. Interrupted, the same command resumes.
    """
    from medray import api
    from medray.cli import output

    output.reinforced(with_progress(api.reinforce, spec, sets or []))
