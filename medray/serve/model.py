"""A loaded package that answers requests: read in any thread, computed together in one.

Answers are those of `medray predict`: the same refusals, pseudonyms and scores. No HTTP, no Ray.
"""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from medray.package import Package, open_package
from medray.score.prediction import Outcome, PredictionRow, Score
from medray.serve.asked import Explained, Request
from medray.serve.problems import ProblemError

A = TypeVar("A")

ACCEPTS = {
    "images": (
        "application/dicom",
        "image/png",
        "image/jpeg",
        "application/zip",
        "multipart/form-data",
        "multipart/related",
    ),
    "records": ("application/json", "application/fhir+json"),
    "molecules": ("application/json",),
}


class Model(Protocol[A]):
    """One loaded package. What passes from `read` to `answer` is its own affair."""

    @property
    def package(self) -> Package:
        """What answers."""
        ...

    def read(self, request: Request) -> A:
        """Parse and decode a request; threads may do so side by side. Raises ProblemError."""
        ...

    def answer(self, several: Sequence[A]) -> list[dict[str, Any]]:
        """What is said of each of some requests, computed together: `predictions`, and counts."""
        ...

    def explain(self, asked: A, target: str | None) -> Explained:
        """What the answer rests on. Raises ProblemError for a target it has not."""
        ...


def open_model(package: str, device: str = "cpu") -> Model[Any]:
    """Load a package, whatever it reads."""
    reads = open_package(package).reads
    if reads == "records":
        from medray.serve.records import RecordsModel

        return RecordsModel(package, device)
    if reads == "molecules":
        from medray.serve.molecules import MoleculesModel

        return MoleculesModel(package, device)
    from medray.serve.images import ImagesModel

    return ImagesModel(package, device)


def thresholds(package: Package) -> dict[str, float]:
    """Target → the operating point its decision was made at."""
    every = package.calibration.targets
    return {name: one.threshold for name, one in every.items() if one.threshold is not None}


def said(scores: Iterable[PredictionRow | Score], at: Mapping[str, float]) -> list[dict[str, Any]]:
    """Scores of one item as JSON, each with the threshold of its decision, if there is one."""
    return [
        {
            "target": one.target,
            "text_value": one.text_value,
            "score": one.score,
            "decision": one.decision,
            "threshold": at.get(one.target or ""),
        }
        for one in scores
    ]


def status(outcome: Outcome) -> dict[str, Any]:
    """Of an item, as JSON."""
    reason = None if outcome.reason is None else str(outcome.reason)
    return {
        "status": "ok" if reason is None else "rejected",
        "reason": reason,
        "detail": outcome.detail,
    }


def not_read(package: Package, reads: str) -> ProblemError:
    """The body is of something that the package does not read."""
    return ProblemError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "other-input",
        f"{package.name} predicts from {reads}; send {' or '.join(ACCEPTS[reads])}",
    )
