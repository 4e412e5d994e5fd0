"""Which files are complete, told from chunk files alone."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medray import storage
from medray.errors import MedrayError
from medray.score import chunks
from medray.score.stages import SCORED

NOW = datetime(2024, 5, 1, tzinfo=UTC)


def _rows(file: str, frames: list[int], of: int, targets: tuple[str, ...] = ("a", "b")):
    common = {
        "file_id": file,
        "size": 10,
        "mtime_ns": 20,
        "prediction_time": NOW,
        "status": "ok",
        "package": "p",
        "run": "",
        "file_items": of,
    }
    return [
        common | {"item_id": f"{file}#{frame}", "frame": frame, "target": target, "score": 0.5}
        for frame in frames
        for target in targets
    ]


def _chunk(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    table = pa.Table.from_pylist(rows, schema=SCORED)
    storage.write_parquet(str(folder / f"{name}.parquet"), table)


def _key(file: str) -> tuple[str, int, int]:
    return file, 10, 20


def test_a_file_spread_over_chunks_and_written_twice_stands_once(tmp_path: Path):
    _chunk(tmp_path, "1", _rows("f", [0, 1], 3) + _rows("g", [0], 1))
    _chunk(tmp_path, "2", _rows("f", [1, 2], 3))
    table = chunks.collect(str(tmp_path), {_key("f"), _key("g")})
    found = sorted(zip(table["item_id"].to_pylist(), table["target"].to_pylist(), strict=True))
    assert found == [(item, t) for item in ("f#0", "f#1", "f#2", "g#0") for t in ("a", "b")]


@pytest.mark.parametrize("frames", [[], [0], [0, 2]])
def test_nothing_is_collected_of_a_file_that_is_not_whole(tmp_path: Path, frames: list[int]):
    _chunk(tmp_path, "1", _rows("f", frames, 3) + _rows("g", [0], 1))
    with pytest.raises(MedrayError, match="1 of 2 files were not scored whole"):
        chunks.collect(str(tmp_path), {_key("f"), _key("g")})


def test_rows_that_disagree_on_a_file_are_not_trusted(tmp_path: Path):
    """Read well once and not at all the second time: neither answer may be published."""
    _chunk(tmp_path, "1", _rows("f", [0, 1], 3))
    refused = _rows("f", [0], 1, ("a",))[0]
    refused |= {"item_id": "f", "frame": None, "target": None, "score": None}
    _chunk(tmp_path, "2", [refused | {"status": "rejected", "reason": "unreadable"}])
    assert chunks.clean(str(tmp_path), {_key("f")}) == set()
    assert list(tmp_path.iterdir()) == []


def test_clean_keeps_the_whole_and_wanted_and_nothing_else(tmp_path: Path):
    _chunk(tmp_path, "1", _rows("f", [0], 2) + _rows("g", [0], 1))
    _chunk(tmp_path, "2", _rows("old", [0], 1))
    (tmp_path / "plan").mkdir()
    _chunk(tmp_path / "plan", "plan", _rows("f", [1], 2))  # not a chunk
    assert chunks.clean(str(tmp_path), {_key("f"), _key("g")}) == {_key("g")}
    assert sorted(p.name for p in tmp_path.glob("*.parquet")) == ["1.parquet"]
    table = chunks.collect(str(tmp_path), {_key("g")})
    assert table["item_id"].to_pylist() == ["g#0", "g#0"]


def test_an_empty_folder_is_an_empty_table(tmp_path: Path):
    assert chunks.clean(str(tmp_path / "none"), set()) == set()
    assert chunks.collect(str(tmp_path / "none"), set()).num_rows == 0


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=5),
    cuts=st.integers(1, 6),
    again=st.sets(st.integers(0, 5)),
)
def test_however_rows_are_cut_each_item_stands_once(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], cuts: int, again: set[int]
):
    folder = tmp_path_factory.mktemp("cut")
    rows = [r for n, count in enumerate(counts) for r in _rows(f"f{n}", [*range(count)], count)]
    pieces = [rows[at : at + cuts * 2] for at in range(0, len(rows), cuts * 2)]
    for number, piece in enumerate(pieces):
        _chunk(folder, f"c{number}", piece)
        if number in again:
            _chunk(folder, f"again{number}", piece)
    wanted = {_key(f"f{n}") for n in range(len(counts))}
    assert chunks.clean(str(folder), wanted) == wanted
    table = chunks.collect(str(folder), wanted)
    assert table.num_rows == 2 * sum(counts)
    assert len(set(table["item_id"].to_pylist())) == sum(counts)
