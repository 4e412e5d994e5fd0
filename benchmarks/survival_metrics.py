"""Figure 3: every survival metric equals an independent oracle to 1e-6.

    python -m benchmarks.survival_metrics

Random censored data sets of 20 to 400 rows, with and without tied times and risks, with little and
heavy censoring, with one cause and with three. The oracles are installed with medray's `dev` extra.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import SurvivalEVAL
from lifelines import AalenJohansenFitter, KaplanMeierFitter
from sklearn.metrics import mean_absolute_error as sklearn_absolute_error
from sklearn.metrics import mean_pinball_loss
from sksurv import metrics, nonparametric
from sksurv.compare import compare_survival
from sksurv.util import Surv
from SurvivalEVAL.evaluations.prediction_error import brier_multiple_points_cr_per_event
from SurvivalEVAL.nonparametric_estimator.competing_risks.aalen_johansen import (
    AalenJohansenCompetingRisks,
)

from benchmarks.figures import Figure
from medray.metrics.survival.brier import brier_score, integrated_brier_score
from medray.metrics.survival.calibration import horizon_calibration
from medray.metrics.survival.concordance import antolini_c, harrell_c, uno_c
from medray.metrics.survival.dynamic_auc import dynamic_auc, mean_dynamic_auc
from medray.metrics.survival.groups import logrank_test, quantile_groups
from medray.metrics.survival.km import (
    Censoring,
    aalen_johansen,
    censoring_distribution,
    kaplan_meier,
)
from medray.metrics.survival.quantiles import mean_absolute_error, pinball_loss

DATA_SETS = 50
BAR = 1e-6

# Metric, oracle, medray's value, the oracle's value.
Pair = tuple[str, str, Any, Any]


@dataclass(frozen=True)
class Sample:
    """A training and a test sample; curves (N, K) rise along `times` (K,)."""

    train_time: np.ndarray
    train_event: np.ndarray
    time: np.ndarray
    event: np.ndarray
    risk: np.ndarray
    times: np.ndarray
    curves: np.ndarray

    @property
    def train_outcome(self) -> np.ndarray:
        """The training sample as scikit-survival takes it."""
        return Surv.from_arrays(self.train_event > 0, self.train_time)

    @property
    def outcome(self) -> np.ndarray:
        """The test sample as scikit-survival takes it."""
        return Surv.from_arrays(self.event > 0, self.time)

    @property
    def censoring(self) -> Censoring:
        """What the weights are made of."""
        return censoring_distribution(self.train_time, self.train_event)


def figures() -> list[Figure]:
    """Compare on every data set, and keep the greatest difference of each metric."""
    gaps: dict[tuple[str, str], list[float]] = defaultdict(list)
    for seed in range(DATA_SETS):
        for pairs in (_one_cause(_sample(seed, causes=1)), _causes(_sample(seed, causes=3), seed)):
            for metric, oracle, ours, theirs in pairs:
                gaps[metric, oracle].append(_gap(ours, theirs))
    return [
        Figure(
            name=metric,
            value=f"{max(values):.1e}",
            bar=f"≤ {BAR:.0e}",
            ok=len(values) == DATA_SETS and max(values) <= BAR,
            note=f"beside {oracle} {version(oracle)}, {len(values)} data sets",
        )
        for (metric, oracle), values in gaps.items()
    ]


def _gap(ours: Any, theirs: Any) -> float:
    """Greatest difference; infinite where one alone is undefined, or nothing was compared."""
    ours, theirs = np.atleast_1d(ours).astype(float), np.atleast_1d(theirs).astype(float)
    if ours.shape != theirs.shape or np.any(np.isnan(ours) != np.isnan(theirs)):
        return float("inf")
    defined = ~np.isnan(ours)
    return float(np.abs(ours - theirs)[defined].max()) if defined.any() else float("inf")


def _sample(seed: int, causes: int) -> Sample:
    rng = np.random.default_rng([seed, causes])
    rows = int(rng.integers(20, 400))
    censored, ties = rng.uniform(0.0, 0.8), bool(seed % 2)
    train_time, train_event = _outcomes(rng, 500, censored, ties, causes)
    time, event = _outcomes(rng, rows, censored, ties, causes)
    # The oracles refuse rows past the last time at which their weights are known.
    keep = time <= censoring_distribution(train_time, train_event).last
    time, event = time[keep], event[keep]
    # Between the observed times: the oracles differ in whom they count as followed at a time.
    times = np.floor(np.quantile(time, [0.3, 0.5, 0.6, 0.7, 0.85])) + 0.5
    times = np.unique(np.minimum(times, np.sort(time)[-1] - 0.5))
    risk = rng.normal(size=time.size) - 0.3 * np.log(time)
    rate = np.exp(rng.normal(size=(time.size, 1))) / (0.5 * time[:, None] + 3.0)
    curves = 1.0 - np.exp(-((rate * times) ** np.exp(0.4 * rng.normal(size=(time.size, 1)))))
    # At 1e-6 the finest: SurvivalEVAL takes risks within 1e-8 as tied.
    risk, curves = np.round(risk, 1 if ties else 6), np.round(curves, 2 if ties else 6)
    return Sample(train_time, train_event, time, event, risk, times, curves)


def _outcomes(
    rng: np.random.Generator, rows: int, censored: float, ties: bool, causes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Times and causes, tied ones among events and among censorings, not between the two.

    There the oracles differ: some read the censoring weights at a time, some just before it.
    """
    event = np.where(rng.random(rows) < censored, 0, rng.integers(1, causes + 1, rows))
    time = rng.exponential(12.0, rows) + 1.0
    return (2.0 * np.ceil(time / 2.0) + (event == 0) if ties else time), event


