"""Chunk files: the finished work of a run that is not published yet.

Every row of SCORED says how many rows its file has in all (`file_items`), so that the chunks alone
tell which files are complete. Nothing else is trusted: a chunk may hold items of several files, a
file's items may lie in several chunks, and the same item may have been written twice.
"""

from collections.abc import Collection

import numpy as np
import pyarrow as pa

from medray import storage
from medray.errors import MedrayError
from medray.ingest.parts import KEY_FIELDS, Key
from medray.schema import PREDICTIONS
from medray.score.stages import SCORED

_KEY = [field.name for field in KEY_FIELDS]


def clean(folder: str, wanted: Collection[Key]) -> set[Key]:
    """Keep only complete files of `wanted`; returns them. Emptied chunks are removed.

    What is left of an interrupted file must go: it may not agree with what reading the file
    again will give.
    """
    files = _files(folder)
    complete = _complete(storage.read_parquet(files, SCORED)) & set(wanted)
    for uri in files:
        table = storage.read_parquet([uri], SCORED)
        stays = [key in complete for key in _keys(table)]
        if not any(stays):
            storage.remove_tree(uri)
        elif not all(stays):
            storage.write_parquet(uri, table.filter(pa.array(stays, pa.bool_())))
    return complete


def collect(folder: str, wanted: Collection[Key]) -> pa.Table:
    """Rows of PREDICTIONS of all `wanted` files, each item and target once.

    Raises MedrayError when a file is not there whole: nothing may be published then.
    """
    table = storage.read_parquet(_files(folder), SCORED)
    missing = set(wanted) - _complete(table)
    if missing:
        raise MedrayError(
            f"{len(missing)} of {len(wanted)} files were not scored whole: nothing was published",
            remedy="run the same command again: finished work is kept",
        )
    wanted = set(wanted)
    table = table.filter(pa.array([key in wanted for key in _keys(table)], pa.bool_()))
    first = _first_of_each(table, ["item_id", "target", "text_value"])
    return table.take(first).select(PREDICTIONS.names).cast(PREDICTIONS)


def _files(folder: str) -> list[str]:
    # The plan lies one folder deeper and is no chunk.
    prefix = storage.absolute(folder) + "/"
    return [
        uri
        for uri in storage.list_files(folder)
        if uri.endswith(".parquet") and "/" not in uri.removeprefix(prefix)
    ]


def _keys(table: pa.Table) -> list[Key]:
    return list(zip(*(table[name].to_pylist() for name in _KEY), strict=True))


def _complete(table: pa.Table) -> set[Key]:
    """Files with exactly as many different items as all of their rows say."""
    found = table.group_by(_KEY).aggregate(
        [("item_id", "count_distinct"), ("file_items", "min"), ("file_items", "max")]
    )
    return {
        (row["file_id"], row["size"], row["mtime_ns"])
        for row in found.to_pylist()
        if row["item_id_count_distinct"] == row["file_items_min"] == row["file_items_max"]
    }


def _first_of_each(table: pa.Table, names: list[str]) -> pa.Array:
    """Row numbers of the first row of each combination, in order."""
    numbered = table.select(names).append_column("row", pa.array(np.arange(table.num_rows)))
    found = numbered.group_by(names).aggregate([("row", "min")])
    return pa.array(np.sort(found["row_min"].to_numpy()))
