"""What passes between the door and a model: plain values that pickle. No HTTP, no Ray, no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["json", "fhir", "file"]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a request.

    kind  `json`: the model's own JSON. `fhir`: a FHIR R4 Bundle. `file`: bytes of a scan; what it
          is (DICOM, PNG, JPEG) is told by its first bytes, never by its name.
    name  a file's name as it was given: for pseudonyms of pictures without a header, never logged.
    """

    kind: Kind
    data: bytes
    name: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A question to one model: its parts in order. target: what an explanation is of."""

    parts: tuple[Part, ...]
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Heatmap:
    """Where the model looked in one picture.

    part, frame  which picture of the request.
    item_id      as in `predictions`.
    picture      PNG of the picture as it was read. heatmap: PNG, uint8 grey, same size.
    overlay      PNG of both.
    """

    part: int
    frame: int
    item_id: str
    target: str
    picture: bytes
    heatmap: bytes
    overlay: bytes


@dataclass(frozen=True, slots=True)
class Explained:
    """What an answer rests on: heat maps of pictures, or `events`/`atoms` as JSON and drawings.

    content  JSON: `{"explanations": [...]}`.
    page     an HTML page (records) or SVG (molecules), if the workload draws one: name → text.
    """

    content: Mapping[str, Any] = field(default_factory=dict)
    heatmaps: tuple[Heatmap, ...] = ()
    drawings: Mapping[str, str] = field(default_factory=dict)
