"""Sources whose subjects are pseudonyms already: scans that `medray embed` made events of.

Owns what must hold before they are read: they were made with this hospital's key, and no patient
whose scans the imaging network learned from is held out.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from medray import storage
from medray.errors import LeakError, OutputConflictError
from medray.ingest.shards import number_of_pseudonym
from medray.privacy.pseudonyms import pseudonym
from medray.spec.records import RecordsSpec

KEY_CHECK: Final = "medray.key_check"  # in the metadata of such a Parquet file
SPLIT: Final = "split"  # its column: where the patient's scans stand
_LEARNED = ("train", "tuning")


def check_pseudonyms(records: RecordsSpec, key: bytes) -> None:
    """Pseudonyms of another key would be other patients' names, or nobody's.

    Raises OutputConflictError.
    """
    wanted = pseudonym(key, "check", "medray")
    for path in _paths(records):
        if key_check_of(storage.absolute(path)) != wanted:
            raise OutputConflictError(
                "a source with `pseudonyms: true` was not made with this pseudonym key",
                remedy="make it with `medray embed`, and let MEDRAY_KEY_FILE name the same key",
            )


def key_check_of(uri: str) -> str | None:
    """Which key a file of scans was made with; None for any other file."""
    fs, place = storage.filesystem(uri)
    try:
        noted = pq.read_schema(place, filesystem=fs).metadata or {}
    except (pa.ArrowException, OSError):
        return None
    check = noted.get(KEY_CHECK.encode())
    return None if check is None else check.decode()


def splits_of_scans(records: RecordsSpec) -> dict[str, str]:
    """subject_id, as text → split that the patient's scans stand in; none for those in no split."""
    found: dict[str, str] = {}
    for path in _paths(records):
        fs, place = storage.filesystem(storage.absolute(path))
        table = pq.read_table(place, filesystem=fs, columns=["subject_id", SPLIT])
        pairs = table.group_by(["subject_id", SPLIT]).aggregate([])
        for name, split in zip(
            *(pairs[one].to_pylist() for one in pairs.column_names), strict=True
        ):
            number = str(number_of_pseudonym(name))
            if split is not None and found.get(number) not in _LEARNED:
                found[number] = split
    return found


def keep_splits(
    names: Sequence[str], splits: Sequence[str | None], scans: Mapping[str, str], *, by_hash: bool
) -> list[str | None]:
    """Splits of patients in which nobody is held out whose scans a network learned from.

    by_hash  patients with scans take the split of their scans; else (a column says it) a patient
             whose scans were learned from and who is held out raises LeakError.
    """
    if by_hash:
        return [scans.get(name, split) for name, split in zip(names, splits, strict=True)]
    pairs = zip(names, splits, strict=True)
    torn = sum(s == "held_out" and scans.get(name) in _LEARNED for name, s in pairs)
    if torn:
        raise LeakError(
            f"the imaging network learned from the scans of {torn} patients who are held out here",
            remedy="split images and records by the same column, or leave `split.column` out: "
            "patients then keep the split of their scans",
        )
    return list(splits)


def _paths(records: RecordsSpec) -> list[str]:
    return [path for source in records.sources if source.pseudonyms for path in source.path]
