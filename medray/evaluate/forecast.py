"""The course of a measured value, on `held_out`: error, intervals, and what they are worth.

Pure functions of arrays; the formulas stand in medray.metrics.survival.quantiles. Shapes: N items,
L with a value and an answer at one horizon, H horizons, Q quantiles.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medray.evaluate.groups import group_names, subgroup_table
from medray.evaluate.question import Question
from medray.metrics.survival.quantiles import (
    interval_coverage,
    interval_width,
    mean_absolute_error,
    pinball_loss,
)
from medray.report.elements import Curve, Estimate, Subgroup, SubgroupTable, number
from medray.report.numbers import NETWORK
from medray.report.outcomes import ForecastHorizon, ForecastModel, ForecastResult

Array = NDArray[Any]

_MOST_POINTS = 400


def forecast_results(question: Question) -> Iterator[ForecastResult]:
    """One result; `undefined` is set where no value was measured."""
    held_out, target = question.held_out, question.target
    known_NH = np.isfinite(held_out.truth)
    scored_N = np.isfinite(held_out.logits).all(axis=(1, 2))
    some_N = known_NH.any(axis=1)
    rows = np.logical_and(some_N, scored_N)
    counts: dict[str, Any] = {
        "name": target.name,
        "items": int(rows.sum()),
        "patients": len(set(held_out.subject_ids[rows].tolist())),
        "not_scored": int((some_N & ~scored_N).sum()),
        "levels": target.levels,
        "wanted": target.levels[-1] - target.levels[0],
        "calibration_note": question.calibration.targets[target.name].note,
    }
    if not rows.any():
        yield ForecastResult(**counts, undefined="No value was measured near a horizon.")
        return
    answers = {model: found[rows] for model, found in question.answers().items()}
    truth_LH, patients_L = held_out.truth[rows], held_out.subject_ids[rows]
    places = range(len(target.horizons_days))
    yield ForecastResult(
        **counts,
        horizons=tuple(
            _horizon(question, index, truth_LH, answers[NETWORK], patients_L) for index in places
        ),
        models=(
            *(_model(question, name, truth_LH, answers, patients_L) for name in answers),
            *(ForecastModel(name=n, note=why) for n, why in question.not_fitted().items()),
        ),
        subgroups=_subgroups(question, truth_LH, answers[NETWORK], patients_L, rows),
        replicates=question.replicates(len(truth_LH)),
    )


def _horizon(
    question: Question, index: int, truth_LH: Array, answer_LHQ: Array, patients_L: Array
) -> ForecastHorizon:
    levels = question.target.levels
    known = np.isfinite(truth_LH[:, index])
    truth, answer, patients = truth_LH[known, index], answer_LHQ[known, index], patients_L[known]
    middle, low, high = answer[:, levels.index(0.5)], answer[:, 0], answer[:, -1]
    few = np.linspace(0, len(truth) - 1, min(len(truth), _MOST_POINTS)).astype(int)
    return ForecastHorizon(
        horizon_days=question.target.horizons_days[index],
        values=len(truth),
        error=question.estimate(mean_absolute_error, patients, truth, middle),
        pinball=number(pinball_loss(truth, answer, levels)),
        coverage=question.estimate(interval_coverage, patients, truth, low, high),
        width=number(interval_width(truth, low, high)),
        seen=Curve(x=tuple(middle[few].tolist()), y=tuple(truth[few].tolist())),
    )


def _model(
    question: Question, name: str, truth_LH: Array, answers: Mapping[str, Array], patients: Array
) -> ForecastModel:
    """Its errors where it has an answer: before a first value nothing can be carried forward."""
    levels = question.target.levels
    middle = levels.index(0.5)
    own_LHQ, network_LHQ = answers[name], answers[NETWORK]
    errors: list[float | None] = []
    pinballs: list[float | None] = []
    coverages: list[float | None] = []
    gains: list[Estimate] = []
    for index in range(truth_LH.shape[1]):
        rows = np.isfinite(truth_LH[:, index]) & np.isfinite(own_LHQ[:, index]).all(axis=1)
        truth, own = truth_LH[rows, index], own_LHQ[rows, index]
        network = network_LHQ[rows, index]
        errors.append(number(mean_absolute_error(truth, own[:, middle])))
        pinballs.append(number(pinball_loss(truth, own, levels)))
        coverages.append(number(interval_coverage(truth, own[:, 0], own[:, -1])))
        if name != NETWORK:
            pair = (truth, own[:, middle], network[:, middle])
            gains.append(question.estimate(_less_error, patients[rows], *pair))
    return ForecastModel(
        name=name,
        error=tuple(errors),
        pinball=tuple(pinballs),
        coverage=tuple(coverages),
        gain=tuple(gains),
    )


def _less_error(truth: Array, own: Array, network: Array) -> float:
    return mean_absolute_error(truth, own) - mean_absolute_error(truth, network)


def _subgroups(
    question: Question, truth_LH: Array, answer_LHQ: Array, patients: Array, rows: Array
) -> tuple[SubgroupTable, ...]:
    """Error at the first horizon, by group."""
    known = np.isfinite(truth_LH[:, 0])
    middle_L = answer_LHQ[:, 0, question.target.levels.index(0.5)]

    def row(members: NDArray[np.bool_]) -> Subgroup:
        there = members & known
        error = partial(question.estimate, mean_absolute_error, patients[there], truth_LH[there, 0])
        return Subgroup(
            group="",
            patients=len(set(patients[members].tolist())),
            items=int(members.sum()),
            measures={"Mean error": error(middle_L[there])} if there.any() else {},
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
