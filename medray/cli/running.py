"""What commands share: a spec with its overrides, and progress while a verb runs."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

Spec = Annotated[str, typer.Argument(help="The run's YAML file.", metavar="SPEC")]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Override one value, e.g. --set train.epochs=5. Repeatable.",
        metavar="KEY.PATH=VALUE",
    ),
]


def with_progress(verb: Callable[..., Any], *arguments: Any) -> Any:
    """Call a verb of `medray.api`, its progress drawn on the terminal."""
    from medray.cli.output import console
    from medray.cli.progress import LiveProgress

    with LiveProgress(console()) as progress:
        return verb(*arguments, progress=progress)