def _one_cause(s: Sample) -> Iterator[Pair]:
    """Metrics of a single cause."""
    yield from _survival_curves(s)
    yield from _concordance(s)
    yield from _over_time(s)


def _survival_curves(s: Sample) -> Iterator[Pair]:
    curve, fitted = kaplan_meier(s.time, s.event), KaplanMeierFitter().fit(s.time, s.event)
    inside = (curve.estimate > 0.0) & (curve.estimate < 1.0)
    bounds = fitted.confidence_interval_.loc[curve.time].to_numpy()[inside]
    yield "Kaplan-Meier", "lifelines", curve.estimate, fitted.predict(curve.time)
    yield "its lower bound", "lifelines", curve.low[inside], bounds[:, 0]
    yield "its upper bound", "lifelines", curve.high[inside], bounds[:, 1]
    free = nonparametric.kaplan_meier_estimator(s.train_event > 0, s.train_time, reverse=True)[1]
    yield "censoring distribution", "scikit-survival", s.censoring.free, free
    tertile = quantile_groups(s.risk, 3)
    statistic, p = compare_survival(s.outcome, tertile)
    found = logrank_test(s.time, s.event, tertile)
    yield "log-rank statistic", "scikit-survival", found.statistic, statistic
    yield "log-rank p", "scikit-survival", found.p, p


def _concordance(s: Sample) -> Iterator[Pair]:
    expected = metrics.concordance_index_censored(s.event > 0, s.time, s.risk)[0]
    yield "Harrell's C", "scikit-survival", harrell_c(s.time, s.event, s.risk), expected
    tau = float(s.times[-1])
    expected = metrics.concordance_index_ipcw(s.train_outcome, s.outcome, s.risk, tau)[0]
    ours = uno_c(s.time, s.event, s.risk, censoring=s.censoring, tau=tau)
    yield "Uno's C", "scikit-survival", ours, expected
    within = s.time <= tau
    step = np.searchsorted(s.times, s.time[(s.event > 0) & within], side="right")
    at_events = np.pad(s.curves, ((0, 0), (1, 0)))[:, step]
    expected = SurvivalEVAL.concordance_time_dependent(at_events, s.time, s.event * within)[0]
    yield "Antolini's C", "SurvivalEVAL", antolini_c(s.time, s.event, s.curves, s.times), expected


def _over_time(s: Sample) -> Iterator[Pair]:
    oracle, outcomes = "scikit-survival", (s.train_outcome, s.outcome)
    areas, mean = metrics.cumulative_dynamic_auc(*outcomes, s.risk, s.times)
    given = (s.time, s.event, s.risk, s.times)
    yield "dynamic AUC", oracle, dynamic_auc(*given, censoring=s.censoring), areas
    yield "its mean", oracle, mean_dynamic_auc(*given, censoring=s.censoring), mean
    given = (s.time, s.event, s.curves, s.times)
    scores = metrics.brier_score(*outcomes, 1.0 - s.curves, s.times)[1]
    yield "Brier score", oracle, brier_score(*given, censoring=s.censoring), scores
    expected = metrics.integrated_brier_score(*outcomes, 1.0 - s.curves, s.times)
    ours = integrated_brier_score(*given, censoring=s.censoring)
    yield "integrated Brier score", oracle, ours, expected


def _causes(s: Sample, seed: int) -> Iterator[Pair]:
    """Metrics of one of three causes, and forecasts."""
    cause = 1 + seed % 3
    yield from _incidence(s, cause)
    yield from _competing(s, cause)
    yield from _calibration(s, cause)
    yield from _forecasts(np.random.default_rng(seed))


