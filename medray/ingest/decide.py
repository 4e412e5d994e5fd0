"""Which files become items, decided on the driver between header and pixels.

Everything here can be decided anew from the inventory, so that another label table or another
`select` needs no file to be read again unless it becomes wanted for the first time.
"""

from collections.abc import Sequence

from medray.errors import Code
from medray.ingest.join import LabelTable, Match, match
from medray.ingest.parts import Row
from medray.items import status_of
from medray.spec.models import SelectSpec

_DECIDED_HERE = frozenset({Code.NOT_SELECTED, Code.DUPLICATE_INSTANCE, Code.NO_LABEL})


def decide(
    rows: Sequence[Row], select: SelectSpec, tables: Sequence[LabelTable]
) -> tuple[list[Row], list[Match]]:
    """Set status and reason of every row of FILES (sorted by path) that a header does not decide.

    Returns the rows that are wanted and, per table, their matches. A row with `items` 0 among
    them is still to be decoded; a row that is no longer wanted has its `items` set to 0.
    """
    wanted = [row for row in rows if row["status"] == "ok" or row["reason"] in _DECIDED_HERE]
    for row in wanted:
        row.update(status="ok", reason=None, detail=None)
    wanted = _selected(wanted, select)
    wanted = _first_of_each_instance(wanted)
    matches = [match(table, wanted) for table in tables]
    lacking: set[int] = set()
    for table, found in zip(tables, matches, strict=True):
        if table.spec.required:
            lacking |= {place for place, row in enumerate(found.rows) if row < 0}
    for place in lacking:
        _refuse(wanted[place], Code.NO_LABEL, "no row of a required table")
    keep = [place for place in range(len(wanted)) if place not in lacking]
    for found in matches:
        found.rows = [found.rows[place] for place in keep]
    return [wanted[place] for place in keep], matches


def _selected(rows: Sequence[Row], select: SelectSpec) -> list[Row]:
    kept: list[Row] = []
    for row in rows:
        if select.modality is not None and row["modality"] not in select.modality:
            _refuse(row, Code.NOT_SELECTED, "modality")
        elif select.sop_class_uid is not None and row["sop_class_uid"] not in select.sop_class_uid:
            _refuse(row, Code.NOT_SELECTED, "SOP class")
        else:
            kept.append(row)
    return kept


def _first_of_each_instance(rows: Sequence[Row]) -> list[Row]:
    """Keep one file per SOP Instance UID: the one already decoded, else the first by path."""
    taken: dict[str, Row] = {}
    for row in rows:
        uid = row["sop_instance_uid"]
        if uid and (uid not in taken or (row["items"] and not taken[uid]["items"])):
            taken[uid] = row
    kept: list[Row] = []
    for row in rows:
        uid = row["sop_instance_uid"]
        if uid and taken[uid] is not row:
            _refuse(row, Code.DUPLICATE_INSTANCE, "another file holds this SOP instance")
        else:
            kept.append(row)
    return kept


def _refuse(row: Row, code: Code, detail: str) -> None:
    row.update(status=status_of(code), reason=str(code), detail=detail, items=0)
