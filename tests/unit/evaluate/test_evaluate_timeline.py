"""Results of survival and forecasts on made-up answers, beside scikit-survival and plain sums."""

import json
from typing import Any

import numpy as np
import pytest
from sksurv.metrics import concordance_index_ipcw, integrated_brier_score
from sksurv.util import Surv

from medray.calibration import Calibration, TargetCalibration, hazards
from medray.errors import DataError
from medray.evaluate.cohort import check_held_out, cohort_of
from medray.evaluate.forecast import forecast_results
from medray.evaluate.question import Question
from medray.evaluate.results import Scored, Settings
from medray.evaluate.survival import survival_results
from medray.records.scale import Scale
from medray.report import words
from medray.report.card import render_card
from medray.report.document import Provenance, Report
from medray.report.html import render_html
from medray.report.numbers import NETWORK, by_model
from medray.spec.models import EvaluateSpec, RunSpec
from medray.workload import Target

EDGES = tuple(np.linspace(0, 100, 21).tolist())
HORIZONS = (20.0, 60.0)
N = 240
COX = "Cox on the last visit"


def objects(values: Any) -> Any:
    return np.array(list(values), dtype=object)


def survival_question(causes: tuple[str, ...] = ("death",), seed: int = 0, **more: Any) -> Question:
    rng = np.random.default_rng(seed)
    hazard = rng.normal(0, 1, N)
    came = rng.exponential(40 * np.exp(-hazard))
    lost = rng.uniform(5, 95, N)
    cause = np.where(came <= lost, rng.integers(1, len(causes) + 1, N), 0).astype(float)
    truth = np.stack([cause, np.minimum(came, lost)], axis=1)
    truth[:3] = np.nan
    logits = np.full((N, len(EDGES) - 1, len(causes)), -2.5) + hazard[:, None, None]
    logits[3] = np.nan
    target = Target("outcome", "survival", causes, EDGES, HORIZONS)
    entry = TargetCalibration(
        kind="survival", classes=causes, edges_days=EDGES, horizons_days=HORIZONS
    )
    noisy = hazards.incidence(np.nan_to_num(logits) + rng.normal(0, 2, (N, 1, 1)))
    train_truth = truth[rng.permutation(N)]
    scored = Scored(
        objects(f"i{i}" for i in range(N)),
        objects(f"p{i // 2}" for i in range(N)),
        truth,
        logits,
    )
    return Question(
        target=target,
        held_out=scored,
        tuning=None,
        train_truth=train_truth,
        calibration=Calibration(targets={"outcome": entry}),
        columns={"sex": objects("F" if i % 3 else "M" for i in range(N))},
        rivals={COX: noisy, "another": "`train` is empty", **more},
        settings=Settings(EvaluateSpec(replicates=100), seed=0),
    )


def test_numbers_are_those_of_scikit_survival() -> None:
    question = survival_question()
    (result,) = survival_results(question)
    truth = question.held_out.truth[4:]
    train = question.train_truth[np.isfinite(question.train_truth).all(axis=1)]
    theirs = [Surv.from_arrays(t[:, 0] > 0, t[:, 1]) for t in (train, truth)]
    curves = hazards.incidence(question.held_out.logits[4:])[:, 0]
    risks = hazards.at(curves, EDGES, HORIZONS)
    for at, risk in zip(result.horizons, risks.T, strict=True):
        expected = concordance_index_ipcw(*theirs, risk, tau=at.horizon_days)[0]
        assert at.uno.value == pytest.approx(expected, abs=1e-9)
        assert at.uno.low is not None
        assert at.uno.low < expected < at.uno.high
    times = np.linspace(1, 60, 60)
    alive = 1 - hazards.at(curves, EDGES, times)
    assert result.integrated_brier == pytest.approx(
        integrated_brier_score(*theirs, alive, times), abs=1e-9
    )
    assert result.integrated_brier_null is not None
    assert result.integrated_brier < result.integrated_brier_null
    assert (result.items, result.not_scored) == (N - 4, 1)
    assert result.events + result.censored == result.items


def test_rivals_stand_beside_the_network_and_those_that_failed_say_why() -> None:
    (result,) = survival_results(survival_question())
    network, cox, other = result.models
    assert [network.name, cox.name] == [NETWORK, COX]
    assert cox.gain is not None
    assert network.uno[-1] is not None
    assert cox.uno[-1] is not None
    assert cox.gain.value == pytest.approx(network.uno[-1] - cox.uno[-1])
    assert other.note == "`train` is empty"
    numbers = by_model(result)
    assert numbers[COX, "integrated Brier"] == cox.integrated_brier
    assert ("another", "integrated Brier") not in numbers


