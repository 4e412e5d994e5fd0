"""The verb: package + `held_out` → report.json, report.html and the package's model card.

Owns reading and writing; every number is computed by its pure siblings. Each look at `held_out` is
written to report/openings.jsonl before its pixels are read. Shapes: N items.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medray import storage
from medray.dataset import AnyDataset, Dataset, check_leaks
from medray.evaluate.cohort import (
    UNSEEN,
    check_held_out,
    cohort_of,
    coverage_of,
    split_in_words,
)
from medray.evaluate.drawn import PICTURES
from medray.evaluate.forecast import forecast_results
from medray.evaluate.means import mean_rows
from medray.evaluate.mistakes import binary_mistakes, multiclass_mistakes, with_events
from medray.evaluate.multiclass import multiclass_result
from medray.evaluate.question import Question
from medray.evaluate.reading import RIVAL_ITEMS, Reading, Split
from medray.evaluate.results import Settings, binary_result, with_baselines
from medray.evaluate.standing import history_of, provenance_of, record_opening
from medray.evaluate.survival import survival_results
from medray.evaluate.value import value_results
from medray.package import Package, Task, add_evaluation
from medray.report.card import evaluation_metrics, render_card
from medray.report.document import (
    CoverageRow,
    Mistake,
    Report,
    TargetResult,
)
from medray.report.html import render_html
from medray.report.words import one_line
from medray.score.predictor import Predictor
from medray.spec.models import RunSpec
from medray.train.source import open_run
from medray.workload import Rivals
from medray.workloads import WORKLOADS

Array = NDArray[Any]
Progress = Callable[[dict[str, Any]], None]

_OTHER_DATA = (
    "The package was not trained on this version of the dataset: patients it learned from may "
    "stand in held-out here, which would flatter every number below."
)


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """Where the report lies and what it says. `openings` counts looks at `held_out` so far."""

    report: Report
    html_uri: str
    json_uri: str
    package: str
    openings: int

    def headline(self) -> str:
        """One line for a terminal."""
        return "held-out " + "; ".join(one_line(self.report))

    def to_dict(self) -> dict[str, Any]:
        """Facts as JSON."""
        held_out = next(row for row in self.report.cohort.rows if row.split == "held_out")
        return {
            "report": self.html_uri,
            "json": self.json_uri,
            "package": self.package,
            "held_out_patients": held_out.patients,
            "held_out_items": held_out.items,
            "openings": self.openings,
            "notes": list(self.report.notes),
        }


def evaluate_judge(
    spec: RunSpec, *, progress: Progress | None = None, workload: Task | None = None
) -> EvaluationResult:
    """Evaluate the run's package on `held_out`; writes report/ and the package's model card.

    `workload`: absent: the one of WORKLOADS that the package names. Run again, it looks again (and
    says so in the report). Raises DataError when there is no dataset, or `held_out` is empty or
    has one outcome for every target; LeakError when a subject or an identical image stands in two
    splits; PackageError when the package is not intact.
    """
    tell = progress or _silent
    package_uri = storage.join(spec.output_uri, "package")
    predictor = Predictor(package_uri, device="auto", workload=workload)
    package = predictor.package
    targets = [one for one in predictor.targets if one.kind != "domain"]
    task = workload or WORKLOADS[package.workload]
    dataset = open_run(spec)
    left_out = check_leaks(dataset.labels(), dataset.hashes(), spec.split.identical_images)
    reading = Reading(dataset, left_out, task, predictor)
    labels = reading.labels()
    truth = reading.truth(labels)
    held_out_N = labels["split"] == "held_out"
    check_held_out(targets, {name: values[held_out_N] for name, values in truth.items()})

    openings = record_opening(spec, package)
    tuning, held_out = (
        reading.predict(split, _telling(f"predict {split}", labels, split, tell))
        for split in ("tuning", "held_out")
    )
    columns, absent = _group_columns(spec.evaluate.subgroups, held_out.columns)
    columns |= _nearness(predictor, held_out)
    rivals = _rivals(spec, reading, labels, held_out, tell)
    train_truth = {name: values[labels["split"] == "train"] for name, values in truth.items()}
    questions = [
        Question(
            target=target,
            held_out=scored,
            tuning=tuning.scored(target.name),
            train_truth=train_truth[target.name],
            calibration=package.calibration,
            columns=columns,
            rivals={
                name: found if isinstance(found, str) else found[target.name]
                for name, found in rivals.items()
            },
            settings=Settings(spec.evaluate, spec.seed),
        )
        for target in targets
        if (scored := held_out.scored(target.name)) is not None
    ]
    results, pictures = _results(questions, reading, held_out, tell)
    fingerprint = dataset.fingerprint()
    report = Report(
        name=package.name,
        version=package.version,
        workload=package.workload,
        dataset=dataset.meta.name,
        means=mean_rows(questions, results),
        split=split_in_words(spec, dataset),
        notes=(*_notes(package, fingerprint), *_sampled(rivals, labels)),
        skipped_columns=absent,
        min_patients=spec.evaluate.min_patients,
        replicates=spec.evaluate.replicates,
        cohort=cohort_of(
            targets,
            truth,
            labels["split"],
            labels["subject_id"],
            labels["study_id"],
            task.unit,
        ),
        coverage=_coverage(dataset, left_out, labels),
        targets=results,
        history=history_of(package.metrics.get("history") or []),
        openings=openings,
        provenance=provenance_of(spec, package, fingerprint),
        spec=spec.model_dump(mode="json"),
    )
    return _write(spec, package, report, pictures)


def _nearness(predictor: Predictor, held_out: Split) -> dict[str, Array]:
    """Columns (N,) of how far answers can be trusted, to break every target's results down by."""
    found: dict[str, Array] = {}
    for target in predictor.targets:
        if target.kind == "domain":
            near_N = predictor.package.calibration.apply(target.name, held_out.logits[target.name])
            inside_N = predictor.package.calibration.decide(target.name, near_N)
            found[target.name] = near_N
            found["domain"] = np.where(inside_N, "inside", "outside").astype(object)
    return found


