"""A single number, on `held_out`: errors, correlations, and what its interval is worth.

Pure functions of arrays; the formulas stand in medray.metrics. Shapes: N items, L with a value and
an answer.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medray.evaluate.groups import group_names, subgroup_table
from medray.evaluate.question import Question
from medray.metrics.regression import mae, pearson, r_squared, rmse, spearman
from medray.metrics.survival.quantiles import interval_coverage, interval_width
from medray.report.elements import Curve, Estimate, Subgroup, SubgroupTable, number
from medray.report.numbers import NETWORK
from medray.report.values import ValueModel, ValueResult

Array = NDArray[Any]

_MOST_POINTS = 600


def value_results(question: Question) -> Iterator[ValueResult]:
    """One result; `undefined` is set where fewer than two values are known."""
    held_out, name = question.held_out, question.target.name
    known_N, scored_N = np.isfinite(held_out.truth), np.isfinite(held_out.logits)
    rows = np.logical_and(known_N, scored_N)
    patients_L, truth_L = held_out.subject_ids[rows], held_out.truth[rows].astype(np.float64)
    entry = question.calibration.targets[name]
    counts: dict[str, Any] = {
        "name": name,
        "items": len(truth_L),
        "patients": len(set(patients_L.tolist())),
        "not_scored": int((known_N & ~scored_N).sum()),
        "calibration_note": entry.note,
    }
    if np.unique(truth_L).size < 2:
        yield ValueResult(**counts, undefined="No two held-out items have different values.")
        return
    answers = {model: found[rows] for model, found in question.answers().items()}
    answer_L = answers[NETWORK]
    few = np.linspace(0, len(truth_L) - 1, min(len(truth_L), _MOST_POINTS)).astype(int)

    def estimate(statistic: Callable[..., float], *arrays: Array) -> Estimate:
        return question.estimate(statistic, patients_L, truth_L, *arrays)

    yield ValueResult(
        **counts,
        **_interval(question, rows, estimate),
        rmse=estimate(rmse, answer_L),
        mae=estimate(mae, answer_L),
        r_squared=estimate(r_squared, answer_L),
        pearson=estimate(pearson, answer_L),
        spearman=estimate(spearman, answer_L),
        seen=Curve(x=tuple(answer_L[few].tolist()), y=tuple(truth_L[few].tolist())),
        models=(
            *(
                ValueModel(
                    name=model,
                    rmse=estimate(rmse, found),
                    mae=estimate(mae, found),
                    r_squared=estimate(r_squared, found),
                    gain=None if model == NETWORK else estimate(_less_error, found, answer_L),
                )
                for model, found in answers.items()
            ),
            *(ValueModel(name=model, note=why) for model, why in question.not_fitted().items()),
        ),
        subgroups=_subgroups(question, truth_L, answer_L, patients_L, rows),
        replicates=question.replicates(len(truth_L)),
    )


def _interval(question: Question, rows: Array, estimate: Callable[..., Estimate]) -> dict[str, Any]:
    """How many values lie in the interval given with each answer, and how wide it is."""
    held_out, target = question.held_out, question.target
    ends = question.calibration.interval(target.name, held_out.logits[rows])
    if ends is None:
        return {}
    return {
        "wanted": target.levels[-1] - target.levels[0],
        "coverage": estimate(interval_coverage, ends[:, 0], ends[:, 1]),
        "width": number(interval_width(held_out.truth[rows], ends[:, 0], ends[:, 1])),
    }


def _less_error(truth: Array, own: Array, network: Array) -> float:
    return rmse(truth, own) - rmse(truth, network)


def _subgroups(
    question: Question, truth_L: Array, answer_L: Array, patients: Array, rows: Array
) -> tuple[SubgroupTable, ...]:
    def row(members: NDArray[np.bool_]) -> Subgroup:
        there = (patients[members], truth_L[members], answer_L[members])
        return Subgroup(
            group="",
            patients=len(set(there[0].tolist())),
            items=int(members.sum()),
            measures={
                "RMSE": question.estimate(rmse, *there),
                "R²": question.estimate(r_squared, *there),
            },
        )

    return tuple(
        subgroup_table(
            attribute,
            group_names(attribute, values)[rows],
            patients,
            question.settings.evaluate.min_patients,
            row,
        )
        for attribute, values in question.columns.items()
    )