def test_thirds_and_groups_hold_everybody() -> None:
    (result,) = survival_results(survival_question())
    assert sum(third.items for third in result.thirds) == result.items
    assert sum(third.events for third in result.thirds) == result.events
    assert [third.at_risk[0] for third in result.thirds] == [t.items for t in result.thirds]
    last = [third.incidence.y[-1] for third in result.thirds]
    assert last == sorted(last)
    assert result.logrank_p is not None
    assert result.logrank_p < 1e-6
    assert sum(row.items or 0 for row in result.subgroups[0].rows) == result.items


def test_every_competing_outcome_has_its_own_result() -> None:
    first, second = survival_results(survival_question(("death", "transplant")))
    assert [first.name, second.name] == ["death", "transplant"]
    assert first.competing == second.events
    assert first.events + first.competing + first.censored == first.items


def test_without_any_outcome_nothing_is_invented() -> None:
    question = survival_question()
    question.held_out.truth[:, 0] = 0
    (result,) = survival_results(question)
    assert "came to none" in result.undefined
    assert result.harrell is None
    with pytest.raises(DataError, match="outcomes to tell apart"):
        check_held_out((question.target,), {"outcome": question.held_out.truth})


def forecast_question() -> Question:
    rng = np.random.default_rng(0)
    middle = rng.normal(0, 1, (N, 2))
    truth = (middle + rng.normal(0, 0.5, (N, 2))) * 2 + 10
    truth[::5, 0] = np.nan
    logits = np.stack([middle - 0.6, middle, middle + 0.6], axis=2)
    levels = (0.1, 0.5, 0.9)
    scale = Scale(mean=10, std=2)
    entry = TargetCalibration(kind="quantiles", horizons_days=HORIZONS, levels=levels, scale=scale)
    carried = np.full((N, 2, 3), 10.0)
    carried[:30] = np.nan
    return Question(
        target=Target("bili", "quantiles", horizons_days=HORIZONS, levels=levels),
        held_out=Scored(
            objects(f"i{i}" for i in range(N)),
            objects(f"p{i // 3}" for i in range(N)),
            truth,
            logits,
        ),
        tuning=None,
        train_truth=truth,
        calibration=Calibration(targets={"bili": entry}),
        columns={"age": rng.uniform(20, 90, N)},
        rivals={"last value carried forward": carried},
        settings=Settings(EvaluateSpec(replicates=100), seed=0),
    )


def test_errors_of_a_forecast_are_plain_means() -> None:
    question = forecast_question()
    (result,) = forecast_results(question)
    truth, middle = question.held_out.truth, question.held_out.logits[:, :, 1] * 2 + 10
    for index, at in enumerate(result.horizons):
        known = np.isfinite(truth[:, index])
        error = np.abs(truth[known, index] - middle[known, index])
        assert at.error.value == pytest.approx(error.mean())
        assert at.coverage.value == pytest.approx((error <= 1.2).mean())
        assert at.width == pytest.approx(2.4)
        assert at.values == known.sum()
    carried = result.models[1]
    there = np.isfinite(truth[:, 0]) & (np.arange(N) >= 30)
    assert carried.error[0] == pytest.approx(np.abs(truth[there, 0] - 10).mean())
    gain = carried.gain[0].value
    own = np.abs(truth[there, 0] - middle[there, 0]).mean()
    assert gain == pytest.approx(carried.error[0] - own)


def test_the_page_and_the_card_show_both_kinds() -> None:
    questions = (survival_question(("death", "transplant")), forecast_question())
    results = (*survival_results(questions[0]), *forecast_results(questions[1]))
    targets = tuple(question.target for question in questions)
    truth = {q.target.name: q.held_out.truth for q in questions}
    scored = questions[0].held_out
    report = Report(
        name="course",
        version="1",
        workload="timeline",
        dataset="d",
        min_patients=10,
        replicates=100,
        cohort=cohort_of(
            targets,
            truth,
            objects(["held_out"] * N),
            scored.subject_ids,
            scored.subject_ids,
            "predictions",
        ),
        targets=results,
        provenance=Provenance(
            created="2026-01-01T00:00:00+00:00",
            package="course@1#0",
            package_digest="0",
            data_fingerprint="0",
            spec_sha256="0",
            software={"medray": "0"},
            lineage={},
        ),
        spec=RunSpec(name="course").model_dump(mode="json"),
    )
    assert Report.model_validate_json(report.model_dump_json()) == report
    page = render_html(report, {})
    for said in ("Thirds of risk", "Uno’s C", "Measured against foreseen", "`train` is empty"):
        assert said in page
    assert page.count("<svg") >= 5
    card = render_card(report)
    assert "Uno’s C up to 60 days" in card
    assert "Mean error at 20 days" in card
    lines = words.one_line(report)
    assert lines[0].startswith("death: Uno’s C 0.")
    assert lines[2].startswith("bili: Mean error")
    counts = json.loads(report.model_dump_json())["cohort"]["rows"][2]["labels"]
    assert counts[0]["items"]["lost to follow-up"] == int((truth["outcome"][:, 0] == 0).sum())
    assert counts[1]["items"]["at 20 days"] == int(np.isfinite(truth["bili"][:, 0]).sum())
