"""What is learned of codes: the same however patients fall into batches."""

import hashlib
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import skew

from medray.records.steps import Vocabulary
from medray.records.tasks import TIMELINE, cut
from medray.records.tokens import token, tokens
from medray.records.vocabulary import learn, sums_of
from tests.unit.records.record_histories import Event, columns_of, events, in_order


def of_patients(histories: list[list[Event]], *, min_patients: int = 1) -> Vocabulary:
    told = {"told": np.zeros(len(histories), np.int64)}
    return learn(
        sums_of(columns_of(histories) | told), min_patients=min_patients, channels=99, presence=99
    )


def assert_alike(one: Vocabulary, other: Vocabulary) -> None:
    assert one.presence == other.presence
    for kind in ("timed", "static"):
        for a, b in zip(getattr(one, kind), getattr(other, kind), strict=True):
            assert (a.code, a.text) == (b.code, b.text)
            if a.transform == b.transform:
                np.testing.assert_allclose((a.mean, a.std), (b.mean, b.std), rtol=1e-6, atol=1e-9)


@given(
    histories=st.lists(events(), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    visits=st.booleans(),
    least=st.integers(1, 3),
)
def test_batches_and_prediction_times_change_nothing(
    histories: list[list[Event]], cuts: list[int], visits: bool, least: int
) -> None:
    """Items at every visit, in any batches, count a patient as its whole history does."""
    count = len(histories)
    names = np.array([f"s{row}" for row in range(count)], object)
    columns = columns_of(histories) | {"subject_id": names, "start": np.zeros(count, np.int64)}
    items = cut(columns, "visits" if visits else "end")
    total = len(items["item_id"])
    edges = [0, *sorted(min(at, total) for at in cuts), total]
    parts = [
        sums_of({name: items[name][a:b] for name in (*TIMELINE, "told")})
        for a, b in itertools.pairwise(edges)
    ]
    parts = parts[::-1]
    merged = learn(pa.concat_tables(parts), min_patients=least, channels=99, presence=99)
    with_any = [h for h in histories if any(event.time is not None for event in h)]
    assert_alike(merged, of_patients(with_any, min_patients=least))


@given(histories=st.lists(events(most=30), min_size=1, max_size=6), least=st.integers(1, 3))
def test_channels_against_plain_counting(histories: list[list[Event]], least: int) -> None:
    words = of_patients(histories, min_patients=least)
    for fact, channels in ((False, words.timed), (True, words.static)):
        mine = [[e for e in h if (e.time is None) == fact] for h in histories]
        texts = {
            (code, text)
            for code in range(1, 6)
            for text in (11, 12)
            if sum(any((e.code, e.text) == (code, text) for e in h) for h in mine) >= least
        }
        assert {(c.code, c.text) for c in channels if c.text} == texts
        bare = {
            c: [h for h in mine if any((e.code, e.text) == (c, 0) for e in h)] for c in range(6)
        }
        values = {
            code: [
                e.value
                for h in of
                for e in h
                if (e.code, e.text) == (code, 0) and e.value is not None
            ]
            for code, of in bare.items()
            if len(of) >= least
        }
        numeric = {code: np.array(found) for code, found in values.items() if found}
        assert {c.code for c in channels if not c.text} == set(numeric)
        for channel in channels:
            if channel.text:
                continue
            found = numeric[channel.code]
            found = np.log1p(found) if channel.transform == "log" else found
            assert channel.mean == pytest.approx(found.mean(), abs=1e-9)
            assert channel.std == pytest.approx(found.std() or 1.0, rel=1e-6)
        if not fact:
            presence = {code for code, found in values.items() if not found}
            assert set(words.presence) == presence - {c.code for c in channels}


def history_of(code: int, values: list[float]) -> list[Event]:
    return in_order([Event(place, code, 0, value) for place, value in enumerate(values)])


def test_the_logarithm_is_for_skewed_values_that_are_not_negative() -> None:
    rng = np.random.default_rng(0)
    skewed = rng.lognormal(1, 0.7, 400)
    assert skew(skewed) > 1 > abs(skew(np.log1p(skewed)))
    cases = {
        1: (skewed, "log"),
        2: (skewed - 0.5, "linear"),  # some are negative
        3: (rng.normal(50, 5, 400), "linear"),
        4: (np.full(400, 7.0), "linear"),
    }
    for code, (values, wanted) in cases.items():
        (channel,) = of_patients([history_of(code, values.astype(np.float32).tolist())]).timed
        assert channel.transform == wanted, code
    assert channel.std == 1.0  # of values that never differ


def test_the_most_frequent_codes_are_kept() -> None:
    histories = [
        [Event(0, code, 0, None if code > 3 else 1.0) for code in range(1, 2 + patient)]
        for patient in range(5)
    ]
    told = {"told": np.zeros(5, np.int64)}
    sums = sums_of(columns_of(histories) | told)
    words = learn(sums, min_patients=1, channels=2, presence=1)
    assert [channel.code for channel in words.timed] == [1, 2]
    assert words.presence == (4,)
    assert learn(sums, min_patients=2, channels=9, presence=9).presence == (4,)


def test_names_of_words() -> None:
    digest = hashlib.sha256(b"HR").digest()
    assert token("HR") == int.from_bytes(digest[:8], "big") // 2
    assert token("HR") != token("hr")
    assert tokens(["HR", None, "HR", ""]).tolist() == [token("HR"), 0, token("HR"), token("")]
    assert tokens([]).dtype == np.int64
    many = tokens([f"code {number}" for number in range(20_000)])
    assert len(np.unique(many)) == 20_000
    assert many.min() > 0
