"""What a night's scoring has to say: counts, the spread of scores, the studies to look at first.

Computed from the published rows alone, so that it can be made again after an interruption.
Carries pseudonyms, never identifiers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from medray.score.prediction import strange

BINS = 10
TOP_STUDIES = 10


class TargetSummary(BaseModel):
    """One target, or one class of a multi-class target.

    histogram    items per tenth of 0..1; the last bin holds 1.0. None of values that are no
                 probabilities.
    positive     items decided positive (multi-class: items of this class); absent where nothing is
                 decided upon.
    top_studies  the studies of the highest score: pseudonym, mean, max, items.
    """

    model_config = ConfigDict(frozen=True)

    target: str
    text_value: str | None
    items: int
    positive: int | None
    histogram: tuple[int, ...]
    top_studies: tuple[dict[str, Any], ...]


class ScoreSummary(BaseModel):
    """One run of `score`.

    unit           what a file of the other names is here: `files` and ZIP members of an archive,
                   or `patients`, whose record changes as a file does.
    files_seen     files and ZIP members in the archive.
    files_new      those that this package had not scored, in this version of the file.
    files_scored   new files with at least one scored item.
    files_rejected, files_ignored   new files that gave no item, and why: reason → files.
    items, items_rejected           frames (or instances) scored; refused one by one.
    studies        studies with a scored item.
    files_resumed  new files that an interrupted run had already worked on.
    over_limit     rejected share of the readable new files passes `score.reject_limit`.
    events         records: that were read; rows_refused: rows that became none, reason → count;
                   rows_over_limit: their share passes the `reject_limit` of the package's records.
    unknown_codes  events whose code the model has never seen: code → count.
    """

    model_config = ConfigDict(frozen=True)

    package: str
    run: str | None
    unit: str = "files"
    files_seen: int
    files_new: int
    files_scored: int
    files_rejected: int
    files_ignored: int
    rejected_by_reason: dict[str, int]
    ignored_by_reason: dict[str, int]
    items: int
    items_rejected: int
    studies: int
    files_resumed: int
    seconds: float
    files_per_s: float
    over_limit: bool
    targets: tuple[TargetSummary, ...]
    predictions: str
    events: int = 0
    rows_refused: dict[str, int] = {}
    rows_over_limit: bool = False
    unknown_codes: dict[str, int] = {}

    def headline(self) -> str:
        """One line for people."""
        if not self.files_new:
            return (
                f"nothing new: {self.package} has scored all {self.files_seen:,} {self.unit} before"
            )
        refused = f", {self.files_rejected:,} rejected" if self.files_rejected else ""
        said = (
            f"{self.items:,} items of {self.files_scored:,} new {self.unit} scored by "
            f"{self.package}{refused}; {self.files_seen:,} {self.unit} seen"
        )
        return f"{said}; {strange(self.unknown_codes, self.events)}" if self.unknown_codes else said

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data for people: the counts, without the histograms."""
        content = self.model_dump(mode="json", exclude={"targets"})
        for target in self.targets:
            name = f"{target.target} {target.text_value or ''}".strip()
            if target.positive is not None:
                content[f"positive {name}"] = target.positive
        return content


def summarize(
    rows: pa.Table,
    *,
    package: str,
    run: str | None,
    files_seen: int,
    files_resumed: int,
    seconds: float,
    reject_limit: float,
    predictions: str,
    facts: Mapping[str, Any] | None = None,
) -> ScoreSummary:
    """Summarise the rows of PREDICTIONS that one run has made.

    facts  what was counted while reading records: fields of ScoreSummary.
    """
    told = dict(facts or {})
    files = _status_of_files(rows)
    counts = Counter(status for status, _ in files.values())
    rejected = Counter(reason for status, reason in files.values() if status == "rejected")
    ignored = Counter(reason for status, reason in files.values() if status == "ignored")
    good = _with_status(rows, "ok")
    bad = _with_status(rows, "rejected")
    readable = counts["ok"] + counts["rejected"]
    return ScoreSummary(
        package=package,
        run=run,
        files_seen=files_seen,
        files_new=len(files),
        files_scored=counts["ok"],
        files_rejected=counts["rejected"],
        files_ignored=counts["ignored"],
        rejected_by_reason=dict(sorted(rejected.items())),
        ignored_by_reason=dict(sorted(ignored.items())),
        items=len(set(good["item_id"].to_pylist())),
        items_rejected=sum(frame is not None for frame in bad["frame"].to_pylist()),
        studies=len(set(good["study_id"].to_pylist())),
        files_resumed=files_resumed,
        seconds=round(seconds, 2),
        files_per_s=round(len(files) / seconds, 2) if seconds > 0 else 0.0,
        over_limit=counts["rejected"] > reject_limit * readable
        or told.get("rows_over_limit", False),
        targets=_targets(good),
        predictions=predictions,
        **told,
    )


def _with_status(rows: pa.Table, status: str) -> pa.Table:
    mask = [value == status for value in rows["status"].to_pylist()]
    return rows.filter(pa.array(mask, pa.bool_()))


def _status_of_files(rows: pa.Table) -> dict[str, tuple[str, str]]:
    """file_id → status and reason; a file is ok when one of its items is."""
    found: dict[str, tuple[str, str]] = {}
    columns = (rows[name].to_pylist() for name in ("file_id", "status", "reason"))
    for file_id, status, reason in zip(*columns, strict=True):
        if file_id not in found or status == "ok":
            found[file_id] = (status, reason or "")
    return found


def _targets(good: pa.Table) -> tuple[TargetSummary, ...]:
    names = good.select(["target", "text_value"]).to_pylist()
    order = dict.fromkeys((row["target"], row["text_value"]) for row in names)
    groups: dict[tuple[str, str | None], list[int]] = {key: [] for key in order}
    for at, row in enumerate(names):
        groups[row["target"], row["text_value"]].append(at)
    return tuple(_target(key, good.take(pa.array(rows))) for key, rows in groups.items())


def _target(key: tuple[str, str | None], rows: pa.Table) -> TargetSummary:
    scores = rows["score"].to_numpy(zero_copy_only=False)
    decisions = [decision for decision in rows["decision"].to_pylist() if decision is not None]
    share = bool(((scores >= 0) & (scores <= 1)).all())
    histogram = np.histogram(scores, bins=BINS, range=(0.0, 1.0))[0] if share else ()
    return TargetSummary(
        target=key[0],
        text_value=key[1],
        items=rows.num_rows,
        positive=sum(decisions) if decisions else None,
        histogram=tuple(int(count) for count in histogram),
        top_studies=_top_studies(rows["study_id"].to_pylist(), scores.tolist()),
    )


def _top_studies(
    studies: Sequence[str | None], scores: Sequence[float]
) -> tuple[dict[str, Any], ...]:
    """The highest by their greatest score; of equals by the mean, then by name."""
    by_study: dict[str, list[float]] = {}
    for study, score in zip(studies, scores, strict=True):
        if study is not None:
            by_study.setdefault(study, []).append(score)
    rows = [
        {
            "study_id": study,
            "max": max(values),
            "mean": float(np.mean(values)),
            "items": len(values),
        }
        for study, values in by_study.items()
    ]
    rows.sort(key=lambda row: (-float(row["max"]), -float(row["mean"]), str(row["study_id"])))
    return tuple(rows[:TOP_STUDIES])
