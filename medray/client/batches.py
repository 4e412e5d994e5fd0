"""A long question in pieces that a service takes at once: files, patients, SMILES. No HTTP."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from medray.errors import UsageError

FILES, FILE_BYTES = 200, 64 << 20
EVENTS, SMILES = 20_000, 1000


class Piece(NamedTuple):
    """Part of a question. places: which of the things given it holds, in order."""

    places: list[int]
    content: Any


def of_files(names: Sequence[str]) -> Iterator[Piece]:
    """Files by number and size; one that is larger than a piece makes its own, as does a ZIP.

    Raises UsageError before the first piece when one of them cannot be read.
    """
    try:
        sizes = [FILE_BYTES if _is_zip(name) else os.stat(name).st_size for name in names]
    except OSError as error:
        raise unreadable(error) from None
    return _of_sizes(names, sizes)


def _is_zip(name: str) -> bool:
    """Whether the service will see more parts in it than one."""
    with open(name, "rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def _of_sizes(names: Sequence[str], sizes: Sequence[int]) -> Iterator[Piece]:
    places: list[int] = []
    size = 0
    for place, mine in enumerate(sizes):
        if places and (len(places) == FILES or size + max(mine, 1) > FILE_BYTES):
            yield Piece(places, [names[one] for one in places])
            places, size = [], 0
        places.append(place)
        size += mine
    if places:
        yield Piece(places, [names[one] for one in places])


def of_smiles(smiles: Sequence[str]) -> Iterator[Piece]:
    """SMILES by number; without any, one empty piece."""
    for first in range(0, max(len(smiles), 1), SMILES):
        some = list(smiles[first : first + SMILES])
        yield Piece(list(range(first, first + len(some))), {"smiles": some})


def of_events(
    events: Sequence[Mapping[str, Any]], times: Sequence[Mapping[str, Any]] | None
) -> Iterator[Piece]:
    """Whole patients, until a piece has enough events; without any, one empty piece."""
    rows: dict[str, tuple[list[Any], list[Any]]] = {}
    for kind, given in enumerate((events, times or ())):
        for row in given:
            rows.setdefault(str(row["subject_id"]).strip(), ([], []))[kind].append(row)
    places: list[int] = []
    mine: tuple[list[Any], list[Any]] = ([], [])
    for place, (theirs, moments) in enumerate(rows.values()):
        if places and len(mine[0]) + len(theirs) > EVENTS:
            yield Piece(places, _question(*mine, asked=times is not None))
            places, mine = [], ([], [])
        places.append(place)
        mine[0].extend(theirs)
        mine[1].extend(moments)
    if places or not rows:
        yield Piece(places, _question(*mine, asked=times is not None))


def halves(piece: Piece) -> tuple[Piece, Piece] | None:
    """A piece of files that was too much, in two; None where it is one file."""
    middle = len(piece.places) // 2
    if not middle or not isinstance(piece.content, list):
        return None
    cut = (slice(None, middle), slice(middle, None))
    first, second = (Piece(piece.places[one], piece.content[one]) for one in cut)
    return first, second


def unreadable(error: OSError) -> UsageError:
    """What is told of a file that cannot be read."""
    return UsageError(
        f"{error.filename} cannot be read: {error.strerror or type(error).__name__}",
        remedy="nothing of this question was answered; leave the file out",
    )


def _question(events: list[Any], times: list[Any], *, asked: bool) -> dict[str, Any]:
    return {"events": events} | ({"prediction_times": times} if asked else {})