def _incidence(s: Sample, cause: int) -> Iterator[Pair]:
    curve = aalen_johansen(s.time, s.event, cause)
    fitted = AalenJohansenCompetingRisks(3).fit(s.time, s.event)
    expected = fitted.predict_cif(curve.time)[:, cause - 1]
    yield "Aalen-Johansen", "SurvivalEVAL", curve.estimate, expected
    expected = fitted.predict_cif_variance(curve.time)[:, cause - 1]
    yield "its variance", "SurvivalEVAL", curve.std_error**2, expected
    # lifelines moves tied times at random.
    apart = s.time + 1e-7 * np.arange(s.time.size)
    curve = aalen_johansen(apart, s.event, cause)
    fitted = AalenJohansenFitter().fit(apart, s.event, cause)
    expected = fitted.cumulative_density_.loc[curve.time].to_numpy().ravel()
    yield "Aalen-Johansen without ties", "lifelines", curve.estimate, expected


def _competing(s: Sample, cause: int) -> Iterator[Pair]:
    oracle, outcome, tau = "SurvivalEVAL", (s.risk, s.time, s.event), float(s.times[-1])
    train = (s.train_time, s.train_event)
    expected = SurvivalEVAL.concordance_cr_per_event(*outcome, event_of_interest=cause)[0]
    ours = harrell_c(s.time, s.event, s.risk, cause)
    yield "Harrell's C, competing causes", oracle, ours, expected
    expected = SurvivalEVAL.concordance_cr_per_event(
        *outcome, *train, method="IPCW", tau=tau, event_of_interest=cause
    )[0]
    ours = uno_c(s.time, s.event, s.risk, censoring=s.censoring, tau=tau, cause=cause)
    yield "Uno's C, competing causes", oracle, ours, expected
    given = (s.time, s.event, s.curves, s.times)
    areas = [_auc_of_cause(s, k, cause) for k in range(s.times.size)]
    ours = dynamic_auc(*given, censoring=s.censoring, cause=cause)
    yield "dynamic AUC, competing causes", oracle, ours, areas
    expected = brier_multiple_points_cr_per_event(
        s.curves, s.time, s.event, *train, s.times, event_of_interest=cause
    )
    ours = brier_score(*given, censoring=s.censoring, cause=cause)
    yield "Brier score, competing causes", oracle, ours, expected


def _auc_of_cause(s: Sample, k: int, cause: int) -> float:
    """NaN without cases or without controls, where the oracle raises."""
    case = (s.time <= s.times[k]) & (s.event == cause)
    if not case.any():
        return float("nan")
    return SurvivalEVAL.auc_cr_per_event(
        s.curves[:, k],
        s.time,
        s.event,
        float(s.times[k]),
        s.train_time,
        s.train_event,
        method="IPCW",
        event_of_interest=cause,
    )


def _calibration(s: Sample, cause: int) -> Iterator[Pair]:
    horizon, groups = float(s.times[1]), 4
    # Of whole groups and without tied risks, so that both cut the same groups.
    rows = slice(0, s.time.size // groups * groups)
    time, event = s.time[rows], s.event[rows]
    risk = np.argsort(np.argsort(s.risk[rows], kind="stable")) / time.size
    found = horizon_calibration(time, event, risk, horizon, groups=groups, least=1, cause=cause)
    details = SurvivalEVAL.one_calibration_cr(
        risk, time, event, horizon, num_bins=groups, event_of_interest=cause, return_details=True
    )[1]
    known = np.isfinite(found.observed)
    theirs = np.asarray(details["observed_probabilities"])[::-1]
    yield "observed risk at a horizon", "SurvivalEVAL", found.observed[known], theirs[known]
    theirs = np.asarray(details["expected_probabilities"])[::-1]
    yield "predicted risk at a horizon", "SurvivalEVAL", found.predicted, theirs


def _forecasts(rng: np.random.Generator) -> Iterator[Pair]:
    truth, forecast = rng.normal(size=200), rng.normal(size=(200, 3))
    truth[rng.random(200) < 0.3] = np.nan
    present, levels = ~np.isnan(truth), (0.1, 0.5, 0.9)
    losses = [
        mean_pinball_loss(truth[present], forecast[present, k], alpha=level)
        for k, level in enumerate(levels)
    ]
    ours = pinball_loss(truth, forecast, levels)
    yield "pinball loss", "scikit-learn", ours, float(np.mean(losses))
    theirs = sklearn_absolute_error(truth[present], forecast[present, 1])
    yield "error of the median", "scikit-learn", mean_absolute_error(truth, forecast[:, 1]), theirs


if __name__ == "__main__":
    for figure in figures():
        print(*figure.values(), sep="  ")
