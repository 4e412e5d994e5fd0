"""What a service has answered to a question that may have gone in several requests."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_COUNTED = ("refused", "unknown_codes")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, whole.

    request_id    of every request it took.
    predictions   in the order of what was given, as the service tells them: `part` counts what was
                  given from 0 (records: `subject` the patients, in the order they are first named),
                  `package` says which version answered. member: which of a file's own parts, for
                  a ZIP, and where a file was sent alone.
    explanations  of `explain`, likewise. drawings: name → SVG.
    counts        records: `events` read, `refused` rows by reason, `unknown_codes`.
    """

    request_id: str
    predictions: tuple[dict[str, Any], ...] = ()
    explanations: tuple[dict[str, Any], ...] = ()
    drawings: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def packages(self) -> tuple[str, ...]:
        """The versions that answered, as in the table `predictions`: one, but in an update."""
        return tuple(dict.fromkeys(one["package"] for one in self.predictions))


def joined(request_id: str, told: Iterable[tuple[list[int], Mapping[str, Any]]]) -> Answer:
    """Put the answers to the pieces of a question together.

    told  of each piece, which of the things given it holds (files, SMILES, patients), and its JSON.
    """
    predictions: list[dict[str, Any]] = []
    explanations: list[dict[str, Any]] = []
    drawings: dict[str, str] = {}
    counts: dict[str, Any] = {}
    for places, content in told:
        package = {"package": content["package"]}
        for one in content.get("predictions", ()):
            predictions.append(_placed(one, places) | package)
        for one in content.get("explanations", ()):
            explanations.append(_placed(one, places) | package)
        drawings |= content.get("drawings", {})
        if "events" in content:
            counts["events"] = counts.get("events", 0) + content["events"]
            for name in _COUNTED:
                counts[name] = dict(Counter(counts.get(name, {})) + Counter(content[name]))
    return Answer(request_id, tuple(predictions), tuple(explanations), drawings, counts)


def _placed(one: Mapping[str, Any], places: list[int]) -> dict[str, Any]:
    """Number parts and patients as in the whole question. All parts of a lone file are its own."""
    if "part" in one and len(places) == 1:
        return {**one, "part": places[0], "member": one["part"]}
    return {**one, **{name: places[one[name]] for name in ("part", "subject") if name in one}}
