"""Atomic files and atomic publication."""

from pathlib import Path

import pyarrow as pa
import pytest

from medray import storage
from medray.errors import UsageError

SCHEMA = pa.schema([pa.field("item_id", pa.string(), nullable=False), ("pixels", pa.binary())])


def part(folder: Path, name: str, ids: list[str]) -> str:
    uri = str(folder / name)
    rows = [{"item_id": i, "pixels": i.encode() * 50} for i in ids]
    storage.write_parquet(uri, pa.Table.from_pylist(rows, schema=SCHEMA), no_dictionary=("pixels",))
    return uri


def ids(table: Path) -> list[str]:
    return sorted(storage.read_table(str(table), ["item_id"])["item_id"].to_pylist())


def test_a_failed_write_leaves_the_old_bytes_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a" / "b.json"
    storage.write_atomic(str(target), b"old")

    def fail(self: Path, data: bytes) -> int:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        storage.write_atomic(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in target.parent.iterdir()] == ["b.json"]


@pytest.mark.parametrize("uri", ["ftp://host/x", "http://host/x"])
def test_an_unknown_scheme_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="no storage is known"):
        storage.filesystem(uri)


def test_a_table_in_a_folder_with_odd_characters(tmp_path: Path) -> None:
    table = tmp_path / "a b ü#?" / "t"
    one = part(table, "part-1.parquet", ["a", "b"])
    assert not storage.table_exists(str(table))
    assert storage.publish(str(table), SCHEMA, [one], "run", 1)
    assert storage.table_files(str(table)) == [one]
    assert ids(table) == ["a", "b"]


def test_a_folder_that_deltalake_would_misread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="percent code"):
        storage.table_exists(str(tmp_path / "a%20b"))


def test_publishing_twice_changes_nothing(tmp_path: Path) -> None:
    table = tmp_path / "t"
    one = part(table, "part-1.parquet", ["a", "b"])
    assert storage.publish(str(table), SCHEMA, [one], "run-1", 1)
    assert not storage.publish(str(table), SCHEMA, [one], "run-1", 1)
    two = part(table, "part-2.parquet", ["c"])
    assert storage.publish(str(table), SCHEMA, [one, two], "run-2", 1)  # one is there already
    assert ids(table) == ["a", "b", "c"]


def test_files_come_and_go_in_one_transaction(tmp_path: Path) -> None:
    table = tmp_path / "t"
    one, two = part(table, "1.parquet", ["a"]), part(table, "2.parquet", ["b"])
    storage.publish(str(table), SCHEMA, [one], "run-1", 1)
    storage.publish(str(table), SCHEMA, [two], "run-2", 1, removes=[one])
    assert ids(table) == ["b"]
    assert storage.open_table(str(table)).version() == 1


def test_overwrite_keeps_only_the_new_files(tmp_path: Path) -> None:
    table = tmp_path / "t"
    one, two = part(table, "1.parquet", ["a"]), part(table, "2.parquet", ["b"])
    storage.publish(str(table), SCHEMA, [one], "run-1", 1)
    storage.publish(str(table), SCHEMA, [two], "run-2", 1, mode="overwrite")
    assert ids(table) == ["b"]


def test_an_unpublished_file_is_not_part_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "t"
    storage.publish(str(table), SCHEMA, [part(table, "1.parquet", ["a"])], "run-1", 1)
    part(table, "2.parquet", ["b"])
    assert ids(table) == ["a"]


def test_a_replaced_table_may_have_other_columns(tmp_path: Path) -> None:
    uri = str(tmp_path / "labels")
    assert storage.replace_table(uri, pa.table({"a": [1, 2]}), "r1", 1)
    assert not storage.replace_table(uri, pa.table({"a": [9]}), "r1", 1)
    assert storage.replace_table(uri, pa.table({"b": ["x"], "c": [True]}), "r2", 1)
    assert storage.read_table(uri).to_pylist() == [{"b": "x", "c": True}]


def test_moving_twice_is_moving_once(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "deep" / "t"
    source.write_bytes(b"x")
    for _ in range(2):
        storage.move(str(source), str(target))
    assert target.read_bytes() == b"x"
    assert not source.exists()


def test_listing_and_removing(tmp_path: Path) -> None:
    assert storage.list_files(str(tmp_path / "none")) == []
    storage.remove_tree(str(tmp_path / "none"))
    storage.write_atomic(str(tmp_path / "x" / "y" / "z"), b"1")
    assert storage.list_files(str(tmp_path / "x")) == [str(tmp_path / "x" / "y" / "z")]
    storage.remove_tree(str(tmp_path / "x"))
    assert not storage.exists(str(tmp_path / "x"))


def test_http_is_allowed_only_for_an_endpoint_that_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert "AWS_ALLOW_HTTP" not in storage.storage_options("s3://b/k")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.hospital")
    assert storage.storage_options("s3://b/k")["AWS_ALLOW_HTTP"] == "false"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    assert storage.storage_options("s3://b/k")["AWS_ALLOW_HTTP"] == "true"
    assert storage.storage_options("/local") == {}
