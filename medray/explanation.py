"""The verb: package + patient → what the prediction rests on, as a value and as files.

Owns finding the patient and writing; the credit is computed where the model is.
"""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from medray import storage
from medray.dataset import RecordsDataset, open_any
from medray.errors import DataError, UsageError
from medray.explain.events import Explanation
from medray.package import open_package
from medray.records.tasks import DAY
from medray.report.explained import render_explanation
from medray.report.timeline import timeline_png
from medray.score.explanation import explain_item
from medray.score.predictor import Predictor
from medray.workload import Columns
from medray.workloads import WORKLOADS


def explain(
    package: str,
    subject: str,
    *,
    dataset: str | None = None,
    at: str | None = None,
    target: str | None = None,
    device: str = "cpu",
) -> Explanation:
    """Explain the prediction for one patient of a dataset of timelines.

    subject  the pseudonym, as in the dataset; or an item of `predictions` (subject@time).
    dataset  absent: the one beside the package.
    at       days after the patient's start, or a date and time: the latest prediction not after
             it; absent: the latest of all.
    target   absent: the one of the highest score.
    Raises UsageError when the package predicts from something else, the dataset is absent or the
    patient not in it, or no prediction is made by then.
    """
    opened = open_package(package)
    if opened.records is None:
        raise UsageError(
            f"{opened.ref} predicts from {opened.reads}, not from records",
            remedy="medray predict PACKAGE FILE --explain FOLDER shows where it looked",
        )
    records = _dataset(package, dataset)
    predictor = Predictor(package, device=device)
    name, _, moment = subject.partition("@")
    patient = records.read_subject(name)
    task = WORKLOADS[opened.workload]
    params, _ = predictor.learned
    items = task.items(patient, params)
    return explain_item(predictor, items, _row(items, patient, moment, at), target)


def write(explanation: Explanation, folder: str, top: int) -> dict[str, str]:
    """Write explain.html, timeline.png, events.parquet and explain.json; what is where.

    top  events in the page's table; the other files hold all of them.
    """
    sink = pa.BufferOutputStream()
    parquet.write_table(explanation.table(), sink)
    files = {
        "explain.html": render_explanation(explanation, top).encode(),
        "timeline.png": timeline_png(explanation),
        "events.parquet": sink.getvalue().to_pybytes(),
        "explain.json": (explanation.model_dump_json(indent=1) + "\n").encode(),
    }
    for name, data in files.items():
        storage.write_atomic(storage.join(folder, name), data)
    return {name: storage.join(folder, name) for name in files}


def _dataset(package: str, dataset: str | None) -> RecordsDataset:
    place = dataset or storage.absolute(package).rstrip("/").rpartition("/")[0]
    try:
        found = open_any(place)
    except DataError:
        if dataset is not None:
            raise
        raise UsageError(
            "there is no dataset beside the package",
            remedy="say where the patient's record lies: --dataset DIR",
        ) from None
    if not isinstance(found, RecordsDataset):
        raise UsageError(
            "this is a dataset of images", remedy="name one of timelines: --dataset DIR"
        )
    return found


def _row(items: Columns, patient: Columns, moment: str, at: str | None) -> int:
    """Place of the prediction that is meant among the patient's items."""
    times = np.asarray(items["prediction_time"])
    if moment:
        wanted = np.flatnonzero(times.astype(str) == moment)
    else:
        wanted = np.flatnonzero(times <= _micros(at, int(patient["start"][0])))
    if not len(wanted):
        start = int(patient["start"][0])
        days = [f"{(time - start) / DAY:.4g}" for time in times[:3].tolist()]
        first = f"its first are {', '.join(days)} days after the start" if days else "it makes none"
        raise UsageError(
            "the task makes no prediction for this patient at that time",
            remedy=f"{first}; leave --at out for the latest",
        )
    return int(wanted[np.argmax(times[wanted])])


def _micros(at: str | None, start: int) -> int:
    """A time that was asked for, in microseconds since 1970."""
    if at is None:
        return int(np.iinfo(np.int64).max)
    try:
        return start + round(float(at) * DAY)
    except ValueError:
        pass
    try:
        when = datetime.fromisoformat(at)
    except ValueError:
        raise UsageError(
            "--at is neither a number nor a date",
            remedy="give days after the patient's start (2.5) or a time (2024-05-01T12:00)",
        ) from None
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1e6)
