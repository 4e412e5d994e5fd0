"""Outcomes of a spec's task as MEDS labels: a row per prediction time whose outcome is known.

Shapes: N patients, M items.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from medray.dataset import RecordsDataset
from medray.dataset.records import to_timelines
from medray.errors import DataError
from medray.records import tasks
from medray.records.tasks import TIMELINE
from medray.spec.models import RunSpec
from medray.workloads.timeline.heads import HEADS
from medray.workloads.timeline.params import TimelineParams

_LABELS = pa.schema(
    [
        pa.field("subject_id", pa.int64(), nullable=False),
        pa.field("prediction_time", pa.timestamp("us"), nullable=False),
        pa.field("boolean_value", pa.bool_(), nullable=False),
    ]
)


def asked(spec: RunSpec | None) -> TimelineParams | None:
    """The params of a task whose outcome MEDS can say, which is yes or no; else None."""
    if spec is None or spec.workload != "timeline" or not spec.params:
        return None
    params = TimelineParams.model_validate(spec.params)
    return params if params.task == "event_within" else None


class Labels:
    """Facts about the patients of a dataset, held while shard after shard goes by."""

    def __init__(self, dataset: RecordsDataset, params: TimelineParams) -> None:
        self._dataset = dataset
        self._params = params
        self._facts: dict[str, Mapping[str, NDArray[Any]]] = {}
        self.unknown = 0
        wanted = params.outcome.columns if params.outcome else ()
        absent = sorted(set(wanted) - set(dataset.labels().column_names))
        if absent:
            raise DataError(
                f"the dataset has no column {', '.join(map(repr, absent))}, which the outcome is "
                "read from",
                remedy="name the table that has it in `records.tables` and ingest again",
            )

    def of(self, split: str, events: pa.Table) -> pa.Table:
        """Labels of patients of one split (EVENTS, whole): subject_id, prediction_time,
        boolean_value.

        Items whose outcome is not known are left out and counted in `unknown`.
        """  # noqa: D205
        if split not in self._facts:
            self._facts[split] = self._dataset.columns(split)
        facts = self._facts[split]
        part = to_timelines(events)
        row_N = np.searchsorted(facts["subject_id"].astype("U"), part["subject_id"].astype("U"))
        columns = {name: values[row_N] for name, values in facts.items()}
        columns |= {name: part[name] for name in TIMELINE}
        items = tasks.cut(columns, self._params.moments)
        outcome_M = HEADS[self._params.task].observe(items, columns, self._params)
        known_M = np.isfinite(outcome_M)
        self.unknown += int((~known_M).sum())
        subject_M = items["subject_id"][known_M].astype(np.int64)
        found: Mapping[str, Any] = {
            "subject_id": subject_M,
            "prediction_time": items["prediction_time"][known_M].astype("M8[us]"),
            "boolean_value": outcome_M[known_M] == 1,
        }
        return pa.table(found, schema=_LABELS)
