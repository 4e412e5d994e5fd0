"""Finished parts → the next version of `images`, in one transaction.

Planning reads and checks, and changes nothing. Publishing can be killed
between any two steps and done again: what `images` must hold follows from the inventory
alone, not from what an earlier attempt did.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from medray import storage
from medray.errors import MedrayError
from medray.ingest.decode import SUFFIX
from medray.ingest.output import Output
from medray.ingest.parts import Row


@dataclass(frozen=True, slots=True)
class ImagesPlan:
    """The next version of `images`.

    moves   staged part → its place in the table; done already where only the place is there
    stale   files of the table that hold items of files that changed, left or are redone
    items   every item's row without its pixels, in no fixed order
    """

    schema: pa.Schema
    moves: dict[str, str]
    stale: list[str]
    keep: set[str]  # file_ids whose rows of older files stay
    items: pa.Table


def plan_images(
    output: Output, schema: pa.Schema, bases: Sequence[str], files: Sequence[Row], redone: set[str]
) -> ImagesPlan:
    """Plan the next version of `images`: items of `files` (rows of FILES, status ok), no others.

    `redone`: file_ids whose items are in the parts `bases`. Raises MedrayError when a file's
    items are not what the inventory says.
    """
    there = set(storage.list_files(output.staging)) | set(storage.list_files(output.images))
    moves: dict[str, str] = {}
    for base in bases:
        place = storage.join(output.images, f"part-{base.rsplit('/', 1)[-1]}.parquet")
        if base + SUFFIX in there or place in there:
            moves[base + SUFFIX] = place
    old = storage.table_files(output.images) if storage.table_exists(output.images) else []
    old = [uri for uri in old if uri not in set(moves.values())]
    keep = {row["file_id"] for row in files} - redone
    columns = [name for name in schema.names if name != "pixels"]
    stale: list[str] = []
    tables: list[pa.Table] = []
    for uri, table in zip(old, _read(old, schema, columns), strict=True):
        kept = _only(table, keep)
        if kept.num_rows < table.num_rows:
            stale.append(uri)
        tables.append(kept)
    new = [part if part in there else place for part, place in moves.items()]
    tables.extend(_read(new, schema, columns))
    items = pa.concat_tables([_without_pixels(schema).empty_table(), *tables])
    _require_items(items, files)
    return ImagesPlan(schema, moves, stale, keep, items)


def _read(uris: Sequence[str], schema: pa.Schema, columns: list[str]) -> list[pa.Table]:
    with ThreadPoolExecutor(16) as pool:  # waiting, where the storage is far away
        return list(pool.map(lambda uri: storage.read_parquet([uri], schema, columns), uris))


def _without_pixels(schema: pa.Schema) -> pa.Schema:
    return pa.schema([each for each in schema if each.name != "pixels"])


def _only(table: pa.Table, file_ids: set[str]) -> pa.Table:
    mask = [file_id in file_ids for file_id in table["file_id"].to_pylist()]
    return table if all(mask) else table.filter(pa.array(mask, pa.bool_()))


def _require_items(items: pa.Table, files: Sequence[Row]) -> None:
    found = Counter(items["file_id"].to_pylist())
    expected = {row["file_id"]: row["items"] for row in files}
    if dict(found) != expected or len(set(items["item_id"].to_pylist())) != items.num_rows:
        raise MedrayError(
            f"{items.num_rows} items were found where {sum(expected.values())} are due: "
            "nothing was published",
            remedy="this is a defect of medray; ingest into a new output and report it",
        )


def publish_images(output: Output, plan: ImagesPlan, run: str) -> None:
    """Move the parts into the table's folder and make them, and only them, visible at once."""
    parts = list(plan.moves.values())
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(storage.move, plan.moves, parts))
        parts.extend(uri for uri in pool.map(lambda uri: _rewrite(uri, plan), plan.stale) if uri)
    storage.publish(output.images, plan.schema, parts, run, 1, removes=plan.stale)


def _rewrite(uri: str, plan: ImagesPlan) -> str | None:
    """Write a file of the table again without the rows that leave; None when none stays."""
    kept = _only(storage.read_parquet([uri], plan.schema), plan.keep)
    if not kept.num_rows:
        return None
    names = "\n".join([uri, *kept["item_id"].to_pylist()])
    digest = hashlib.sha256(names.encode()).hexdigest()[:24]
    target = storage.join(uri.rsplit("/", 1)[0], f"part-{digest}.parquet")
    storage.write_parquet(target, kept, no_dictionary=("pixels",))
    return target
