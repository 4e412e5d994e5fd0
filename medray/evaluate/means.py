"""One number for many yes/no targets: the mean of their measures, of every model.

Pure functions of arrays. Shapes: N items, L targets.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medray.evaluate.question import Question
from medray.metrics.bootstrap import patient_bootstrap
from medray.metrics.discrimination import auroc, average_precision
from medray.report.document import BinaryResult, Estimate, MeanRow, TargetResult

Array = NDArray[Any]

_MEASURES: dict[str, Callable[[Array, Array], float]] = {
    "AUROC": auroc,
    "AUPRC": average_precision,
}


def mean_rows(
    questions: Sequence[Question], results: Sequence[TargetResult]
) -> tuple[MeanRow, ...]:
    """The network's means and those of every rival that answers all targets; for two and more."""
    defined = {one.name for one in results if isinstance(one, BinaryResult) and not one.undefined}
    asked = [one for one in questions if one.target.name in defined]
    if len(asked) < 2:
        return ()
    answers = [question.answers() for question in asked]
    shared = [name for name in answers[0] if all(name in one for one in answers)]
    truth_NL = np.stack([question.held_out.truth for question in asked], axis=1)
    first = asked[0]
    rows: list[MeanRow] = []
    for model in shared:
        score_NL = np.stack([one[model] for one in answers], axis=1)
        measures = {
            name: Estimate.of(
                patient_bootstrap(
                    _mean_of(measure),
                    first.held_out.subject_ids.tolist(),
                    (truth_NL, score_NL),
                    replicates=first.replicates(truth_NL.size),
                    seed=first.settings.seed,
                )
            )
            for name, measure in _MEASURES.items()
        }
        rows.append(MeanRow(model=model, targets=len(asked), measures=measures))
    return tuple(rows)


def _mean_of(measure: Callable[[Array, Array], float]) -> Callable[..., float]:
    """Mean of a measure over targets; NaN where one of them has one outcome only."""

    def statistic(truth_NL: Array, score_NL: Array) -> float:
        known_NL = np.isfinite(truth_NL) & np.isfinite(score_NL)
        return float(
            np.mean(
                [
                    measure(truth_N[known_N], score_N[known_N])
                    for truth_N, score_N, known_N in zip(
                        truth_NL.T, score_NL.T, known_NL.T, strict=True
                    )
                ]
            )
        )

    return statistic
