"""Scores: one item at a time, or an archive every night, by one and the same predictor."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medray.score.summary import ScoreSummary
    from medray.spec.models import RunSpec

__all__ = ["score"]


def score(
    spec: "RunSpec", *, progress: Callable[[dict[str, Any]], None] | None = None
) -> "ScoreSummary":
    """Score what is new in an archive; see medray.score.batch.

    Imported when called: a prediction on one file must wait neither for Ray nor for tables.
    """
    from medray.score.batch import score as run

    return run(spec, progress=progress)
