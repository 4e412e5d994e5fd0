"""What an ingest of molecules says: counts, and what people want to read of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medray.errors import Code
from medray.spec.models import SPLITS

compute: Any = pc


@dataclass(slots=True)
class SourceCounts:
    """Rows of one source, = new + duplicates + refused; new: the first of their molecule."""

    rows: int
    new: int
    duplicates: int
    refused: int


@dataclass(slots=True)
class MoleculesSummary:
    """Counts of one ingest of molecules, and of the dataset as it stands after it.

    rows             read = molecules + duplicates + refused, in all and of every source
    duplicates       rows that say a molecule once more
    refused          others that became none, by reason
    rejected_share   refused / (rows - duplicates)
    resumed          chunks of rows that an interrupted run had done
    put_into_several molecules that sources or a column put into more than one split; each stands
                     in the first of held_out, tuning, train
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
    put_into_several: int = 0
    known: dict[str, int] = field(default_factory=dict[str, int])
    text: tuple[str, ...] = ()
    heavy_atoms: tuple[float, ...] = ()
    changed_dataset: bool = True
    seconds: float = 0.0
    rows_per_second: float = 0.0
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
                name: f"{one.new:,} molecules of {one.rows:,} rows"
                for name, one in self.sources.items()
            },
            **{
                split: f"{count['items']:,} molecules of {count['scaffolds']:,} scaffolds"
                for split, count in self.splits.items()
            },
            "in no split": self.without_split,
            "split": self.split_by,
            "put into several splits": self.put_into_several,
            "heavy atoms": _spread(self.heavy_atoms),
            "known": self.known,
            "text": self.text,
            "chunks of an interrupted run": self.resumed,
            "read": f"{self.seconds:.1f} s, {self.rows_per_second:,.0f} rows/s",
        }

    def count_rows(self, read: Mapping[str, int], molecules: int, refused: pa.Table) -> None:
        """Fill what is about rows: how many each source had, and REFUSED_ROWS, duplicates too."""
        reasons = _counts(refused["reason"])
        self.duplicates = reasons.pop(str(Code.DUPLICATE_MOLECULE), 0)
        self.refused = dict(sorted(reasons.items()))
        self.rows, self.molecules = sum(read.values()), molecules
        strict = sum(reasons.values())
        self.rejected_share = strict / max(1, self.rows - self.duplicates)
        source_R = refused["source"].to_numpy()
        again = compute.equal(refused["reason"], str(Code.DUPLICATE_MOLECULE)).to_numpy()
        for place, (name, rows) in enumerate(read.items()):
            here_R = source_R == place
            twice, out = int((here_R & again).sum()), int(here_R.sum())
            self.sources[name] = SourceCounts(rows, rows - out, twice, out - twice)

    def count_molecules(self, table: pa.Table, properties: Sequence[str]) -> None:
        """Fill what is about molecules, from the dataset's table."""
        self.scaffolds = compute.count_distinct(table["study_id"]).as_py()
        for split in SPLITS:
            rows = table.filter(compute.equal(table["split"], split))
            scaffolds = compute.count_distinct(rows["study_id"]).as_py()
            self.splits[split] = {"items": rows.num_rows, "scaffolds": scaffolds}
        self.without_split = table["split"].null_count
        self.known = {name: table.num_rows - table[name].null_count for name in properties}
        self.text = tuple(name for name in properties if pa.types.is_string(table[name].type))
        spread = np.quantile(table["heavy_atoms"].to_numpy(), [0, 0.25, 0.5, 0.75, 1])
        self.heavy_atoms = tuple(spread.tolist())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in summary.json."""
        return asdict(self)


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {one["values"]: one["counts"] for one in compute.value_counts(column).to_pylist()}


def _spread(quantiles: tuple[float, ...]) -> str:
    if not quantiles:
        return ""
    low, quarter, median, three, high = quantiles
    return f"median {median:g} ({quarter:g}–{three:g}; {low:g} to {high:g})"
