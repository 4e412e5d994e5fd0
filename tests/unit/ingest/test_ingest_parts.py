"""Work that is killed at any moment, and goes on."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from medray import storage
from medray.errors import MedrayError
from medray.ingest import parts

SCHEMA = pa.schema(parts.KEY_FIELDS)


def rows(count: int, mtime_ns: int = 0) -> list[parts.Row]:
    return [{"file_id": f"f{i:03d}", "size": i, "mtime_ns": mtime_ns} for i in range(count)]


@contextmanager
def counting(log: str, fail_on: str) -> Generator[parts.Work]:
    def work(todo: list[parts.Row], base: str) -> pa.Table:
        with Path(log).open("a") as file:
            file.write("".join(f"{row['file_id']}\n" for row in todo))
        storage.write_atomic(base + ".data", b"x")
        if any(row["file_id"] == fail_on for row in todo):
            raise RuntimeError("power cut")
        return pa.Table.from_pylist([dict(row) for row in todo], schema=SCHEMA)

    yield work


def finish(folder: Path, todo: list[parts.Row], fail_on: str = "", **more: Any) -> parts.Finished:
    work = partial(counting, str(folder.parent / "log"), fail_on)
    arguments: dict[str, Any] = {"rows_per_part": 4, **more}
    return parts.finish(todo, work, SCHEMA, folder=str(folder), **arguments)


def worked_on(folder: Path) -> list[str]:
    return (folder.parent / "log").read_text().split()


def test_every_row_once_and_progress_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    done = finish(tmp_path / "s", rows(10), progress=lambda a, b: told.append((a, b)))
    assert told == [(0, 10), (4, 10), (8, 10), (10, 10)]
    assert sorted(done.receipts["file_id"].to_pylist()) == [f"f{i:03d}" for i in range(10)]
    assert all(storage.exists(base + ".data") for base in done.bases)


def test_finished_parts_are_not_done_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        finish(tmp_path / "s", rows(12), fail_on="f009")
    done = finish(tmp_path / "s", rows(12))
    assert done.resumed == 8
    assert done.receipts.num_rows == 12
    again = [
        name for name in worked_on(tmp_path / "s") if worked_on(tmp_path / "s").count(name) > 1
    ]
    assert sorted(set(again)) == ["f008", "f009", "f010", "f011"]


def test_a_part_of_a_file_that_changed_is_done_again(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="power cut"):
        finish(tmp_path / "s", rows(12), fail_on="f009")
    changed = [row | {"mtime_ns": 9} if row["file_id"] == "f001" else row for row in rows(12)]
    done = finish(tmp_path / "s", changed)
    assert done.resumed == 4
    assert {row["mtime_ns"] for row in done.receipts.to_pylist() if row["file_id"] == "f001"} == {9}


def test_parts_are_cut_by_cost_too(tmp_path: Path) -> None:
    done = finish(
        tmp_path / "s", rows(8), rows_per_part=100, cost=lambda row: row["size"], cost_per_part=9
    )
    assert len(done.bases) == 4  # costs 0 1 2 3 | 4 5 | 6 | 7
    assert done.receipts.num_rows == 8


def test_a_receipt_that_lost_a_row_stops_everything(tmp_path: Path) -> None:
    @contextmanager
    def losing() -> Generator[parts.Work]:
        yield lambda todo, base: pa.Table.from_pylist(todo[1:], schema=SCHEMA)

    with pytest.raises(MedrayError, match="3 files went in and 2 came out"):
        parts.finish(rows(3), losing, SCHEMA, folder=str(tmp_path), rows_per_part=4)
