"""Items of records → tensors and simple models: nothing depends on who else is in the batch."""

import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from medray.errors import DataError
from medray.records.steps import HOUR, NO_TIME
from medray.records.tokens import token
from medray.workloads.timeline import Timeline
from medray.workloads.timeline.baselines import probabilities, summarize
from medray.workloads.timeline.params import TimelineFitted, TimelineParams
from medray.workloads.timeline.tensors import steps

TASK = Timeline()
LACTATE, RATE, AGE, DRUG, SEX = map(token, ("Lactate", "HR", "Age", "Drug", "Sex"))


def patients(count: int, seed: int = 0) -> dict[str, Any]:
    """Records of very different length; who is ill has the higher lactate."""
    rng = np.random.default_rng(seed)
    ill = np.arange(count) % 2
    columns: dict[str, Any] = {
        name: np.empty(count, object)
        for name in ("event_time", "event_code", "event_text", "event_value", "subject_id")
    }
    for row in range(count):
        length = int(rng.integers(1, 12))
        times = np.sort(rng.integers(0, 40 * HOUR, length))
        codes = rng.choice([LACTATE, RATE, DRUG], length)
        codes[-1] = LACTATE
        values = np.where(codes == LACTATE, 1 + 2 * ill[row] + rng.normal(0, 0.3, length), 80.0)
        values[codes == DRUG] = np.nan
        facts = [(AGE, 0, rng.uniform(20, 90)), (SEX, token(rng.choice(["F", "M"])), np.nan)]
        columns["event_time"][row] = np.array([NO_TIME] * 2 + times.tolist(), np.int64)
        columns["event_code"][row] = np.array([c for c, _, _ in facts] + codes.tolist(), np.int64)
        columns["event_text"][row] = np.array([t for _, t, _ in facts] + [0] * length, np.int64)
        columns["event_value"][row] = np.array([v for _, _, v in facts] + values.tolist(), "f4")
        columns["subject_id"][row] = f"s{row}"
    columns["item_id"] = columns["subject_id"]
    columns["start"] = np.zeros(count, np.int64)
    columns["died"] = ill.astype(float)
    return columns


def asked(**more: Any) -> TimelineParams:
    settings = {"outcome": {"column": "died"}, "predict_at": "end", "min_patients": 3, **more}
    return TimelineParams.model_validate(settings)


def fitted_on(columns: dict[str, Any], params: TimelineParams) -> TimelineFitted:
    items = TASK.items(columns, params)
    return TASK.fit(TASK.summarize(items, params), params)


def rows(columns: Any, places: Any) -> dict[str, Any]:
    return {name: values[places] for name, values in columns.items()}


