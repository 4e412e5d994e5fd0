"""Timelines through the Predictor: what a score depends on, and what it must not."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medray.dataset.records import to_timelines
from medray.errors import PackageError
from medray.ingest import sources, tables
from medray.privacy.pseudonyms import load_key
from medray.records.steps import steps_of
from medray.records.tokens import token, tokens
from medray.schema import EVENTS
from medray.score.pictures import Pictures
from medray.score.prediction import PredictionRow
from medray.score.predictor import Predictor
from medray.score.timelines import Timelines
from medray.spec.models import RunSpec

HOUR = 3_600_000_000


@pytest.fixture(scope="module")
def model(tiny_records: tuple[Path, RunSpec]) -> Timelines:
    return Timelines(Predictor(str(tiny_records[0] / "run" / "package")))


@pytest.fixture(scope="module")
def events(model: Timelines) -> pa.Table:
    return tables.read(sources.units_of(model.records), model.records, load_key()).events


def _patients(events: pa.Table, numbers: list[int]) -> pa.Table:
    return events.filter(pc.is_in(events["subject_id"], pa.array(numbers, pa.int64())))


def _scores(rows: list[PredictionRow]) -> dict[str, float | None]:
    return {row.item_id: row.score for row in rows}


def _events(rows: list[tuple[int, int | None, str, float | None, str | None]]) -> pa.Table:
    """EVENTS from (patient, hours, code, number, text), in the order an ingest leaves them in."""
    ordered = sorted(rows, key=lambda row: (row[0], -1 if row[1] is None else row[1], row[2]))
    columns = list(zip(*ordered, strict=True)) or [()] * 5
    times = [None if hour is None else hour * HOUR for hour in columns[1]]
    arrays = [columns[0], pa.array(times, pa.int64()).cast(pa.timestamp("us")), *columns[2:]]
    return pa.table(dict(zip(EVENTS.names, arrays, strict=True)), schema=EVENTS)


RECORD = [
    (7, None, "sex", None, "F"),
    (7, 0, "lactate", 1.4, None),
    (7, 4, "lactate", 2.9, None),
    (7, 4, "D1", None, None),
    (7, 9, "heart_rate", 88.0, None),
]
EVENT = st.tuples(
    st.just(7),
    st.integers(5, 200),
    st.sampled_from(["lactate", "heart_rate", "D1", "sex", "NEW"]),
    st.none() | st.floats(-1e3, 1e3, width=32),
    st.none() | st.sampled_from(["F", "M", "x"]),
)


def test_a_patient_alone_scores_as_among_others(model: Timelines, events: pa.Table):
    together = _scores(model.predict(events, "all"))
    numbers = events["subject_id"].unique().to_pylist()
    assert len(together) == len(numbers) == 240
    for number in numbers[::12]:
        alone = _scores(model.predict(_patients(events, [number]), "all"))
        assert alone.items() <= together.items()  # to the bit
    assert len({round(score or 0, 3) for score in together.values()}) > 100


@settings(max_examples=25)
@given(st.lists(EVENT, max_size=6))
def test_what_comes_later_changes_no_score(
    model: Timelines, later: list[tuple[int, int, str, float | None, str | None]]
):
    """Events after hour 4 are taken away, added, changed: the score at hour 4 stands."""
    asked = {"7": [4 * HOUR]}
    (before,) = model.predict(_events(RECORD), asked)
    (after,) = model.predict(_events(RECORD[:4] + later), asked)
    assert before.score == after.score
    assert before.item_id == f"7@{4 * HOUR}"


def test_what_comes_until_then_does_change_it(model: Timelines):
    asked = {"7": [4 * HOUR]}
    (before,) = model.predict(_events(RECORD), asked)
    (after,) = model.predict(_events([*RECORD, (7, 4, "lactate", 9.0, None)]), asked)
    assert before.score != after.score


@settings(max_examples=10)
@given(order=st.randoms(use_true_random=False), parts=st.integers(1, 9))
def test_shuffling_patients_over_shards_changes_no_score(
    model: Timelines, events: pa.Table, order: object, parts: int
):
    numbers = events["subject_id"].unique().to_pylist()
    whole = _scores(model.predict(events))
    order.shuffle(numbers)  # type: ignore[attr-defined]
    apart: dict[str, float | None] = {}
    for part in range(parts):
        apart |= _scores(model.predict(_patients(events, numbers[part::parts])))
    assert apart == whole


def test_prediction_times_of_ones_own(model: Timelines):
    hours = (0, 4, 5, 300)
    rows = model.predict(_events(RECORD), {"7": [hour * HOUR for hour in hours]})
    assert [row.item_id for row in rows] == [f"7@{hour * HOUR}" for hour in hours]
    assert [row.status for row in rows] == ["ok"] * 4
    assert rows[0].prediction_time is not None
    assert rows[0].prediction_time.isoformat() == "1970-01-01T00:00:00+00:00"
    # nobody else is asked about
    others = [(8, 0, "lactate", 1.0, None)]
    assert len(model.predict(_events(RECORD + others), {"7": [0]})) == 1


@pytest.mark.parametrize(
    ("record", "asked"),
    [
        ([], {"7": [0]}),  # nothing at all
        (RECORD, {"7": [-HOUR]}),  # all of it later
        (RECORD[:1], {"7": [0]}),  # a fact, and nothing with a time
        (RECORD[:1], "latest"),
        ([(7, 0, "NEW", 3.0, None)], "latest"),  # a code that the model has never seen
        ([(7, 0, "lactate", None, None)], "latest"),  # a code without the value it is known by
    ],
)
def test_an_empty_history_is_a_rejected_row(model: Timelines, record: list, asked: object):
    (row,) = model.predict(_events(record), asked)  # type: ignore[arg-type]
    assert (row.status, row.reason, row.score, row.subject_id) == (
        "rejected",
        "no_history",
        None,
        "7",
    )


def test_patients_without_events_are_named(model: Timelines):
    rows = model.predict(_events(RECORD), silent=["9"])
    assert [(row.item_id, row.reason) for row in rows][1:] == [("9", "no_history")]


def test_codes_never_seen_are_counted(model: Timelines):
    assert model.unknown({"lactate": 5, "NEW": 3, "sex": 1}) == {"NEW": 3}


@settings(max_examples=50)
@given(st.lists(EVENT, min_size=1, max_size=2), st.booleans())
def test_events_are_read_when_they_leave_anything_in_the_steps(
    model: Timelines,
    record: list[tuple[int, int, str, float | None, str | None]],
    sex: bool,
):
    columns = to_timelines(_events(record + RECORD[: int(sex)]))
    vocabulary = model.predictor.learned[1].vocabulary
    steps = steps_of(columns, np.array([1000 * HOUR]), vocabulary, step_hours=None, max_steps=None)
    read = model.predictor.of_records.reads(columns, model.predictor.learned[1])
    left = (steps.observed, steps.codes, steps.static_known)
    assert (read[0] > 0) == any(array.any() for array in left)
    assert read[0] + steps.unknown[0] <= len(columns["event_time"][0])
    assert vocabulary.knows(tokens(["lactate", "NEW"])).tolist() == [True, False]
    assert token("lactate") != token("NEW")


def test_packages_say_what_they_take(model: Timelines, tmp_path: Path):
    with pytest.raises(PackageError, match="of patients' records, not of images"):
        Pictures(model.predictor)
    from tiny import TINY, make_package

    images = Predictor(make_package(str(tmp_path / "p")).uri, workload=TINY)
    with pytest.raises(PackageError, match="not predict from patients' records"):
        Timelines(images)
