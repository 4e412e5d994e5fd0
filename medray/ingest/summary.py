"""What an ingest did, in numbers that hold no identifier: printed, and kept as summary.json."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter

from medray.ingest.parts import Row


@dataclass(slots=True)
class TableSummary:
    """How one table met the archive. Example rows count as a spreadsheet does (header: 1)."""

    name: str
    on: str
    rows: int
    unmatched_files: int
    unmatched_rows: int
    example_file_ids: list[str]
    example_rows: list[int]
    left_out_columns: list[str]


@dataclass(slots=True)
class IngestSummary:
    """Counts of one ingest, and of the dataset as it stands after it.

    files            in the archive now; = ok + ignored + rejected
    new … vanished   against the last ingest; vanished files leave the dataset
    headers, decoded files read in this run; resumed: taken over from an interrupted one
    rejected_share   rejected / (ok + rejected); over_limit: it is past ingest.reject_limit
    changed_dataset  False when there was nothing to do
    seconds          of this run; files_per_second: of its header or decode work
    """

    files: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    vanished: int = 0
    headers: int = 0
    decoded: int = 0
    resumed: int = 0
    ok: int = 0
    ignored: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict[str, int])
    items: int = 0
    subjects: int = 0
    studies: int = 0
    splits: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    without_split: int = 0
    split_by: str = ""
    identical_left_out: int = 0
    without_patient_id: int = 0
    tables: list[TableSummary] = field(default_factory=list[TableSummary])
    bytes: int = 0
    seconds: float = 0.0
    files_per_second: float = 0.0
    stages_s: dict[str, float] = field(default_factory=dict[str, float])
    rejected_share: float = 0.0
    over_limit: bool = False
    changed_dataset: bool = True
    run: str = ""

    def headline(self) -> str:
        """One line for a terminal."""
        said = f"{self.files:,} files: {self.items:,} items of {self.subjects:,} patients"
        said += f", {self.rejected:,} rejected, {self.ignored:,} ignored"
        return said if self.changed_dataset else f"nothing new in {said}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in summary.json."""
        return asdict(self)

    def facts(self) -> dict[str, Any]:
        """What people want to read after the headline."""
        facts: dict[str, Any] = {
            "files": {k: getattr(self, k) for k in ("new", "changed", "unchanged", "vanished")},
            "resumed from an interrupted run": self.resumed,
            "refused": self.reasons,
            "studies": self.studies,
            **split_facts(self.splits),
            "split": self.split_by,
            "identical pictures left out": self.identical_left_out,
            "files without a patient id": self.without_patient_id,
        }
        for table in self.tables:
            facts[table.name] = (
                f"{table.rows:,} rows on {table.on}; {table.unmatched_rows:,} match no file, "
                f"{table.unmatched_files:,} files match no row (listed in summary.json)"
            )
        facts["read"] = f"{self.bytes / 1e6:,.1f} MB in {self.seconds:.1f} s"
        return facts

    def count_files(self, rows: Sequence[Row], reject_limit: float) -> None:
        """Fill what follows from the rows of FILES."""
        status = Counter(row["status"] for row in rows)
        self.files = len(rows)
        self.ok, self.ignored, self.rejected = (
            status[name] for name in ("ok", "ignored", "rejected")
        )
        reasons = Counter(row["reason"] for row in rows if row["reason"])
        self.reasons = dict(sorted(reasons.items()))
        self.bytes = sum(row["size"] for row in rows)
        readable = self.ok + self.rejected
        self.rejected_share = self.rejected / readable if readable else 0.0
        self.over_limit = self.rejected_share > reject_limit


def split_facts(splits: Mapping[str, Mapping[str, int]]) -> dict[str, str]:
    """Split → its size in words."""
    return {
        split: f"{count['items']:,} items of {count['subjects']:,} patients"
        for split, count in splits.items()
    }


def from_json(data: bytes) -> IngestSummary:
    """Read summary.json. Raises pydantic.ValidationError for that of another version."""
    return TypeAdapter(IngestSummary).validate_json(data)
