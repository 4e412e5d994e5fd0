"""The model card, the metrics in a package, and the wording of numbers."""

import json

import pytest
from reports import make_report

from medray.metrics import Interval
from medray.report import words
from medray.report.card import evaluation_metrics, render_card
from medray.report.document import Estimate, Report, number, thinned

# Mitchell et al. 2019, figure 1.
HEADINGS = [
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Training data",
    "Evaluation data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
]


def test_the_card_has_the_usual_headings_in_order():
    card = render_card(make_report(binary=("a",), multiclass=("kind",), one_outcome=("never",)))
    assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == HEADINGS
    assert "Research use only" in card
    assert "nan" not in card.lower()
    assert "All 120 labelled held-out items are negative" in card


def test_tables_of_the_card_are_rectangular():
    block = []
    for line in [*render_card(make_report()).splitlines(), ""]:
        if line.startswith("|"):
            block.append(line.count("|"))
        else:
            assert len(set(block)) <= 1
            block = []


def test_the_card_leaks_no_count_of_a_suppressed_group():
    lines = [line for line in render_card(make_report()).splitlines() if "Tiny" in line]
    assert lines == ["| Tiny <Devices> | fewer than 10 | – | – | – |"]
    assert "| 113 |" not in render_card(make_report())


def test_package_metrics_hold_numbers_but_no_items_curves_or_spec():
    metrics = evaluation_metrics(make_report())
    target = metrics["targets"][0]
    assert target["auroc"]["value"] > 0.5
    assert not {"roc", "pr", "mistakes"} & target.keys()
    assert not {"spec", "history"} & metrics.keys()
    assert "item0" not in json.dumps(metrics)


def test_a_report_survives_json():
    report = make_report(binary=("a",), multiclass=("kind",), one_outcome=("never",))
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_undefined_numbers_are_null():
    nan = float("nan")
    assert Estimate.of(Interval(nan, nan, nan, 0.95, "wilson")).value is None
    assert number(float("inf")) is None
    with pytest.raises(ValueError, match="finite"):
        Estimate(value=nan)


def test_thinning_keeps_corners_ends_and_area():
    x = [0, 0, 0, 0.5, 0.7, 1]
    y = [0, 0.2, 0.6, 0.6, 0.6, 1]
    curve = thinned(x, y)
    assert list(zip(curve.x, curve.y, strict=True)) == [(0, 0), (0, 0.6), (0.7, 0.6), (1, 1)]
    many = thinned([i / 5000 for i in range(5001)], [(i / 5000) ** 2 for i in range(5001)])
    assert len(many.x) == 400
    assert (many.x[0], many.x[-1]) == (0, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.874, "87"),
        (0.0, "0"),
        (0.002, "fewer than 1"),
        (0.998, "more than 99"),
        (1.0, "100"),
        (None, "–"),
    ],
)
def test_shares_are_said_of_100(value, text):
    assert words.of_100(value) == text


def test_numbers_align_and_missing_ones_are_dashes():
    estimate = Estimate(value=0.5, low=0.25, high=1.0)
    assert words.with_bounds(estimate) == "0.500 (0.250–1.000)"
    assert words.with_bounds(estimate, as_percent=True) == "50.0 % (25.0–100.0)"
    assert words.with_bounds(None) == "–"
    assert words.with_bounds(Estimate(value=0.5)) == "0.500"
    assert words.decimal(-0.5) == "−0.500"
