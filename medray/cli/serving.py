"""The verb `serve`: a service in the foreground, changed by SIGHUP, ended by Ctrl-C."""

import queue
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from medray.cli.running import Sets
from medray.errors import MedrayError

if TYPE_CHECKING:
    from medray.serve.launch import Service


def serve(
    service: Annotated[str, typer.Argument(help="The service's YAML file.", metavar="SERVICE")],
    sets: Sets = None,
    address: Annotated[
        str | None,
        typer.Option(help="Deploy on this Ray cluster and return; absent: on this machine."),
    ] = None,
    config: Annotated[
        bool, typer.Option("--config", help="Print what `serve deploy` and a RayService take.")
    ] = False,
) -> None:
    """Answer requests online: scores, explanations, the viewer.

    A service is one YAML file: packages, how far they grow, who may ask (see jobs/ward/). It runs
    until Ctrl-C, which lets requests under way end. On SIGHUP the file is read again: new versions
    start beside the old ones, and no request fails.
    """
    from medray import api
    from medray.cli import output

    if config:
        typer.echo(api.serve_config(service, sets or []), nl=False)
        return
    heard: queue.SimpleQueue[int] = queue.SimpleQueue()
    _listen(heard)
    with api.serve(service, sets or [], address, output.told) as running:
        _listen(heard)  # Ray has set its own
        output.served(running)
        while address is None:
            if heard.get() != signal.SIGHUP:
                output.told("ending: requests under way are answered first")
                return
            _change(running, service, sets or [])


def _listen(heard: "queue.SimpleQueue[int]") -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: heard.put(number))


def _change(running: "Service", service: str, sets: list[str]) -> None:
    """Read the file again. What is wrong with it is said, and nothing changes."""
    from medray import api
    from medray.cli import output

    try:
        running.start(api.service_spec(service, sets))
    except MedrayError as error:
        typer.secho(f"medray: {error}\nmedray: nothing was changed", err=True, fg="red")
        return
    output.served(running)
