"""Refuse a subject, or an identical image or record, that stands in two splits."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Literal

import pyarrow as pa

from medray.errors import LeakError

_KEEP_ORDER = ("held_out", "tuning", "train")  # where an identical item stays


def check_leaks(
    labels: pa.Table, hashes: Mapping[str, str], policy: Literal["fail", "drop"] = "fail"
) -> set[str]:
    """Refuse a subject or an identical image in two splits; returns item_ids to leave out.

    `labels`: item_id, subject_id, split (null: in none). With `drop`, an identical image stays
    in the first of held_out, tuning, train it stands in, and its other item_ids are returned.
    Raises LeakError with counts.
    """
    rows = labels.select(["item_id", "subject_id", "split"]).to_pylist()
    rows = [row for row in rows if row["split"] is not None]
    by_subject: dict[str, set[str]] = defaultdict(set)
    by_hash: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        by_subject[row["subject_id"]].add(row["split"])
        by_hash[hashes[row["item_id"]]][row["split"]].append(row["item_id"])
    torn = sum(len(splits) > 1 for splits in by_subject.values())
    if torn:
        raise LeakError(
            f"{torn} of {len(by_subject)} subjects stand in more than one split",
            remedy="correct the split column so that all rows of a subject agree, or remove "
            "split.column to split by subject",
        )
    shared = [splits for splits in by_hash.values() if len(splits) > 1]
    if shared and policy == "fail":
        items = sum(len(ids) for splits in shared for ids in splits.values())
        raise LeakError(
            f"{len(shared)} identical images or records stand in more than one split "
            f"({items} items)",
            remedy="set split.identical_images: drop to leave out the copies, or correct the "
            "archive or the split",
        )
    dropped: set[str] = set()
    for splits in shared:
        first = next(split for split in _KEEP_ORDER if split in splits)
        dropped.update(i for split, ids in splits.items() if split != first for i in ids)
    return dropped
