"""Cross-validation by patient: every one held out once, and never moved by others."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from medray.dataset.columns import folded


def labels(subjects: list[str], splits: list[str | None]) -> pa.Table:
    return pa.table(
        {
            "item_id": pa.array([f"{s}/{i}" for i, s in enumerate(subjects)], pa.string()),
            "subject_id": pa.array(subjects, pa.string()),
            "split": pa.array(splits, pa.string()),
        }
    )


names = st.lists(st.integers(0, 400).map(str), min_size=1, max_size=60)


@given(subjects=names, folds=st.integers(2, 7), tuning=st.floats(0, 0.5), data=st.data())
def test_each_patient_is_held_out_in_one_fold(
    subjects: list[str], folds: int, tuning: float, data: st.DataObject
) -> None:
    nowhere = data.draw(st.sets(st.sampled_from(subjects)))
    splits = [None if one in nowhere else "train" for one in subjects]
    table = labels(subjects, splits)
    views = [folded(table, number, folds, tuning)["split"].to_pylist() for number in range(folds)]
    for place, one in enumerate(subjects):
        seen = [view[place] for view in views]
        if one in nowhere:
            assert seen == [None] * folds
        else:
            assert seen.count("held_out") == 1
            # outside its own fold a patient is always the same: it tunes, or it teaches
            assert len({split for split in seen if split != "held_out"}) == 1
    for view in views:
        places = {(one, split) for one, split in zip(subjects, view, strict=True)}
        assert len(places) == len(set(subjects))  # all items of a patient stand together
    others = subjects[::2]
    again = folded(labels(others, splits[::2]), 0, folds, tuning)["split"].to_pylist()
    assert again == views[0][::2]


def test_folds_and_tuning_have_about_their_shares() -> None:
    subjects = [f"subject {number}" for number in range(10_000)]
    table = labels(subjects, ["train"] * len(subjects))
    view = folded(table, 2, 5, 0.25)["split"].to_pylist()
    assert abs(view.count("held_out") - 2000) < 200
    assert abs(view.count("tuning") - 2000) < 200
