"""Ingest killed at every kind of moment, and run again: each item exactly once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scans import add_refused, write_archive

from medray import storage
from medray.dataset import open_dataset

SCRIPT = Path(__file__).with_name("ingest_once.py")


def once(root: Path, last: int = 0) -> list[str]:
    """Names of the writes of a whole run; [] when it was killed, as asked, after its Nth."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(root), str(last)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == (-9 if last else 0), done.stderr
    return done.stdout.split()


def build(root: Path) -> Path:
    write_archive(root / "archive", 12)
    add_refused(root / "archive")
    return root


def state(root: Path) -> tuple[str, list[tuple[str, str, str | None, int]]]:
    items = storage.read_table(str(root / "out/dataset/images"), ["item_id"])["item_id"]
    assert len(set(items.to_pylist())) == len(items)
    names = ("path", "status", "reason", "items")
    files = storage.read_table(str(root / "out/inventory"), list(names)).to_pylist()
    return (
        open_dataset(str(root / "out")).fingerprint(),
        sorted(tuple(row[name] for name in names) for row in files),
    )


@pytest.mark.slow
def test_killed_after_any_write_and_run_again(tmp_path: Path) -> None:
    root = build(tmp_path / "whole")
    writes = once(root)
    expected = state(root)
    first_move, publication = writes.index("move"), writes.index("publish")
    moments = {
        "the first receipt": 1,
        "half of the pixels": first_move // 2,
        "a part moved into the table": first_move + 1,
        "images published": publication + 1,
        "labels published": writes.index("replace_table") + 1,
        "all but the last words": len(writes) - 2,
    }
    for name, last in moments.items():
        shutil.rmtree(root / "out")
        once(root, last)
        once(root)
        assert state(root) == expected, name
        assert not (root / "out/.staging").exists(), name


@pytest.mark.slow
def test_killed_between_tables_and_then_the_archive_changes(tmp_path: Path) -> None:
    root = build(tmp_path / "whole")
    writes = once(root)
    shutil.rmtree(root / "out")
    once(root, writes.index("publish") + 1)
    (root / "archive/ward1/scan00001.dcm").unlink()
    write_archive(root / "archive", 1, first=100)
    once(root)
    after = state(root)
    shutil.rmtree(root / "out")
    once(root)
    assert state(root) == after


@pytest.mark.slow
def test_killed_three_times_in_a_row(tmp_path: Path) -> None:
    root = build(tmp_path / "whole")
    once(root)
    expected = state(root)
    shutil.rmtree(root / "out")
    for _ in range(3):
        once(root, 3)
    once(root)
    assert state(root) == expected
