"""What an ingest of records says: counts, and what people want to read of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from medray.ingest.summary import split_facts
from medray.records.summary import TimelineSummary


@dataclass(slots=True)
class RecordsSummary:
    """Counts of one ingest of records, and of the dataset as it stands after it.

    rows             read: rows of events, filled cells of the wide form, all that a resource of
                     FHIR or a row of OMOP tells
                     = events + dropped (codes the spec leaves out) + refused
    not_used         of those dropped, kinds of rows that no event is made of (FHIR's resources)
    refused          by reason; `missing_value` (the source's "not measured") is among them
    rejected_share   of the rows, `missing_value` and `duplicate_event` not counted
    without_events   patients that a table knows and no source has an event of
    unmatched        patients with events that a table does not know, by table
    """

    rows: int = 0
    events: int = 0
    dropped: int = 0
    not_used: dict[str, int] = field(default_factory=dict[str, int])
    refused: dict[str, int] = field(default_factory=dict[str, int])
    files: int = 0
    resumed: int = 0
    rejected_share: float = 0.0
    over_limit: bool = False
    subjects: int = 0
    without_events: int = 0
    unmatched: dict[str, int] = field(default_factory=dict[str, int])
    splits: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    without_split: int = 0
    split_by: str = ""
    identical_left_out: int = 0
    timelines: TimelineSummary = field(default_factory=TimelineSummary)
    changed_dataset: bool = True
    seconds: float = 0.0
    events_per_second: float = 0.0
    stages_s: dict[str, float] = field(default_factory=dict[str, float])

    def headline(self) -> str:
        """One line for a terminal."""
        refused = sum(self.refused.values())
        said = f"{self.events:,} events of {self.subjects:,} patients from {self.files:,} files"
        said += f", {len(self.timelines.codes):,} codes, {refused:,} rows refused"
        return said if self.changed_dataset else f"nothing new in {said}"

    def facts(self) -> dict[str, Any]:
        """What people want to read after the headline."""
        held = self.timelines
        return {
            "rows read": self.rows,
            "left out": self.dropped,
            "no events are made of": self.not_used,
            "refused": self.refused,
            "patients over several files": held.split_over_files,
            "patients without events": self.without_events,
            "match no row": self.unmatched,
            **split_facts(self.splits),
            "split": self.split_by,
            "identical records left out": self.identical_left_out,
            "events per patient": _range(held.events_per_subject, ""),
            "span": _range(held.span_days, " days"),
            "codes": {row.code: row.events for row in held.codes[:8]},
            "seldom there": {
                row.code: f"{row.missing:.0%} of patients without"
                for row in sorted(held.codes, key=lambda row: -row.missing)[:4]
                if row.missing > 0
            },
            "read": f"{self.seconds:.1f} s, {self.events_per_second:,.0f} events/s",
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in summary.json."""
        return {**asdict(self), "timelines": self.timelines.model_dump(mode="json")}


def _range(quantiles: Sequence[float], unit: str) -> str:
    if not quantiles:
        return ""
    low, quarter, median, three, high = quantiles
    return f"median {median:,.4g}{unit} ({quarter:,.4g}–{three:,.4g}; {low:,.4g} to {high:,.4g})"
