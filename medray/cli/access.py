"""The commands around a service: its tokens, and its audit."""

from typing import Annotated

import typer

token = typer.Typer(
    help=(
        "Make, list and revoke the bearer tokens of a service.\n\n"
        "The file holds names, SHA-256 hashes, scopes and dates, never a token; `access.tokens` of "
        "the service names it. A running service sees a change within a second or two.\n\n"
        "medray token new ward-3 --scopes predict,explain --days 365 --file tokens.json"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)
audit = typer.Typer(
    help="Check the record that a service keeps of who asked what.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="Whose token it is: a ward, a program; no patient.")]
File = Annotated[str, typer.Option("--file", help="The tokens file (JSON).")]


@token.command("new")
def token_new(
    name: Name,
    scopes: Annotated[
        str,
        typer.Option(
            help="What it may do, separated by commas: predict (scores, models, worklist), "
            "explain (heat maps, attributions), admin (metrics)."
        ),
    ],
    file: File = "tokens.json",
    per_minute: Annotated[
        int | None, typer.Option(min=1, help="Requests a minute; else the service's own limit.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="After these it expires; else it does not.")
    ] = None,
) -> None:
    """Make a token and print it, this once.

    The token alone goes to standard output, what is said of it to standard error.

    medray token new ward-3 --scopes predict,explain --days 365
    """
    from medray import api

    asked = [scope.strip() for scope in scopes.split(",") if scope.strip()]
    made = api.token_new(name, asked, file, per_minute=per_minute, days=days)
    typer.echo(made.token)
    until = f"until {made.entry.expires:%Y-%m-%d}" if made.entry.expires else "without end"
    typer.echo(
        f"{name}: {', '.join(made.entry.scopes)}, {until}. {file} holds its hash only: keep the "
        "token now, it cannot be shown again.",
        err=True,
    )


@token.command("list")
def token_list(file: File = "tokens.json") -> None:
    """List tokens: name, state, scopes, requests a minute, dates."""
    from medray import api
    from medray.serve.access.tokens import utc_now

    now = utc_now()
    for one in api.token_list(file):
        rate = f"{one.per_minute}/min" if one.per_minute else "-"
        until = f"until {one.expires:%Y-%m-%d}" if one.expires else "without end"
        scopes = ",".join(one.scopes)
        typer.echo(f"{one.name:<24} {one.state(now):<8} {scopes:<22} {rate:<10} {until}")


@token.command("revoke")
def token_revoke(name: Name, file: File = "tokens.json") -> None:
    """Make a token worthless from now on.

    It stays in the list; its name may be used for a new one.
    """
    from medray import api

    api.token_revoke(name, file)
    typer.echo(f"{name} is revoked")


@audit.command("verify")
def audit_verify(
    folder: Annotated[str, typer.Argument(help="The audit's folder: <output>/audit.")],
) -> None:
    """Check that no line was changed or taken out.

    Every line carries the hash of the line before. What no chain can tell is whether its end is
    missing: keep the printed hashes elsewhere, and compare. Exit code 1: something is wrong.
    """
    from medray import api

    found = api.audit_verify(folder)
    typer.echo(f"{found.lines} lines in {found.files} files of {len(found.ends)} doors")
    for door, name in found.begins.items():
        typer.echo(f"door {door} begins with {name}: earlier files are gone, as keep_days has it")
    for door, last in found.ends.items():
        typer.echo(f"door {door} ends with {last}")
    for problem in found.problems:
        typer.echo(f"  {problem}", err=True)
    if not found.sound:
        typer.echo("the audit is not as it was written", err=True)
        raise typer.Exit(1)
    typer.echo("sound")
