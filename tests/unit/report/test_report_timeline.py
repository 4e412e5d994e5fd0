"""The picture and the page of an explanation: nothing lost, nothing on top of something else."""

import re
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation

from medray.explain.events import EventPart, Explanation, duration, probability
from medray.report.explained import render_explanation
from medray.report.timeline import completeness, draw, lanes, timeline_png, timeline_svg


def explanation(codes: int, facts: int, days: float, seed: int = 0) -> Explanation:
    """Random events, many at nearly the same time."""
    rng = np.random.default_rng(seed)
    events = [
        EventPart(
            hours_before=float(hours),
            code=f"a measurement with a long name, number {number}",
            numeric_value=float(rng.lognormal(3, 2)) if number % 3 else None,
            text_value=None if number % 3 else "<present> & severe",
            unit="mmol/L",
            contribution=float(rng.normal()),
        )
        for number in range(codes)
        for hours in rng.uniform(0, days * 24, 12) ** 1.5 / (days * 24) ** 0.5
    ]
    events += [
        EventPart(hours_before=None, code=f"fact {i}", contribution=float(rng.normal()))
        for i in range(facts)
    ]
    events.sort(key=lambda event: -abs(event.contribution))
    answer = -1.0 + 0.5 + sum(event.contribution for event in events) + 1e-3
    return Explanation(
        package="made@1#0",
        target="death within 730 days",
        subject_id="17",
        item_id="17@0",
        prediction_time="2020-01-01T00:00:00+00:00",
        score=probability(answer),
        decision=True,
        empty=-1.0,
        timing=0.5,
        answer=answer,
        error=1e-3,
        points=64,
        unread=2,
        events=tuple(events),
    )


CASES = [(3, 1, 2.0), (15, 9, 40.0), (13, 0, 2000.0), (0, 0, 1.0), (0, 2, 1.0)]


@pytest.mark.parametrize(("codes", "facts", "days"), CASES)
def test_rows_of_the_figure_add_up_to_the_answer(codes: int, facts: int, days: float) -> None:
    found = explanation(codes, facts, days)
    total = sum(lane.total for lane in lanes(found))
    assert found.empty + total + found.error == pytest.approx(found.answer)
    assert len(lanes(found)) <= 12 + 1 + 6 + 1 + 1


@pytest.mark.parametrize(("codes", "facts", "days"), CASES)
def test_no_value_is_written_over_another(codes: int, facts: int, days: float) -> None:
    figure = draw(explanation(codes, facts, days))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    course = figure.axes[0]
    texts = [child for child in course.get_children() if isinstance(child, Annotation)]
    assert len(texts) >= min(codes, 12)
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_direction_is_told_by_shape_as_well_as_colour() -> None:
    found = explanation(2, 0, 3.0)
    tips = {1: 0, -1: 0}  # markers pointing up and down
    for marks in draw(found).axes[0].collections:
        if len(marks.get_offsets()):  # of a lane and a direction
            tips[1 if np.argmax(marks.get_paths()[0].vertices[:, 1]) == 0 else -1] += len(
                marks.get_offsets()
            )
    ups = sum(event.contribution > 0 for event in found.events)
    assert tips == {1: ups, -1: len(found.events) - ups}


def test_picture_and_page_are_the_same_every_time_and_fetch_nothing() -> None:
    found = explanation(15, 9, 40.0)
    assert timeline_png(found) == timeline_png(found)
    page = render_explanation(found, 20)
    assert page == render_explanation(found, 20)
    assert not re.search(r"https?:|src=|@import|url\(", re.sub(r"url\(#", "", page))
    ElementTree.fromstring(timeline_svg(found).replace(' href="', ' data-href="'))
    assert "&lt;present&gt; &amp; severe" in page
    assert "<present>" not in page


def test_the_page_says_what_it_is_and_how_exact() -> None:
    found = explanation(4, 2, 3.0)
    page = render_explanation(found, 6)
    assert "Research use only" in page
    assert completeness(found) in page
    assert "1.0e-03" in completeness(found)
    assert page.count('class="part"') == 6
    assert f"{len(found.events) - 6} events" in page
    for event in found.events[:6]:
        assert f"{event.contribution:+.3f}" in page


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.0, "0 min"), (0.5, "30 min"), (1.0, "1.0 h"), (95.9, "95.9 h"), (96.0, "4.0 days"),
     (8765.0, "365.2 days"), (8766.0, "1.0 years")],
)  # fmt: skip
def test_durations_in_words(hours: float, text: str) -> None:
    assert duration(hours) == text


@pytest.mark.parametrize("log_odds", [-800.0, -2.0, 0.0, 3.0, 800.0])
def test_probability_of_log_odds(log_odds: float) -> None:
    with np.errstate(over="ignore"):
        assert probability(log_odds) == pytest.approx(1 / (1 + np.exp(-log_odds)))


def test_the_error_is_a_share_of_what_events_explain() -> None:
    found = explanation(2, 1, 3.0)
    explained = sum(event.contribution for event in found.events) + found.error
    assert found.error_share == pytest.approx(1e-3 / abs(explained))
    assert found.facts + found.timed == pytest.approx(explained - found.error)
    assert found.table().num_rows == len(found.events)
