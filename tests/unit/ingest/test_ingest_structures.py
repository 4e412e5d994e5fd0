"""Files of molecules: rows as text, whatever is wrong with them."""

import datetime
import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rdkit import Chem

from medray.errors import DataError, UsageError
from medray.ingest import structures
from medray.ingest.structures import PROPERTY
from medray.molecules.standard import from_block, standardise
from medray.spec.molecules import MoleculesSpec, StandardSpec

Rows = list[dict[str, Any]]


def read(*paths: Path, size: int = 1000, split: str | None = None, **settings: Any) -> Rows:
    source = {"path": [str(path) for path in paths], **settings}
    spec = MoleculesSpec.model_validate({"sources": [source]})
    rows: Rows = []
    for unit in structures.units_of(spec):
        structures.require_columns(unit, spec.sources[0])
        for table in structures.read(unit, spec.sources[0], split, size):
            assert table.num_rows <= size
            rows += table.to_pylist()
    return [{k.removeprefix(PROPERTY): v for k, v in row.items() if v is not None} for row in rows]


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "export.txt"])
def test_csv_whatever_stands_in_it(tmp_path: Path, name: str) -> None:
    lines = [
        b"\xef\xbb\xbf;smiles;Name;y",
        b"0;CCO;ethanol;1",
        b'1; CCN ;"a; ""quoted"" name\nover two lines";0.5',
        b"",
        b"3;CCC;propane",
        b"4;CCCl;na\xefve;NA",
        "5;CCBr;na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve;".encode(),
        b"6;;nothing;1",
        b";;;",
    ]
    rows = read(write(tmp_path / name, b"\r\n".join([*lines, b""])), size=2)
    assert rows == [
        {"row": 0, "structure": "CCO", "Name": "ethanol", "y": "1"},
        {"row": 1, "structure": "CCN", "Name": 'a; "quoted" name\nover two lines', "y": "0.5"},
        {"row": 2, "problem": "no_structure"},
        {"row": 3, "problem": "unreadable_row"},
        {"row": 4, "structure": "CCCl", "Name": "na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve"},
        {"row": 5, "structure": "CCBr", "Name": "na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve"},
        {"row": 6, "problem": "no_structure"},
        {"row": 7, "problem": "no_structure"},
    ]


def test_csv_of_one_column_counts_its_empty_lines(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.csv", b"SMILES\nC\n\n\nCC"), smiles="SMILES")
    assert [(row["row"], row.get("structure")) for row in rows] == [
        (0, "C"),
        (1, None),
        (2, None),
        (3, "CC"),
    ]


def test_a_field_without_end_is_one_row(tmp_path: Path) -> None:
    endless = b'x,"' + b"C" * 200_000
    rows = read(write(tmp_path / "a.csv", b"name,smiles\n" + endless + b"\ny,CC\n"))
    assert [row.get("problem", row.get("structure")) for row in rows] == ["unreadable_row", "CC"]


def test_columns_that_are_wanted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"smiles,a,b,part\nC,1,2,train\n")
    assert read(path, columns=["b"]) == [{"row": 0, "structure": "C", "b": "2"}]
    taken = read(path, columns=["b"], split="part")
    assert taken == [{"row": 0, "structure": "C", "b": "2", "part": "train"}]


