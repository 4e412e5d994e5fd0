"""Who was learned from, tuned on and held out; refuses a held-out set that decides nothing.

Pure functions of the dataset's labels. Shapes: N items.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medray.dataset import AnyDataset, MoleculesDataset
from medray.errors import DataError
from medray.ingest.molecule_splits import in_words
from medray.report.document import Cohort, CoverageRow, Labelled, SplitRow
from medray.spec.models import SPLITS, RunSpec
from medray.workload import Target
from medray.workload import Unit as ItemUnit

Array = NDArray[Any]


def check_held_out(targets: Sequence[Target], truth: Mapping[str, Array]) -> None:
    """Raise DataError unless some target has outcomes to tell apart among the held-out items.

    `truth[target]`: what was observed, in the shape of the target's kind.
    """
    if all(len(truth[target.name]) == 0 for target in targets):
        raise DataError(
            "the held_out split is empty: there is nothing to evaluate on",
            remedy="give `split.fractions.held_out` a share above 0, or mark rows as held_out in "
            "the column named by `split.column`, and run ingest again",
        )
    if not any(_decides(target, truth[target.name]) for target in targets):
        names = ", ".join(target.name for target in targets)
        raise DataError(
            f"no target ({names}) has outcomes to tell apart in held_out, so no result is defined",
            remedy="hold out more patients (`split.fractions.held_out`), and check that the label "
            "column has values for them",
        )


def _decides(target: Target, truth: Array) -> bool:
    """Whether there is anything to measure by: two outcomes; an event; a value."""
    masks = outcome_masks(target, truth)
    if target.kind == "survival":
        return any(masks[name].any() for name in target.classes)
    if target.kind == "value":
        return np.unique(truth[np.isfinite(truth)]).size >= 2
    filled = sum(bool(mask.any()) for mask in masks.values())
    return filled >= (1 if target.kind == "quantiles" else 2)


def outcome_masks(target: Target, truth: Array) -> dict[str, NDArray[np.bool_]]:
    """Name of every outcome of a target → which items (N,) have it."""
    if target.kind == "survival":
        names = ("lost to follow-up", *target.classes)
        return {name: truth[:, 0] == number for number, name in enumerate(names)}
    if target.kind == "quantiles":
        return {
            f"at {horizon:g} days": np.isfinite(truth[:, index])
            for index, horizon in enumerate(target.horizons_days)
        }
    if target.kind == "value":
        return {"measured": np.isfinite(truth)}
    names = target.classes if target.kind == "multiclass" else ("negative", "positive")
    return {name: truth == code for code, name in enumerate(names)}


def known(truth: Array) -> NDArray[np.bool_]:
    """Which values (N,) of a truth array are present: neither NaN nor -1."""
    values = np.asarray(truth, dtype=np.float64)
    return np.isfinite(values) & (values >= 0)


def outcomes(truth: Array) -> Array:
    """Distinct values that are present in a truth array (N,)."""
    values = np.asarray(truth, dtype=np.float64)
    return np.unique(values[known(values)])


UNSEEN = "unseen_events"  # column of items: see `Workload.unseen`

Unit = Literal["patients"] | ItemUnit


def item_unit(items: int, patients: int, unit: Unit = "images") -> Unit:
    """Word for one item to the reader: a patient where each has one item, else `unit`."""
    return "patients" if items == patients and unit != "molecules" else unit


def cohort_of(
    targets: Sequence[Target],
    truth: Mapping[str, Array],
    splits: Array,
    subject_ids: Array,
    study_ids: Array,
    unit: Unit = "images",
) -> Cohort:
    """Patients, studies, items and outcomes by split; every array is (N,) over all items.

    `unit`: what an item is to the reader where patients have several.
    """
    rows = [
        _split_row(split, targets, truth, splits == split, subject_ids, study_ids)
        for split in SPLITS
    ]
    held_out = next(row for row in rows if row.split == "held_out")
    return Cohort(unit=item_unit(held_out.items, held_out.patients, unit), rows=tuple(rows))


def _split_row(
    split: str,
    targets: Sequence[Target],
    truth: Mapping[str, Array],
    member_N: NDArray[np.bool_],
    subject_ids: Array,
    study_ids: Array,
) -> SplitRow:
    return SplitRow(
        split=split,
        patients=len(set(subject_ids[member_N].tolist())),
        studies=len(set(study_ids[member_N].tolist())),
        items=int(member_N.sum()),
        labels=tuple(
            _labelled(target, truth[target.name][member_N], subject_ids[member_N])
            for target in targets
        ),
    )


def _labelled(target: Target, truth: Array, subject_ids: Array) -> Labelled:
    masks = outcome_masks(target, truth)
    some = np.any(np.stack(list(masks.values())), axis=0)
    return Labelled(
        target=target.name,
        labelled=int(some.sum()),
        items={name: int(mask.sum()) for name, mask in masks.items()},
        patients={name: len(set(subject_ids[mask].tolist())) for name, mask in masks.items()},
    )


def coverage_of(
    patients: Mapping[str, int], splits: Array, subject_ids: Array, unseen: Array
) -> tuple[CoverageRow, ...]:
    """Patients without items, and what items hold that the model does not know; arrays are (N,).

    `patients`: of every split, with items or not. The items of a patient tell one record, each more
    of it, so that the events of the patient are those of the item with most.
    """
    rows: list[CoverageRow] = []
    for split in SPLITS:
        member_N = splits == split
        most: dict[str, int] = {}
        for one, count in zip(subject_ids[member_N], unseen[member_N], strict=True):
            most[one] = max(most.get(one, 0), int(count))
        rows.append(
            CoverageRow(
                split=split,
                patients=patients.get(split, 0),
                without_items=patients.get(split, 0) - len(most),
                items=int(member_N.sum()),
                unseen_items=int((unseen[member_N] > 0).sum()),
                unseen_patients=sum(count > 0 for count in most.values()),
                unseen_events=sum(most.values()),
            )
        )
    return tuple(rows)


def split_in_words(spec: RunSpec, dataset: AnyDataset) -> str:
    """How molecules were held out, which decides what a result is worth; "" of other data."""
    if not isinstance(dataset, MoleculesDataset):
        return ""
    split, sources = spec.split, dataset.meta.molecules.sources
    names = [source.name or source.path[0].rpartition("/")[2] for source in sources]
    if split.fold is not None:
        whole = "whole scaffolds" if dataset.meta.split_by == "scaffold" else "molecules"
        said = f"fold {split.fold + 1} of {split.folds}, of {whole}"
    else:
        said = in_words(split, names, [source.split for source in sources], 0.0)
    return f"Split: {said}; training seed {spec.seed}."
