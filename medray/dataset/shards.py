"""A split of timelines read shard by shard: events of one file, facts of all its patients.

Shapes: N patients of a shard, E events of one of them.
"""

import numpy as np

from medray import storage
from medray.dataset.columns import Array, ColumnArrays
from medray.dataset.records import RecordsDataset, to_timelines
from medray.records.tasks import TIMELINE
from medray.schema import EVENTS


class SplitShards:
    """The patients of one split. Of events, no more is held than the caller keeps.

    Patients without any event stand in no shard.
    """

    def __init__(self, dataset: RecordsDataset, split: str) -> None:
        self.uris = dataset.event_files()
        self.patient_bytes = dataset.nbytes(split) // max(1, dataset.counts()[split]["items"])
        self._facts = dataset.columns(split)
        self._row = {one: row for row, one in enumerate(self._facts["subject_id"])}

    def read(self, uri: str) -> ColumnArrays:
        """Patients of the split in one shard, in its order; columns as of `RecordsDataset.read`."""
        found = to_timelines(storage.read_parquet([uri], EVENTS))
        rows = np.array([self._row.get(one, -1) for one in found["subject_id"]], np.int64)
        here = np.flatnonzero(rows >= 0)
        columns = {name: values[rows[here]] for name, values in self._facts.items()}
        return columns | {name: found[name][here] for name in TIMELINE}


def taken(columns: ColumnArrays, rows: Array) -> ColumnArrays:
    """Some patients, with events of their own: the shard they come from can be let go."""
    return {
        name: _copies(values[rows]) if name in TIMELINE else values[rows]
        for name, values in columns.items()
    }


def _copies(cells: Array) -> Array:
    for place, events in enumerate(cells):
        cells[place] = events.copy()
    return cells
