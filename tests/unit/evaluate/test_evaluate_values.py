"""Results on numbers, and means over targets: against scikit-learn, on arrays made up here."""

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

from medray.calibration import Calibration, TargetCalibration
from medray.errors import DataError
from medray.evaluate.cohort import check_held_out, outcome_masks
from medray.evaluate.means import mean_rows
from medray.evaluate.question import Question
from medray.evaluate.results import Scored, Settings, binary_result
from medray.evaluate.value import value_results
from medray.records.scale import Scale
from medray.report.numbers import NETWORK
from medray.spec.models import EvaluateSpec
from medray.workload import Target

N = 300
RNG = np.random.default_rng(0)
IDS = np.array([f"m{row}" for row in range(N)], object)
SCALE = Scale(mean=-3.0, std=2.0)
LOGIT = RNG.normal(size=N)
TRUTH = SCALE.back(LOGIT + RNG.normal(scale=0.4, size=N))  # most of them negative
SETTINGS = Settings(EvaluateSpec(replicates=100, subgroups=()), 0)
FOREST = "forest"


def _question(
    target: Target,
    truth: NDArray[np.float64],
    logits: NDArray[np.float64],
    entry: TargetCalibration,
    rivals: Mapping[str, NDArray[np.float64] | str],
) -> Question:
    return Question(
        target=target,
        held_out=Scored(IDS, IDS, truth, logits),
        tuning=None,
        train_truth=truth,
        calibration=Calibration(targets={target.name: entry}),
        columns={"near": np.linspace(0, 1, N)},
        rivals=rivals,
        settings=SETTINGS,
    )


def _number(truth: NDArray[np.float64], width: float | None = 1.0) -> Question:
    target = Target("logs", "value", levels=(0.1, 0.9), scale=SCALE)
    widths = () if width is None else (width,)
    entry = TargetCalibration(kind="value", levels=(0.1, 0.9), scale=SCALE, widths=widths)
    return _question(target, truth, LOGIT, entry, {FOREST: np.full(N, -3.0), "other": "no reason"})


def test_errors_are_in_the_unit_of_the_source_and_negative_values_count() -> None:
    truth = TRUTH.copy()
    truth[::10] = np.nan
    there = ~np.isnan(truth)
    (result,) = value_results(_number(truth))
    answer = SCALE.back(LOGIT)[there]
    assert result.items == 270
    assert result.rmse is not None
    assert result.rmse.value == pytest.approx(np.sqrt(np.mean((answer - truth[there]) ** 2)))
    assert result.rmse.low is not None
    assert result.rmse.low < result.rmse.value < (result.rmse.high or 0)
    assert result.r_squared is not None
    assert result.r_squared.value == pytest.approx(r2_score(truth[there], answer))
    assert result.coverage is not None
    inside = np.abs(SCALE.standard(truth[there]) - LOGIT[there]) <= 1.0
    assert result.coverage.value == pytest.approx(inside.mean())
    assert result.width == pytest.approx(4.0)
    assert result.wanted == pytest.approx(0.8)


def test_rivals_stand_beside_the_network() -> None:
    (result,) = value_results(_number(TRUTH))
    network, forest, other = result.models
    assert (network.name, forest.name, other.note) == (NETWORK, FOREST, "no reason")
    assert forest.rmse is not None
    assert forest.gain is not None
    assert network.rmse == result.rmse
    assert forest.gain.value == pytest.approx(
        (forest.rmse.value or 0) - (result.rmse.value or 0 if result.rmse else 0)
    )
    assert network.gain is None
    assert [row.items for row in result.subgroups[0].rows] == [100, 100, 100]


def test_without_an_interval_or_a_spread_nothing_is_made_up() -> None:
    (result,) = value_results(_number(TRUTH, width=None))
    assert (result.coverage, result.wanted, result.width) == (None, None, None)
    (result,) = value_results(_number(np.full(N, 2.0)))
    assert result.undefined
    assert result.rmse is None


def test_the_cohort_counts_what_was_measured() -> None:
    target = Target("logs", "value")
    truth = np.array([-1.0, np.nan, 0.0])
    assert outcome_masks(target, truth)["measured"].tolist() == [True, False, True]
    check_held_out([target], {"logs": truth})
    with pytest.raises(DataError, match="tell apart"):
        check_held_out([target], {"logs": np.array([1.0, 1.0, np.nan])})


def test_the_mean_is_over_targets_each_on_what_is_known_of_it() -> None:
    questions = []
    expected: list[tuple[float, float]] = []
    for name, share in (("a", 0.3), ("b", 0.05)):
        truth = (RNG.random(N) < share).astype(float)
        truth[RNG.random(N) < 0.3] = np.nan
        logits = np.nan_to_num(truth) + RNG.normal(size=N)
        there = ~np.isnan(truth)
        expected.append(
            (
                float(roc_auc_score(truth[there], logits[there])),
                float(average_precision_score(truth[there], logits[there])),
            )
        )
        rivals: dict[str, NDArray[np.float64] | str] = {FOREST: np.full(N, 0.5)}
        target, entry = Target(name, "binary"), TargetCalibration(kind="binary")
        questions.append(_question(target, truth, logits, entry, rivals))
    results = [
        binary_result(q.target.name, q.held_out, None, q.calibration, {}, SETTINGS)
        for q in questions
    ]
    network, forest = mean_rows(questions, results)
    assert (network.model, forest.model, network.targets) == (NETWORK, FOREST, 2)
    auroc, auprc = np.mean(expected, axis=0)
    assert network.measures["AUROC"].value == pytest.approx(auroc)
    assert network.measures["AUPRC"].value == pytest.approx(auprc)
    assert forest.measures["AUROC"].value == pytest.approx(0.5)
    low, high = network.measures["AUROC"].low, network.measures["AUROC"].high
    assert low is not None
    assert high is not None
    assert low < auroc < high
    assert mean_rows(questions[:1], results[:1]) == ()
