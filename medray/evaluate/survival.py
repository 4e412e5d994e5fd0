"""An outcome that comes at some time, on `held_out`: discrimination, calibration, thirds of risk.

Pure functions of arrays; the formulas stand in medray.metrics.survival. Items of one patient
(visits) resemble each other: intervals resample patients. Shapes: N items, L that have an outcome
and a finite score, C causes, T edges of time, H horizons.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medray.calibration import hazards
from medray.evaluate.groups import group_names, subgroup_table
from medray.evaluate.question import Question
from medray.metrics.bootstrap import patient_bootstrap, patient_bootstrap_vector
from medray.metrics.survival.brier import brier_score, integrated_brier_score
from medray.metrics.survival.calibration import horizon_calibration
from medray.metrics.survival.concordance import antolini_c, harrell_c, uno_c
from medray.metrics.survival.dynamic_auc import dynamic_auc, mean_dynamic_auc
from medray.metrics.survival.groups import curves_by_risk, logrank_test, quantile_groups
from medray.metrics.survival.km import (
    Censoring,
    StepCurve,
    aalen_johansen,
    censoring_distribution,
    kaplan_meier,
)
from medray.report.elements import (
    Curve,
    Estimate,
    ReliabilityBin,
    Subgroup,
    SubgroupTable,
    number,
    thinned,
)
from medray.report.numbers import NETWORK
from medray.report.outcomes import RiskThird, SurvivalHorizon, SurvivalModel, SurvivalResult

Array = NDArray[Any]

_GRID = 60  # times that a Brier score is integrated over
_THIRDS = ("lowest third", "middle third", "highest third")
_TICKS = 5
_LEAST_PER_BIN = 20


@dataclass(frozen=True, slots=True)
class _Part:
    """Held-out items with an outcome and an answer, and one cause in question.

    curves  model → incidence (L, T) of the cause; rows: their places among all items (N,).
    train   days and cause of the items of `train` whose outcome is known.
    """

    question: Question
    cause: int
    days: Array
    causes: Array
    patients: Array
    curves: Mapping[str, Array]
    rows: NDArray[np.bool_]
    train: tuple[Array, Array]
    censoring: Censoring

    @property
    def edges(self) -> Array:
        """Times (T,) of the curves."""
        return np.array(self.question.target.edges_days)

    @property
    def horizons(self) -> tuple[float, ...]:
        """Days (H,) at which risks are told."""
        return self.question.target.horizons_days

    def risks(self, model: str = NETWORK) -> Array:
        """Risk up to each horizon (L, H)."""
        return hazards.at(self.curves[model], self.edges, self.horizons)

    def bootstrap(self, statistic: Any, *risks: Array) -> Estimate:
        """Interval of a statistic of (days, causes, *risks) when patients are resampled."""
        question = self.question
        found = patient_bootstrap(
            statistic,
            self.patients.tolist(),
            (self.days, self.causes, *risks),
            replicates=question.replicates(len(self.days)),
            seed=question.settings.seed,
        )
        return Estimate.of(found)

    def by_horizon(self, statistic: Any) -> list[Estimate]:
        """The same of statistic(days, causes, risk, horizon), at every horizon its own risk."""
        question = self.question

        def all_of_them(days: Array, causes: Array, risks_LH: Array) -> Array:
            columns = zip(risks_LH.T, self.horizons, strict=True)
            return np.array([statistic(days, causes, risk, at) for risk, at in columns])

        found = patient_bootstrap_vector(
            all_of_them,
            self.patients.tolist(),
            (self.days, self.causes, self.risks()),
            replicates=question.replicates(len(self.days)),
            seed=question.settings.seed,
        )
        return [Estimate.of(one) for one in found]


def survival_results(question: Question) -> Iterator[SurvivalResult]:
    """One result per competing cause; `undefined` is set where it never came."""
    truth = question.held_out.truth
    known = np.isfinite(truth).all(axis=1) & (truth[:, 1] > 0)
    scored = np.isfinite(question.held_out.logits).all(axis=(1, 2))
    rows = known & scored
    train = question.train_truth
    train = train[np.isfinite(train).all(axis=1) & (train[:, 1] > 0)]
    causes_L = truth[rows, 0].astype(np.int64)
    censoring = censoring_distribution(train[:, 1], train[:, 0].astype(np.int64))
    answers = question.answers()
    for index, name in enumerate(question.target.classes):
        part = _Part(
            question=question,
            cause=index + 1,
            days=truth[rows, 1],
            causes=causes_L,
            patients=question.held_out.subject_ids[rows],
            curves={
                model: np.clip(curve[rows][:, index], 0.0, 1.0) for model, curve in answers.items()
            },
            rows=rows,
            train=(train[:, 1], train[:, 0].astype(np.int64)),
            censoring=censoring,
        )
        yield _result(name, part, int((known & ~scored).sum()))


def _result(name: str, part: _Part, not_scored: int) -> SurvivalResult:
    mine = part.causes == part.cause
    counts: dict[str, Any] = {
        "name": name,
        "items": len(part.days),
        "patients": len(set(part.patients.tolist())),
        "events": int(mine.sum()),
        "competing": int(((part.causes > 0) & ~mine).sum()),
        "censored": int((part.causes == 0).sum()),
        "not_scored": not_scored,
    }
    if not mine.any():
        return SurvivalResult(**counts, undefined="The outcome came to none of the held-out items.")
    last_L = part.risks()[:, -1]
    integrated, null = _integrated(part)
    group = quantile_groups(last_L, 3)
    times = _auc_times(part)
    auc = partial(mean_dynamic_auc, times=times, censoring=part.censoring, cause=part.cause)
    return SurvivalResult(
        **counts,
        follow_up_days=_median_follow_up(part),
        harrell=part.bootstrap(partial(harrell_c, cause=part.cause), last_L),
        antolini=number(_antolini(part, NETWORK)),
        mean_auc=number(
            auc(part.days, part.causes, hazards.at(part.curves[NETWORK], part.edges, times))
        ),
        integrated_brier=number(integrated[NETWORK]),
        integrated_brier_null=number(null),
        horizons=tuple(_horizons(part)),
        thirds=tuple(_thirds(part, last_L)),
        logrank_p=number(logrank_test(part.days, part.causes, group, cause=part.cause).p),
        models=(
            *(_model(part, model, integrated[model]) for model in part.curves),
            *(SurvivalModel(name=n, note=why) for n, why in part.question.not_fitted().items()),
        ),
        subgroups=_subgroups(part),
        replicates=part.question.replicates(len(part.days)),
    )


def _auc_times(part: _Part) -> Array:
    """Quartiles of the times of the outcome, up to the last horizon."""
    mine = part.days[(part.causes == part.cause) & (part.days <= part.horizons[-1])]
    if not len(mine):
        return np.array(part.horizons)
    return np.unique(np.quantile(mine, [0.25, 0.5, 0.75]))


def _median_follow_up(part: _Part) -> float | None:
    """When half would have been lost, if nothing else happened (Schemper & Smith 1996)."""
    curve = kaplan_meier(part.days, part.causes == 0)
    reached = curve.time[curve.estimate <= 0.5]
    return float(reached[0]) if len(reached) else None


def _antolini(part: _Part, model: str) -> float:
    return antolini_c(
        part.days, part.causes, part.curves[model][:, 1:], part.edges[1:], cause=part.cause
    )


def _integrated(part: _Part) -> tuple[dict[str, float], float]:
    """Integrated Brier score of every model, and of the incidence of `train` given to everybody."""
    last = min(part.horizons[-1], part.censoring.last)
    times = np.linspace(last / _GRID, last, _GRID)
    score = partial(integrated_brier_score, censoring=part.censoring, cause=part.cause)
    found = {
        model: score(part.days, part.causes, hazards.at(curve, part.edges, times), times)
        for model, curve in part.curves.items()
    }
    same = np.broadcast_to(aalen_johansen(*part.train, part.cause).at(times), (len(part.days), 60))
    return found, score(part.days, part.causes, np.nan_to_num(same), times)


def _horizons(part: _Part) -> Iterator[SurvivalHorizon]:
    def uno(days: Array, causes: Array, risk: Array, at: float) -> float:
        return uno_c(days, causes, risk, censoring=part.censoring, tau=at, cause=part.cause)

    def auc(days: Array, causes: Array, risk: Array, at: float) -> float:
        found = dynamic_auc(days, causes, risk, [at], censoring=part.censoring, cause=part.cause)
        return float(found[0])

    for index, (u, a) in enumerate(zip(part.by_horizon(uno), part.by_horizon(auc), strict=True)):
        yield _horizon(part, index, u, a)


def _horizon(part: _Part, index: int, uno: Estimate, auc: Estimate) -> SurvivalHorizon:
    days, causes, horizon = part.days, part.causes, part.horizons[index]
    risk_L = part.risks()[:, index]
    observed = aalen_johansen(days, causes, part.cause).interval_at(horizon)
    brier = partial(brier_score, times=[horizon], censoring=part.censoring, cause=part.cause)
    everybody = aalen_johansen(*part.train, part.cause).at([horizon])[0]
    bins = horizon_calibration(
        days, causes, risk_L, horizon, least=_LEAST_PER_BIN, cause=part.cause
    )
    return SurvivalHorizon(
        horizon_days=horizon,
        events=int(((causes == part.cause) & (days <= horizon)).sum()),
        at_risk=int((days > horizon).sum()),
        predicted=number(float(risk_L.mean())),
        observed=Estimate.of(observed),
        uno=uno,
        auc=auc,
        brier=number(float(brier(days, causes, risk_L[:, None])[0])),
        brier_null=_same_for_all(brier, days, causes, float(everybody)),
        difference=number(bins.mean_difference),
        bins=tuple(
            ReliabilityBin(items=int(n), predicted=float(p), observed=float(o), low=low, high=high)
            for n, p, o, low, high in zip(
                bins.count,
                bins.predicted,
                bins.observed,
                bins.low.tolist(),
                bins.high.tolist(),
                strict=True,
            )
            if np.isfinite([o, low, high]).all()
        ),
    )


def _same_for_all(brier: Any, days: Array, causes: Array, risk: float) -> float | None:
    if not np.isfinite(risk):
        return None
    return number(float(brier(days, causes, np.full((len(days), 1), risk))[0]))


def _model(part: _Part, model: str, integrated: float) -> SurvivalModel:
    risks_LH = part.risks(model)
    own_L, network_L = risks_LH[:, -1], part.risks()[:, -1]
    uno = partial(uno_c, censoring=part.censoring, cause=part.cause)
    days, causes, horizons = part.days, part.causes, part.horizons
    briers = brier_score(
        days, causes, risks_LH, horizons, censoring=part.censoring, cause=part.cause
    )

    def gain(days: Array, causes: Array, network: Array, own: Array) -> float:
        first = uno(days, causes, network, tau=horizons[-1])
        return first - uno(days, causes, own, tau=horizons[-1])

    return SurvivalModel(
        name=model,
        harrell=number(harrell_c(days, causes, own_L, part.cause)),
        antolini=number(_antolini(part, model)),
        integrated_brier=number(integrated),
        uno=tuple(
            number(uno(days, causes, risks_LH[:, index], tau=horizon))
            for index, horizon in enumerate(horizons)
        ),
        brier=tuple(number(float(value)) for value in briers),
        gain=None if model == NETWORK else part.bootstrap(gain, network_L, own_L),
    )


def _thirds(part: _Part, risk_L: Array) -> Iterator[RiskThird]:
    ticks = np.linspace(0, part.horizons[-1], _TICKS)
    found = curves_by_risk(part.days, part.causes, risk_L, 3, cause=part.cause)
    names = _THIRDS if len(found) == 3 else tuple(f"group {i + 1}" for i in range(len(found)))
    for name, group in zip(names, found, strict=True):
        curve = group.curve
        yield RiskThird(
            name=name,
            items=group.rows,
            events=group.events,
            incidence=_steps(curve, curve.estimate, part.horizons[-1]),
            low=_steps(curve, curve.low, part.horizons[-1]),
            high=_steps(curve, curve.high, part.horizons[-1]),
            ticks_days=tuple(ticks.tolist()),
            at_risk=tuple(int(n) for n in curve.at_risk_at(ticks)),
        )


def _steps(curve: StepCurve, values: Array, last: float) -> Curve:
    """Corners of a step curve from 0 to `last`; empty where it is not defined."""
    inside = (curve.time <= last) & np.isfinite(values)
    x, y = [0.0], [curve.start]
    for time, value in zip(curve.time[inside], values[inside], strict=True):
        x += [float(time), float(time)]
        y += [y[-1], float(value)]
    if curve.time[-1] >= last:
        x.append(last)
        y.append(y[-1])
    return thinned(x, y)


def _subgroups(part: _Part) -> tuple[SubgroupTable, ...]:
    question, horizon = part.question, part.horizons[-1]
    risk_L = part.risks()[:, -1]
    uno = partial(uno_c, censoring=part.censoring, tau=horizon, cause=part.cause)

    def row(members: NDArray[np.bool_]) -> Subgroup:
        days, causes, risk = part.days[members], part.causes[members], risk_L[members]
        found = patient_bootstrap(
            uno,
            part.patients[members].tolist(),
            (days, causes, risk),
            replicates=min(200, question.replicates(len(part.days))),
            seed=question.settings.seed,
        )
        observed = aalen_johansen(days, causes, part.cause).interval_at(horizon)
        return Subgroup(
            group="",
            patients=len(set(part.patients[members].tolist())),
            items=len(days),
            positives=int((causes == part.cause).sum()),
            mean_predicted=float(risk.mean()),
            measures={"Uno’s C": Estimate.of(found), "Observed risk": Estimate.of(observed)},
        )

    return tuple(
        subgroup_table(
            attribute,
            group_names(attribute, values)[part.rows],
            part.patients,
            question.settings.evaluate.min_patients,
            row,
        )
        for attribute, values in question.columns.items()
    )