def test_smi_lines(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfCCO\tethyl  alcohol\r\n\n  \nCCN\nC[C@H](N)O |o1:1| amino\xe9\nCC [x] |y\n"
    assert read(write(tmp_path / "a.smi.gz", data)) == [
        {"row": 0, "structure": "CCO", "name": "ethyl  alcohol"},
        {"row": 1, "problem": "no_structure"},
        {"row": 2, "problem": "no_structure"},
        {"row": 3, "structure": "CCN"},
        {
            "row": 4,
            "structure": "C[C@H](N)O |o1:1|",
            "name": "amino\N{LATIN SMALL LETTER E WITH ACUTE}",
        },
        {"row": 5, "structure": "CC", "name": "[x] |y"},
    ]


def test_sdf_is_what_rdkit_reads(tmp_path: Path) -> None:
    properties = {"IC50 (nM)": "12.5", "note": "two\nlines", "<x>": "1", "empty": ""}
    text = io.StringIO()
    with Chem.SDWriter(text) as writer:
        for number, smiles in enumerate(["C[C@H](N)C(=O)O", "c1ccncc1.Cl", "F/C=C/F"]):
            mol = Chem.MolFromSmiles(smiles)
            mol.SetProp("_Name", f"molecule {number}")
            for name, value in properties.items():
                mol.SetProp(name, value)
            writer.SetForceV3000(number == 1)
            writer.write(mol)
    data = text.getvalue().encode()
    rows = read(write(tmp_path / "a.sdf.gz", data), size=2)
    spec = StandardSpec()
    for row, mol in zip(rows, Chem.ForwardSDMolSupplier(io.BytesIO(data)), strict=True):
        assert from_block(row["structure"], spec) == standardise(mol, spec)
        assert row["name"] == mol.GetProp("_Name")
        there = {name: value for name, value in mol.GetPropsAsDict().items() if value != ""}
        assert {n: v for n, v in row.items() if n not in ("row", "structure", "name")} == {
            name: str(value) for name, value in there.items()
        }


def test_sdf_records_that_are_broken(tmp_path: Path) -> None:
    good = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    endless = "\n".join(["x"] * 100_001)
    records = [good, "\n", good.split("M  END")[0], endless, "junk\n> <a>\n1\n", good]
    data = "\n$$$$\n".join(records)  # the last without its end
    rows = read(write(tmp_path / "a.sdf", data.replace("\n", "\r\n").encode()))
    assert [row.get("problem") for row in rows] == [
        None,
        "no_structure",
        None,
        "unreadable_row",
        None,
        None,
    ]
    assert rows[4]["a"] == "1"
    assert rows[0]["structure"].split() == rows[5]["structure"].split() == good.split()


def test_parquet_says_numbers_exactly(tmp_path: Path) -> None:
    table = pa.table(
        {
            "structure": pa.array(["CC", None, " ", "CO"]).dictionary_encode(),
            "single": pa.array([0.1, 1, 2, float("nan")], pa.float32()),
            "double": pa.array([1e-300, 1, 2, 1 / 3], pa.float64()),
            "whole": pa.array([2**60, 1, 2, None], pa.int64()),
            "yes": pa.array([True, False, None, False]),
            "day": pa.array([datetime.date(2020, 1, 2), None, None, None]),
            "text": pa.array(["a", "b", "c", "d"]).dictionary_encode(),
            "vector": pa.array([[1.0], [2.0], [3.0], [4.0]]),
            "picture": pa.array([b"\xff", b"", b"", b""]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    rows = read(tmp_path / "a.parquet", smiles="structure")
    assert [row.get("problem") for row in rows] == [None, "no_structure", "no_structure", None]
    first, last = rows[0], rows[3]
    assert set(first) == {"row", "structure", "single", "double", "whole", "yes", "day", "text"}
    assert (float(first["single"]), float(first["double"])) == (
        float(pa.scalar(0.1, pa.float32()).as_py()),
        1e-300,
    )
    assert (first["whole"], first["yes"], first["day"]) == (str(2**60), "true", "2020-01-02")
    assert (float(last["double"]), "single" in last, last["text"]) == (1 / 3, False, "d")


def test_a_folder_is_its_files_of_molecules(tmp_path: Path) -> None:
    for name in ["b.smi", "deep/a.SMI", "notes.md", "c.sdf.md"]:
        write(tmp_path / "all" / name, b"CC x\n")
    write(tmp_path / "all/c.csv", b"smiles\nCCC\n")
    assert [row["structure"] for row in read(tmp_path / "all")] == ["CC", "CCC", "CC"]
    with pytest.raises(UsageError, match="there is no file of molecules"):
        read(write(tmp_path / "none/notes.md", b"x").parent)
    with pytest.raises(UsageError, match="there is no file of molecules"):
        read(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"SMILES,y", "has no column 'smiles'; it has SMILES, y"),
        (b"smiles,y,smiles", "names a column twice: smiles"),
        (b"y,smiles,y", "names a column twice: y"),
        (b"", "has no column 'smiles'"),
    ],
)
def test_no_column_or_two_of_one_name(tmp_path: Path, header: bytes, said: str) -> None:
    path = write(tmp_path / "a.csv", header + b"\nC,C,1\n")
    with pytest.raises(UsageError, match=said):
        read(path)


def test_a_name_said_twice_is_no_matter_where_it_is_not_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"y,smiles,y,,z\n1,C,2,3,4\n")
    assert read(path, columns=["z"]) == [{"row": 0, "structure": "C", "z": "4"}]


def test_a_file_that_breaks_off_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.smi.gz", b"CC\n" * 10_000)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="file 0 of source 0"):
        read(path)
    with pytest.raises(DataError, match="file 0 of source 0"):
        read(write(tmp_path / "a.parquet", b"PAR1 this is none"))
