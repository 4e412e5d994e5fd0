"""`ingest` of molecules: small real files → structures, splits and counts that hold."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from medray import api, storage
from medray.dataset import MoleculesDataset, open_any
from medray.errors import DataError, LeakError, OutputConflictError, UsageError
from medray.ingest import MoleculesSummary
from medray.spec.models import SPLITS, RunSpec

CHAINS = [f"{'C' * n}O" for n in range(1, 61)]
RINGS = [f"{'C' * n}c1ccncc1" for n in range(1, 21)] + [f"C1CCCCC1{'N' * n}" for n in (1, 2)]


def spec(root: Path, *sources: dict[str, Any], **changes: Any) -> RunSpec:
    molecules = {"sources": list(sources), "rows_per_task": 25, **changes.pop("molecules", {})}
    content = {"name": "m", "output": str(root / "out"), "molecules": molecules, **changes}
    return RunSpec.model_validate(content)


def ingest(root: Path, *sources: dict[str, Any], **changes: Any) -> MoleculesSummary:
    summary = api.ingest(spec(root, *sources, **changes))
    assert isinstance(summary, MoleculesSummary)
    return summary


def opened(root: Path) -> MoleculesDataset:
    dataset = open_any(str(root / "out"))
    assert isinstance(dataset, MoleculesDataset)
    return dataset


def by_smiles(root: Path) -> dict[str, dict[str, Any]]:
    return {row["smiles"]: row for row in opened(root).labels().to_pylist()}


def refused(root: Path) -> list[tuple[Any, ...]]:
    rows = storage.read_table(str(root / "out/inventory/refused")).to_pylist()
    return [tuple(row[name] for name in ("source", "file", "row", "reason")) for row in rows]


def csv(path: Path, *lines: str) -> dict[str, Any]:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"path": str(path)}


def tree(folder: Path) -> dict[str, int]:
    return {str(f): f.stat().st_mtime_ns for f in folder.rglob("*") if f.is_file()}


def test_every_row_is_a_molecule_a_duplicate_or_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "smi").mkdir()
    (tmp_path / "smi/a.smi").write_bytes(b"CCO a\n\nC1CC b\r\n[Pt](Cl)(Cl)(N)N p\n")
    (tmp_path / "smi/b.smi").write_bytes(b"OCC again\nCC(=O)[O-].[Na+] salt\n" + b"C" * 500 + b"\n")
    table = csv(
        tmp_path / "t.csv", "smiles,y,kind", "CC(O)=O,1,acid", "CN(C)(C)C,2,x", "CCN,3,base"
    )
    summary = ingest(tmp_path, {"path": str(tmp_path / "smi"), "name": "lines"}, table)
    assert (summary.rows, summary.molecules, summary.duplicates, summary.files) == (10, 3, 2, 3)
    assert summary.refused == {
        "impossible_valence": 1,
        "invalid_structure": 1,
        "metal": 1,
        "no_structure": 1,
        "too_many_atoms": 1,
    }
    assert summary.rejected_share == pytest.approx(5 / 8)
    assert summary.over_limit
    assert refused(tmp_path) == [
        (0, 0, 1, "no_structure"),
        (0, 0, 2, "invalid_structure"),
        (0, 0, 3, "metal"),
        (0, 1, 0, "duplicate_molecule"),
        (0, 1, 2, "too_many_atoms"),
        (1, 0, 0, "duplicate_molecule"),
        (1, 0, 1, "impossible_valence"),
    ]
    found = by_smiles(tmp_path)
    assert set(found) == {"CCO", "CC(=O)O", "CCN"}
    acid = found["CC(=O)O"]
    assert (acid["source"], acid["y"], acid["kind"], acid["name"]) == ("lines", 1.0, "acid", "salt")
    assert (found["CCO"]["y"], found["CCN"]["name"]) == (None, None)
    assert (acid["scaffold"], acid["heavy_atoms"], acid["subject_id"]) == ("", 4, acid["item_id"])
    assert {one.rows for one in summary.sources.values()} == {7, 3}
    for one in summary.sources.values():
        assert one.rows == one.new + one.duplicates + one.refused
    assert (summary.known, summary.text) == ({"name": 2, "y": 2, "kind": 2}, ("name", "kind"))


def test_splits_are_the_same_on_every_machine_and_need_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDRAY_KEY_FILE", str(tmp_path / "absent/key"))
    molecules = csv(tmp_path / "a.csv", "smiles", *CHAINS, *RINGS)
    ingest(tmp_path, molecules)
    rows = opened(tmp_path).labels().to_pylist()
    assert not (tmp_path / "absent").exists()
    assert [row["split"] for row in rows] == [row["split_random"] for row in rows]
    assert {row["split_random"] for row in rows} == set(SPLITS)
    again = csv(tmp_path / "b.csv", "smiles", *reversed(RINGS), *reversed(CHAINS[5:]))
    ingest(tmp_path, again)
    moved = {row["smiles"]: row["split_random"] for row in rows}
    assert all(
        moved[row["smiles"]] == row["split"] for row in opened(tmp_path).labels().to_pylist()
    )
    ingest(tmp_path, again, split={"seed": 1})
    assert any(
        moved[row["smiles"]] != row["split"] for row in opened(tmp_path).labels().to_pylist()
    )


def test_scaffolds_stay_together_in_splits_and_folds(tmp_path: Path) -> None:
    rings = [f"{'C' * n}C1{'C' * m}N1" for n in range(1, 6) for m in range(1, 21)]
    molecules = csv(tmp_path / "a.csv", "smiles", *rings)
    ingest(tmp_path, molecules, split={"by": "scaffold"})
    dataset = opened(tmp_path)
    views = [dataset, *(dataset.fold(number, 4, 0.2) for number in range(4))]
    for view in views:
        pairs = {(row["scaffold"], row["split"]) for row in view.labels().to_pylist()}
        assert len(pairs) == 20
        assert {"train", "held_out"} < {split for _, split in pairs} | {"tuning"}
    held = [view.rows("held_out")["item_id"].to_pylist() for view in views[1:]]
    assert sorted(one for fold in held for one in fold) == dataset.labels()["item_id"].to_pylist()


def test_sources_columns_and_what_is_left(tmp_path: Path) -> None:
    a = csv(tmp_path / "a.csv", "smiles,part,y", "CCO,train,1", "CCN,test,2", "CCC,,3")
    b = csv(tmp_path / "b.csv", "smiles,y", "CCCC,4", "CCCO,5") | {"split": "held_out"}
    summary = ingest(tmp_path, a, b, split={"column": "part", "fractions": {"train": 1}})
    assert {smiles: row["split"] for smiles, row in by_smiles(tmp_path).items()} == {
        "CCO": "train",
        "CCN": "held_out",
        "CCC": None,
        "CCCC": "held_out",
        "CCCO": "held_out",
    }
    assert "part" not in opened(tmp_path).labels().column_names
    assert summary.without_split == 1
    assert summary.split_by == "b by source; by the column part"
    with pytest.raises(UsageError, match="the source b has no column 'part'"):
        ingest(tmp_path, a, b | {"split": None}, split={"column": "part"})


def test_a_molecule_in_two_splits_fails_or_stays_in_held_out(tmp_path: Path) -> None:
    a = csv(tmp_path / "a.csv", "smiles,y", "CCO,1", "CCN,2") | {"split": "train"}
    b = csv(tmp_path / "b.csv", "smiles,y", "OCC.Cl,3", "CCCC,4") | {"split": "held_out"}
    with pytest.raises(LeakError, match="1 of 3 molecules"):
        ingest(tmp_path, a, b)
    assert not (tmp_path / "out/dataset").exists()
    summary = ingest(tmp_path, a, b, split={"identical_images": "drop"})
    row = by_smiles(tmp_path)["CCO"]
    assert (row["split"], row["source"], row["y"]) == ("held_out", "b", 2.0)
    assert summary.put_into_several == 1
    ingest(tmp_path, a, b, split={"identical_images": "drop"}, molecules={"duplicates": "first"})
    assert by_smiles(tmp_path)["CCO"]["y"] == 1.0


def test_goes_on_only_where_something_changed(tmp_path: Path) -> None:
    molecules = csv(tmp_path / "a.csv", "smiles", *CHAINS)
    ingest(tmp_path, molecules)
    before, fingerprint = tree(tmp_path / "out"), opened(tmp_path).fingerprint()
    again = ingest(tmp_path, molecules)
    assert (again.changed_dataset, again.molecules) == (False, len(CHAINS))
    assert tree(tmp_path / "out") == before
    with (tmp_path / "a.csv").open("a") as file:
        file.write("c1ccccc1\n")
    assert ingest(tmp_path, molecules).molecules == len(CHAINS) + 1
    csv(tmp_path / "a.csv", "smiles", *CHAINS)
    ingest(tmp_path, molecules)
    assert opened(tmp_path).fingerprint() == fingerprint
    assert not (tmp_path / "out/.staging").exists()
    counts = json.loads((tmp_path / "out/dataset/summary.json").read_bytes())
    assert counts["molecules"] == len(CHAINS)


def test_what_stops_it_before_anything_is_written(tmp_path: Path) -> None:
    good = csv(tmp_path / "a.csv", "smiles,y", "CCO,1")
    clash = csv(tmp_path / "b.csv", "smiles,Scaffold", "CCO,x")
    with pytest.raises(UsageError, match="medray uses itself: Scaffold"):
        ingest(tmp_path, clash)
    with pytest.raises(UsageError, match="the source a has no column 'z'"):
        ingest(tmp_path, good | {"columns": ["z"]})
    with pytest.raises(UsageError, match="two sources are called a"):
        ingest(tmp_path, good, good)
    with pytest.raises(DataError, match=r"became a molecule \(1 invalid_structure\)"):
        ingest(tmp_path, csv(tmp_path / "c.csv", "smiles", "C1"))
    with pytest.raises(DataError, match="they are empty"):
        ingest(tmp_path, csv(tmp_path / "d.csv", "smiles"))
    assert not (tmp_path / "out/dataset").exists()
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out/mine.txt").write_text("x")
    with pytest.raises(OutputConflictError):
        ingest(tmp_path, good)


def test_the_same_on_ray(
    tmp_path: Path, ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["smiles,y", *(f"{s},{n}" for n, s in enumerate([*CHAINS, *RINGS, *CHAINS[:9], "C1C"]))]
    molecules = csv(tmp_path / "a.csv", *lines)
    chunks = {"rows_per_task": 50}
    here = ingest(tmp_path, molecules, molecules=chunks)
    fingerprint, rows = opened(tmp_path).fingerprint(), refused(tmp_path)
    assert len(rows) == here.duplicates + sum(here.refused.values()) == 10
    monkeypatch.setenv("RAY_ADDRESS", "local")  # no longer in this process
    os.utime(tmp_path / "a.csv")
    there = ingest(tmp_path, molecules, molecules=chunks)
    assert there.changed_dataset
    assert (opened(tmp_path).fingerprint(), refused(tmp_path)) == (fingerprint, rows)


def test_command_line(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    csv(tmp_path / "a.csv", "smiles,y", "CCO,1", "c1ccccc1C,2", "C1CC,3")
    (tmp_path / "spec.yaml").write_text(
        f"name: m\noutput: {tmp_path}/out\nmolecules:\n  sources: [{{path: {tmp_path}/a.csv}}]\n"
    )
    code, said, warned = run("ingest", tmp_path / "spec.yaml")
    assert code == 3
    assert "2 molecules, 2 scaffolds from 3 rows of 1 files, 1 refused, 0 duplicates" in said
    assert "passed the spec's reject_limit" in warned
    code, said, _ = run("ingest", tmp_path / "spec.yaml", "--set", "molecules.reject_limit=0.5")
    assert code == 0
    code, said, _ = run("inspect", tmp_path / "out")
    assert "invalid_structure 1" in said
    assert "molecules" in said


def test_columns_of_the_table_are_the_schema(tmp_path: Path) -> None:
    from medray.schema import MOLECULES

    ingest(tmp_path, csv(tmp_path / "a.csv", "smiles,y,t", "CCO,1,x"))
    schema = storage.table_schema(str(tmp_path / "out/dataset/molecules"))
    assert schema.names == [*MOLECULES.names, "y", "t"]
    assert [schema.field(f.name).type for f in MOLECULES] == [f.type for f in MOLECULES]
    assert (schema.field("y").type, schema.field("t").type) == (pa.float64(), pa.string())