@pytest.mark.parametrize("at", ["end", "visits"])
def test_learned_the_same_in_any_batches(at: str) -> None:
    params = asked(predict_at=at)
    items = TASK.items(patients(30), params)
    count = len(items["item_id"])
    whole = TASK.fit(TASK.summarize(items, params), params)
    cuts = [0, 1, 7, 8, count // 2, count]
    parts = [TASK.summarize(rows(items, slice(a, b)), params) for a, b in itertools.pairwise(cuts)]
    merged = TASK.fit(pa.concat_tables(parts), params)
    assert merged.items == whole.items == count
    assert merged.positives == whole.positives
    assert merged.vocabulary.presence == whole.vocabulary.presence == (DRUG,)
    for one, other in zip(merged.vocabulary.timed, whole.vocabulary.timed, strict=True):
        assert (one.code, one.transform) == (other.code, other.transform)
        np.testing.assert_allclose((one.mean, one.std), (other.mean, other.std), rtol=1e-9)


@pytest.mark.parametrize("network", ["elman", "lstm", "gru", "gru_d"])
@pytest.mark.parametrize("step_hours", [None, 6.0])
@torch.no_grad()
def test_alone_in_a_batch_or_trimmed_the_answer_is_the_same(network: str, step_hours: Any) -> None:
    params = asked(network=network, step_hours=step_hours, hidden=8, pool="max", layers=2)
    columns = patients(24)
    fitted = fitted_on(columns, params)
    items = TASK.items(columns, params)
    torch.manual_seed(0)
    modules = {name: one.eval() for name, one in TASK.build_modules(params, fitted).items()}

    def logits(part: Any, *, trim: bool = False) -> np.ndarray[Any, Any]:
        batch = TASK.collate(part, params, fitted)
        batch = TASK.trim(batch) if trim else batch
        return TASK.predict(modules, batch, params)[params.target].numpy()

    together = logits(items)
    order = np.random.default_rng(1).permutation(24)
    np.testing.assert_allclose(logits(rows(items, order)), together[order], atol=1e-6)
    whole = TASK.collate(items, params, fitted)
    shortest = np.argsort(TASK.sizes(items))[:5]
    padded = {name: values[shortest] for name, values in whole.items()}
    for batch in (padded, TASK.trim(padded)):
        found = TASK.predict(modules, batch, params)[params.target].numpy()
        np.testing.assert_allclose(found, together[shortest], atol=1e-6)
    assert TASK.trim(padded)["carried"].shape[1] == max(1, int(padded["lengths"].max()))
    for place in range(24):
        alone = logits(rows(items, slice(place, place + 1)), trim=True)
        np.testing.assert_allclose(alone, together[place : place + 1], atol=1e-6)


def test_unknown_codes_are_counted_by_item() -> None:
    params, columns = asked(), patients(12)
    fitted = fitted_on(columns, params)
    columns["event_code"][3][-1] = token("New")
    columns["event_code"][5][0] = token("New fact")
    counts = TASK.unseen(TASK.items(columns, params), params, fitted)
    assert counts is not None
    assert counts.tolist() == [0, 0, 0, 1, 0, 1, *[0] * 6]
    nobody = TASK.items({name: values[:0] for name, values in columns.items()}, params)
    assert TASK.unseen(nobody, params, fitted).tolist() == []


def test_the_made_up_example_is_read_in_full() -> None:
    params = asked()
    fitted = fitted_on(patients(20), params)
    found = steps(TASK.example(params, fitted, 2), params, fitted)
    assert not found.unknown.any()
    assert found.observed.any(axis=(0, 1)).all()
    assert found.static_known.any(axis=0).all()
    assert found.lengths.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        (np.nan, "no known outcome"),
        (1.0, "one outcome only"),
        (0.0, "one outcome only"),
    ],
)
def test_simple_models_that_cannot_be_fitted_say_why(outcome: float, why: str) -> None:
    params, columns = asked(), patients(20)
    fitted = fitted_on(columns, params)
    held_out = TASK.items(patients(6, seed=1), params)
    columns["died"][:] = outcome
    found = TASK.baselines(TASK.items(columns, params), held_out, params, fitted, 0)
    assert len(found) == 2
    for said in found.values():
        assert isinstance(said, str)
        assert why in said


def test_simple_models_learn_beside_codes_that_train_has_not() -> None:
    params = asked()
    everything = patients(100)
    fitted = fitted_on(everything, params)
    for row in range(70):  # the first 70 teach: nobody among them has a heart rate
        keep = everything["event_code"][row] != RATE
        for name in ("event_time", "event_code", "event_text", "event_value"):
            everything[name][row] = everything[name][row][keep]
    everything["died"][:5] = np.nan
    items = TASK.items(everything, params)
    found = probabilities(rows(items, slice(0, 70)), rows(items, slice(70, 100)), params, fitted, 0)
    for said in found.values():
        assert not isinstance(said, str)
        risk = said[params.target]
        ill = np.arange(70, 100) % 2 == 1
        assert risk[ill].min() > risk[~ill].max()


def test_window_summaries_of_one_record() -> None:
    params = asked()
    columns = patients(12)
    fitted = fitted_on(columns, params)
    found = steps(TASK.items(columns, params), params, fitted)
    features = summarize(found)
    width = found.values.shape[2]
    for row in range(12):
        for channel in range(width):
            seen = found.observed[row, :, channel]
            values = found.values[row, seen, channel].astype(float)
            of = features[row, [channel + width * part for part in range(8)]]
            if not len(values):
                assert np.isnan(of[:7]).all()
                assert of[7] == 0
                continue
            age = found.hours[row, seen][-1]
            wanted = [values[0], values[-1], values.mean(), values.std(), values.min()]
            wanted += [values.max(), age, len(values)]
            np.testing.assert_allclose(of, wanted, atol=1e-6)


def test_nothing_to_tell_apart_is_said() -> None:
    params, columns = asked(), patients(10)
    columns["died"][:] = 0
    with pytest.raises(DataError, match="happens in 0 of 10 items"):
        fitted_on(columns, params)
    with pytest.raises(DataError, match="no code stands in the records of 11 patients"):
        fitted_on(patients(10), asked(min_patients=11))
    early = asked(predict_at={"days": [-1]})
    assert not len(TASK.items(patients(10), early)["item_id"])