def _coverage(
    dataset: AnyDataset, left_out: set[str], labels: Mapping[str, Array]
) -> tuple[CoverageRow, ...]:
    """What of the records the model can use; of images nothing is counted."""
    if UNSEEN not in labels:
        return ()
    rows = dataset.labels().select(["item_id", "split"]).to_pylist()
    patients = Counter(row["split"] for row in rows if row["item_id"] not in left_out)
    return coverage_of(patients, labels["split"], labels["subject_id"], labels[UNSEEN])


def _silent(_: dict[str, Any]) -> None:
    """Tell nobody."""


def _telling(
    stage: str, labels: Mapping[str, Array], split: str, tell: Progress
) -> Callable[[int], None]:
    total = int((labels["split"] == split).sum())
    return lambda done: tell({"stage": stage, "done": done, "total": total, "unit": "items"})


def _rivals(
    spec: RunSpec,
    reading: Reading,
    labels: Mapping[str, Array],
    held_out: Split,
    tell: Progress,
) -> Rivals:
    """Name → target → what a simple model says of the held-out items."""
    if not spec.evaluate.baselines or isinstance(reading.dataset, Dataset):
        return {}
    tell({"stage": "baselines", "done": 0, "total": 1, "unit": "fits"})
    found = reading.rivals(labels, held_out, spec.seed)
    tell({"stage": "baselines", "done": 1, "total": 1, "unit": "fits"})
    return found


def _sampled(rivals: Rivals, labels: Mapping[str, Array]) -> tuple[str, ...]:
    """Say so when the simple models learned from a part of `train`."""
    items = int((labels["split"] == "train").sum())
    if not rivals or items <= RIVAL_ITEMS:
        return ()
    return (f"The simple models learned from {RIVAL_ITEMS:,} of {items:,} items of train.",)


