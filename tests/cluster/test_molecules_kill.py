"""Ingest of molecules killed at every kind of moment, and run again: the same to the bit."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from medray import storage
from medray.dataset import open_any
from tests.cluster.killing import Once, runner

CHAINS = [f"{'C' * n}O" for n in range(1, 61)]


@pytest.fixture
def once(tmp_path: Path) -> Iterator[Once]:
    """A run, killed after its Nth write."""
    with runner("molecules_once", tmp_path) as run:
        yield run


def write(root: Path, more: tuple[str, ...] = ()) -> None:
    (root / "lines").mkdir(exist_ok=True)
    for number in range(2):
        lines = [f"{smiles} {number}\n" for smiles in CHAINS[number::4]]
        (root / f"lines/{number}.smi").write_text("".join([*lines, "\n", "C1C broken\n"]))
    rows = [f"{smiles},{len(smiles)}\n" for smiles in (*CHAINS[2::4], *CHAINS[3::4], *more)]
    (root / "table.csv").write_text("".join(["smiles,y\n", *rows, "[Pt]C,\n", f"{CHAINS[2]},7\n"]))


def state(root: Path) -> tuple[str, str, list[str]]:
    """Fingerprint, the table, and the refused rows."""
    output = str(root / "out")
    dataset = open_any(output)
    refused = storage.read_table(f"{output}/inventory/refused").to_pylist()
    return dataset.fingerprint(), str(dataset.labels().to_pylist()), list(map(str, refused))


@pytest.mark.slow
def test_killed_after_any_write_and_run_again(tmp_path: Path, once: Once) -> None:
    write(tmp_path)
    writes = once()
    count, publication = len(writes), writes.index("remove_tree")
    expected = state(tmp_path)
    assert len(expected[2]) == 6
    moments = {
        "a chunk laid down": 1,
        "chunks in standard form": publication - 4,
        "all of them": publication,
        "no dataset": publication + 1,
        "molecules published": writes.index("replace_table") + 1,
        "all but the last word": count - 1,
    }
    for name, last in moments.items():
        shutil.rmtree(tmp_path / "out")
        once(last)
        again = once()
        assert state(tmp_path) == expected, name
        assert not (tmp_path / "out/.staging").exists(), name
        if last <= publication:  # but for the part that it died in, nothing is done twice
            assert len(again) <= count - last + 4, name


@pytest.mark.slow
def test_killed_between_tables_and_then_the_sources_change(tmp_path: Path, once: Once) -> None:
    write(tmp_path)
    writes = once()
    old = state(tmp_path)
    write(tmp_path, ("c1ccccc1",))
    once(writes.index("replace_table") + 1)
    write(tmp_path)  # again what was published before
    once()
    assert state(tmp_path) == old
