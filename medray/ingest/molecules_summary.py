"""What an ingest of molecules says: counts, and what people want to read of them."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class SourceCounts:
    """Rows of one source: = molecules + duplicates + refused. first: molecules it was first of."""

    rows: int = 0
    molecules: int = 0
    duplicates: int = 0
    refused: int = 0


@dataclass(slots=True)
class MoleculesSummary:
    """Counts of one ingest of molecules, and of the dataset as it stands after it.

    rows             read = molecules + duplicates + refused, in all and of every source
    duplicates       rows that say a molecule once more
    refused          others that became none, by reason
    rejected_share   refused / (rows - duplicates)
    resumed          chunks of rows that an interrupted run had done
    two_splits       molecules that sources or a column put into several splits (dropped from all
                     but the first of held_out, tuning, train)
    known            molecules with a value, by property
    text             properties that are text: one of their values is no number
    heavy_atoms      least, quarter, median, three quarters, most
    """

    rows: int = 0
    molecules: int = 0
    duplicates: int = 0
    refused: dict[str, int] = field(default_factory=dict[str, int])
    sources: dict[str, SourceCounts] = field(default_factory=dict[str, SourceCounts])
    files: int = 0
    resumed: int = 0
    rejected_share: float = 0.0
    over_limit: bool = False
    scaffolds: int = 0
    splits: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    without_split: int = 0
    split_by: str = ""
    two_splits: int = 0
    known: dict[str, int] = field(default_factory=dict[str, int])
    text: tuple[str, ...] = ()
    heavy_atoms: tuple[float, ...] = ()
    changed_dataset: bool = True
    seconds: float = 0.0
    molecules_per_second: float = 0.0
    stages_s: dict[str, float] = field(default_factory=dict[str, float])

    def headline(self) -> str:
        """One line for a terminal."""
        refused = sum(self.refused.values())
        said = f"{self.molecules:,} molecules, {self.scaffolds:,} scaffolds from {self.rows:,} rows"
        said += f" of {self.files:,} files, {refused:,} refused, {self.duplicates:,} duplicates"
        return said if self.changed_dataset else f"nothing new in {said}"

    def facts(self) -> dict[str, Any]:
        """What people want to read after the headline."""
        return {
            "refused": self.refused,
            "sources": {
                name: f"{one.molecules:,} molecules of {one.rows:,} rows"
                for name, one in self.sources.items()
            },
            **{
                split: f"{count['items']:,} molecules of {count['scaffolds']:,} scaffolds"
                for split, count in self.splits.items()
            },
            "in no split": self.without_split,
            "split": self.split_by,
            "put into two splits": self.two_splits,
            "heavy atoms": _spread(self.heavy_atoms),
            "known": self.known,
            "text": self.text,
            "chunks of an interrupted run": self.resumed,
            "read": f"{self.seconds:.1f} s, {self.molecules_per_second:,.0f} molecules/s",
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in summary.json."""
        return asdict(self)


def _spread(quantiles: tuple[float, ...]) -> str:
    if not quantiles:
        return ""
    low, quarter, median, three, high = quantiles
    return f"median {median:g} ({quarter:g}–{three:g}; {low:g} to {high:g})"