def _group_columns(
    names: Sequence[str], columns: Mapping[str, Array]
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Subgroup columns (N,) that the dataset has, and the names of those it has not."""
    present = {name: columns[name] for name in names if name in columns}
    return present, tuple(name for name in names if name not in columns)


def _binary(question: Question) -> Iterator[TargetResult]:
    target, here = question.target, question.held_out
    result = binary_result(
        target.name,
        here,
        question.tuning,
        question.calibration,
        question.columns,
        question.settings,
    )
    yield with_baselines(result, here, question.rivals, question.settings)


def _multiclass(question: Question) -> Iterator[TargetResult]:
    target = question.target
    yield multiclass_result(
        target.name,
        target.classes,
        question.held_out,
        question.tuning,
        question.calibration,
        question.columns,
        question.settings,
    )


_RESULTS: Mapping[str, Callable[[Question], Iterator[TargetResult]]] = {
    "binary": _binary,
    "multiclass": _multiclass,
    "survival": survival_results,
    "quantiles": forecast_results,
    "value": value_results,
}


def _results(
    questions: Sequence[Question], reading: Reading, held_out: Split, tell: Progress
) -> tuple[tuple[TargetResult, ...], dict[str, bytes]]:
    """Give results of every target, and the pictures of their mistakes by name."""
    results: list[TargetResult] = []
    pictures: dict[str, bytes] = {}
    total = len(questions)
    for number, question in enumerate(questions):
        tell({"stage": "measure", "done": number, "total": total, "unit": "targets"})
        for result in _RESULTS[question.target.kind](question):
            found, drawn = _with_mistakes(result, question, reading, held_out, str(number))
            results.append(found)
            pictures |= drawn
    tell({"stage": "measure", "done": total, "total": total, "unit": "targets"})
    return tuple(results), pictures


def _with_mistakes(
    result: TargetResult, question: Question, reading: Reading, held_out: Split, prefix: str
) -> tuple[TargetResult, dict[str, bytes]]:
    """Add the most confident mistakes: pictures, returned by name, or the events of records."""
    if result.undefined or question.target.kind not in ("binary", "multiclass"):
        return result, {}
    found = _mistakes(question)
    draw = next((one for name, one in PICTURES.items() if name in held_out.columns), None)
    if draw is None:
        item_of = partial(reading.item, held_out)
        shown = with_events(found, reading.predictor, item_of, question.target.name)
        return result.model_copy(update={"mistakes": shown}), {}
    pictures: dict[str, bytes] = {}
    mistakes: list[Mistake] = []
    for index, (row, mistake) in enumerate(found):
        name = f"{prefix}-{index}"
        pictures[name] = draw(reading.predictor, question.target, held_out.columns, row)
        mistakes.append(mistake.model_copy(update={"picture": name}))
    return result.model_copy(update={"mistakes": tuple(mistakes)}), pictures


def _mistakes(question: Question) -> list[tuple[int, Mistake]]:
    target, most = question.target, question.settings.evaluate.mistakes
    if target.kind == "binary":
        return binary_mistakes(target.name, question.held_out, question.calibration, most)
    return multiclass_mistakes(
        target.name, target.classes, question.held_out, question.calibration, most
    )


def _notes(package: Package, fingerprint: str) -> tuple[str, ...]:
    return () if package.lineage.get("dataset") == fingerprint else (_OTHER_DATA,)


def _write(
    spec: RunSpec, package: Package, report: Report, pictures: Mapping[str, bytes]
) -> EvaluationResult:
    """Write the page, the document and the package's card; each is whole or absent."""
    folder = storage.join(spec.output_uri, "report")
    html_uri, json_uri = storage.join(folder, "report.html"), storage.join(folder, "report.json")
    storage.write_atomic(html_uri, render_html(report, pictures).encode())
    storage.write_atomic(json_uri, (report.model_dump_json(indent=1) + "\n").encode())
    add_evaluation(package, evaluation_metrics(report), render_card(report))
    return EvaluationResult(report, html_uri, json_uri, package.ref, len(report.openings))
