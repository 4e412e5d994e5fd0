"""Which split every item stands in: by a column, or by a keyed hash of its subject."""

from collections.abc import Mapping, Sequence

from medray.errors import DataError
from medray.ingest.scan import split_of_folder
from medray.privacy.pseudonyms import pseudonym
from medray.spec.models import SPLITS, SplitSpec


def by_subject(
    key: bytes, subjects: Sequence[str], fractions: Mapping[str, float]
) -> list[str | None]:
    """Assign by a keyed hash: a subject never moves when others come or go."""
    return [_bucket(key, "split", subject, fractions) for subject in subjects]


def _bucket(key: bytes, kind: str, subject: str, fractions: Mapping[str, float]) -> str:
    place = int(pseudonym(key, kind, subject)[:13], 16) / 16**13  # 52 bits: exact in a float
    for split in SPLITS:
        place -= fractions.get(split, 0.0)
        if place < 0:
            return split
    return next(split for split in reversed(SPLITS) if fractions.get(split, 0.0) > 0)


def by_column(
    key: bytes, subjects: Sequence[str], values: Sequence[str | None], spec: SplitSpec
) -> tuple[list[str | None], bool]:
    """Read splits from a column; null stays null (in no split).

    When no row says `tuning`, the share tuning / (train + tuning) of `fractions` is taken out of
    the subjects of `train` by keyed hash; the second value tells whether that was done.
    Raises DataError for values that name no split.
    """
    splits = [None if value is None else split_of_folder(str(value)) for value in values]
    strange = [
        v for v, split in zip(values, splits, strict=True) if v is not None and split is None
    ]
    if strange or not any(splits):
        raise DataError(
            f"the split column {spec.column!r} holds {len(set(strange))} values that name no split"
            if strange
            else f"the split column {spec.column!r} is empty for every item",
            remedy="it must hold train, tuning (or val, validation) and held_out (or test)",
        )
    share = spec.tuning_share
    if "tuning" in splits or share == 0:
        return splits, False
    parts = {"train": 1 - share, "tuning": share}
    carved = [
        _bucket(key, "tuning", subject, parts) if split == "train" else split
        for subject, split in zip(subjects, splits, strict=True)
    ]
    return carved, True


def assign(
    key: bytes, subjects: Sequence[str], values: Sequence[str | None] | None, spec: SplitSpec
) -> tuple[list[str | None], str]:
    """Give every item its split, and say in words how that was done.

    `values`: what `spec.column` holds for every item; None when no column is named.
    """
    if values is None:
        fractions: dict[str, float] = {**spec.fractions}
        shares = ", ".join(f"{name} {fractions.get(name, 0):g}" for name in SPLITS)
        return by_subject(key, subjects, fractions), f"by subject, keyed hash ({shares})"
    found, carved = by_column(key, subjects, values, spec)
    how = f"by the column {spec.column}"
    if carved:
        how += f"; it names no tuning, so {spec.tuning_share:.0%} of train's subjects became it"
    return found, how
