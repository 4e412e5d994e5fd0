"""Which of all that was drawn are the molecules asked for, and what became of the rest.

Pure functions of the chunks in their order: the first `count` distinct molecules that nothing
leaves out, whoever drew them and in however many rounds. Shapes: N rows of all chunks.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from medray.errors import UsageError
from medray.generate.asked import Asked
from medray.generate.draws import item_id
from medray.schema import GENERATED

compute: Any = pc

# Of these less is better.
_LOWEST = frozenset({"SA", "similarity"})


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the draws.

    drawn     texts; valid: of these RDKit reads; refused: of the valid, no small molecule: why.
    distinct  molecules in standard form; novel: of these not in `train` (None: not known).
    alerts    of the distinct, those that a medicinal chemistry filter has something against.
    alike     of the distinct, left out as too similar to `train`.
    kept      distinct molecules that nothing leaves out.
    """

    drawn: int
    valid: int
    refused: dict[str, int]
    distinct: int
    novel: int | None
    alerts: int
    alike: int
    kept: int


@dataclass(frozen=True, slots=True)
class Picked:
    """Distinct molecules that nothing leaves out, in the order they were drawn; and the counts."""

    rows: pa.Table
    counts: Counts


def pick(rows: pa.Table, receipts: pa.Table, *, filters: bool) -> Picked:
    """Take doubles out. `rows`: of all chunks in order; `receipts`: theirs, in any order."""
    first = rows.take(pa.array(_first_of_each(rows["smiles"])))
    alerts_N = first["alert"].is_valid().to_numpy()
    kept_N = first["QED"].is_valid().to_numpy()  # what is left out is not described
    refused = Counter[str]()
    for each in receipts["refused"].to_pylist():
        refused.update(dict(each or []))
    counts = Counts(
        drawn=sum(receipts["drawn"].to_pylist()),
        valid=sum(receipts["valid"].to_pylist()),
        refused=dict(sorted(refused.items())),
        distinct=first.num_rows,
        novel=None if first["novel"].null_count else int(compute.sum(first["novel"]).as_py() or 0),
        alerts=int(alerts_N.sum()),
        alike=int((~kept_N & ~(alerts_N & filters)).sum()),
        kept=int(kept_N.sum()),
    )
    return Picked(first.filter(pa.array(kept_N)), counts)


def _first_of_each(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Rows at which a value stands for the first time, in order."""
    codes = compute.dictionary_encode(column.combine_chunks()).indices.to_numpy()
    return np.sort(np.unique(codes, return_index=True)[1])


def require_column(asked: Asked, columns: tuple[str, ...]) -> None:
    """Raise UsageError when there is no such column to rank by."""
    names = [*GENERATED.names[4:8], "similarity", *columns]
    if asked.by not in names:
        raise UsageError(
            f"molecules cannot be ranked by {asked.by!r}", remedy=f"one of: {', '.join(names)}"
        )


def lowest_first(asked: Asked, risks: tuple[str, ...]) -> bool:
    """Whether the least is best. `risks`: columns that say how likely something unwanted is."""
    return asked.by in {*_LOWEST, *risks} if asked.lowest is None else asked.lowest


def ranked(picked: Picked, asked: Asked, columns: tuple[str, ...], *, lowest: bool) -> pa.Table:
    """The first `count` molecules as rows of GENERATED and `columns`, the best first.

    Of equals the one drawn first is first; what has no value comes last.
    """
    rows = picked.rows.slice(0, asked.count)
    keys = [
        (asked.by, "ascending" if lowest else "descending"),
        ("chunk", "ascending"),
        ("place", "ascending"),
    ]
    rows = rows.sort_by(keys)
    ids = [item_id(one) for one in rows["smiles"].to_pylist()]
    rows = rows.append_column("item_id", pa.array(ids, pa.string()))
    rows = rows.append_column("rank", pa.array(range(1, rows.num_rows + 1), pa.int32()))
    schema = pa.schema([*GENERATED, *(pa.field(name, pa.float64()) for name in columns)])
    return rows.select(schema.names).cast(schema)
