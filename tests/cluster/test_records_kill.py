"""Ingest of records killed at every kind of moment, and run again: the same to the bit."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from medray import storage
from medray.dataset import open_any
from tests.cluster.killing import Once, runner
from tests.timelines import write_cohort


@pytest.fixture
def once(tmp_path: Path) -> Iterator[Once]:
    """A run, killed after its Nth write."""
    with runner("records_once", tmp_path) as run:
        yield run


def state(root: Path) -> tuple[str, list[str], list[str]]:
    """Fingerprint, the bytes of every published file of events, and the refused rows."""
    output = str(root / "out")
    uris = storage.table_files(f"{output}/dataset/events")
    hashes = [hashlib.sha256(Path(uri).read_bytes()).hexdigest() for uri in uris]
    refused = storage.read_table(f"{output}/inventory/refused").to_pylist()
    return open_any(output).fingerprint(), hashes, sorted(map(str, refused))


@pytest.mark.slow
def test_killed_after_any_write_and_run_again(tmp_path: Path, once: Once) -> None:
    write_cohort(tmp_path, 10)
    with (tmp_path / "events/part0.csv").open("a") as file:
        file.write("p000,noon,HR,80\np000,1,HR,1e400\n")
    writes = once()
    expected = state(tmp_path)
    assert len(expected[2]) == 2
    publication = writes.index("publish")
    moments = {
        "a heap laid down": 1,
        "a shard gathered": publication - 6,
        "a file moved into the table": publication,
        "events published": publication + 1,
        "facts published": writes.index("replace_table") + 1,
        "all but the last words": len(writes) - 1,
    }
    for name, last in moments.items():
        shutil.rmtree(tmp_path / "out")
        once(last)
        once()
        assert state(tmp_path) == expected, name
        assert not (tmp_path / "out/.staging").exists(), name


@pytest.mark.slow
def test_killed_between_tables_and_then_the_sources_change(tmp_path: Path, once: Once) -> None:
    write_cohort(tmp_path, 10)
    writes = once()
    old = state(tmp_path)
    extra = tmp_path / "events/part2.csv"
    extra.write_text("stay,hours,code,value\np001,30,Lactate,9\n")
    once(writes.index("publish") + 1)
    extra.unlink()  # they are again what was published before
    once()
    assert state(tmp_path) == old
