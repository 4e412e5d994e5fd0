"""Figure 6: bad input among molecules is named and counted, and ends no run.

    python -m benchmarks.figures molecules --only 6

Made-up molecules in four forms of file, each with known faults planted between them: broken
SMILES, impossible valences, metals, peptides of more than 500 atoms, empty lines, rows that are cut
off, names in two encodings, salts and molecules said twice. Every row that comes out is held
against the one that was put in: by its place, and by why.
"""

import csv
import gzip
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize
from rdkit.rdBase import BlockLogs

from benchmarks.figures import Figure
from benchmarks.shared import shared
from medray import api
from medray.dataset import open_any
from medray.errors import RejectError
from medray.ingest import MoleculesSummary
from medray.molecules.standard import standardise
from medray.spec.models import RunSpec
from medray.spec.molecules import StandardSpec
from medray.storage import read_table

REAL = ("tox21.csv", "esol_delaney.csv")  # MoleculeNet
GOOD = 400  # molecules of each file, every fifth as a salt
FAULTS = 25  # of each kind in each file
TWICE = 40  # molecules of an earlier file said once more, written in another way
RESIDUES = 90  # of a peptide: more than 500 atoms with any of SIDES


class Row(NamedTuple):
    """What is written, and what is due: a molecule's SMILES, or a code."""

    structure: str
    due: str
    name: str = ""
    raw: bytes | None = None  # written in the row's place, as it is


CORES = (
    "c1ccc({})cc1",
    "c1cnc({})nc1",
    "C1CCN({})CC1",
    "c1csc({})n1",
    "C1CC1({})",
    "O=C({})N1CCOCC1",
)
SIDES = ("C", "C(C)C", "CO", "CC(=O)O", "Cc1c[nH]c2ccccc12", "CCSC", "CCC(N)=O", "CCCCN")
BROKEN = (
    "C1CC",
    "C(C",
    "CC)",
    "c1cccc1",
    "[CH3",
    "Cq",
    "C(=O",
    "C==C",
    "*C",
    "C\N{GREEK SMALL LETTER ALPHA}",
)
VALENCE = ("C(C)(C)(C)(C)C", "CN(C)(C)C", "O(C)(C)C", "CF(C)", "N#N#N", "C=[CH3]")
METALS = (
    "CC(=O)O[Na]",
    "[Pt](Cl)(Cl)(N)N",
    "C[Hg]C",
    "CCC[Sn](C)C",
    "[Fe+2].[Fe+3]",
    "C[Zn]C",
    "C[Al](C)C",
)
WITHOUT_ATOMS = ("[H][H]", "[H+]", "[2H][2H]", "[H+].[H+]")
IONS = (".Cl", ".[Na+].[Cl-]", ".OS(=O)(=O)O", ".O.O")
NAMES = ("na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve", "plain", "\N{GREEK SMALL LETTER BETA}-form")


def figures() -> list[Figure]:
    """Plant, ingest, and count."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        planted = _archive(root, np.random.default_rng(0))
        sources = [{"path": str(root / name), "name": name.split(".")[0]} for name in planted]
        settings = {"name": "bad_molecules", "output": str(root / "run")}
        spec = RunSpec.model_validate({**settings, "molecules": {"sources": sources}})
        summary = api.ingest(spec)
        refused = read_table(f"{root}/run/inventory/refused").to_pylist()
        labels = open_any(f"{root}/run").labels().to_pylist()
    if not isinstance(summary, MoleculesSummary):
        raise TypeError("the spec is one of molecules")
    seconds = time.perf_counter() - started
    rows = [row for rows in planted.values() for row in rows]
    codes = Counter(row.due for row in rows if row.due.islower())
    found = {**summary.refused, "duplicate_molecule": summary.duplicates}
    places = {
        (source, number): row.due
        for source, mine in enumerate(planted.values())
        for number, row in enumerate(mine)
        if row.due in codes
    }
    named = {(row["source"], row["row"]): row["reason"] for row in refused}
    kept = {row["smiles"]: row["name"] for row in labels}
    due = {row.due: row.name or None for row in rows if row.due not in codes}
    out = summary.molecules + summary.duplicates + sum(summary.refused.values())
    return [
        *(_figure(code, found.get(code, 0), count) for code, count in sorted(codes.items())),
        _figure("other reasons", sum(found.values()) - sum(codes.values()), 0),
        _figure("rows named by place and reason", len(named.items() & places.items()), len(places)),
        _figure(
            "molecules, salts as their acids and bases", len(kept.keys() & due.keys()), len(due)
        ),
        _figure("their names, UTF-8 or Latin-1", len(kept.items() & due.items()), len(due)),
        _figure("rows in = molecules + duplicates + refused", out, len(rows)),
        Figure(
            name="bad molecules: ingest to its end",
            value=f"{summary.rows:,} rows",
            bar="no fault is fatal",
            ok=summary.rows == len(rows),
            note=f"CSV, .smi.gz, SDF, Parquet in {seconds:.1f} s; made-up molecules",
        ),
        _shortcuts(),
    ]


def _figure(name: str, value: int, bar: int) -> Figure:
    return Figure(
        name=f"bad molecules: {name}",
        value=f"{value:,}",
        bar=f"{bar:,} planted",
        ok=value == bar,
        note="",
    )


def _shortcuts() -> Figure:
    """Tox21 and ESOL: what standard form skips for speed changes nothing; a form is its own."""
    texts: list[str] = []
    for name in REAL:
        with shared(f"data/toxicity/{name}").open(encoding="utf-8") as lines:
            texts += [row["smiles"] for row in csv.DictReader(lines)]
    spec, wrong, forms = StandardSpec(), 0, 0
    with BlockLogs():
        for text in texts:
            try:
                form = standardise(text, spec)
            except RejectError:
                continue
            forms += 1
            wrong += form.smiles != _whole_way(text) or standardise(form.smiles, spec) != form
    return Figure(
        name="standard form: differs from every step for every molecule, or from its own form",
        value=f"{wrong} of {forms:,}",
        bar="0",
        ok=wrong == 0 and forms > 0,
        note=f"{', '.join(REAL)}; {len(texts) - forms} of {len(texts):,} refused",
    )


def _whole_way(smiles: str) -> str:
    """Largest organic part and no charges, whether it needs it or not, until it stands."""
    chooser = rdMolStandardize.LargestFragmentChooser(preferOrganic=True)
    uncharger = rdMolStandardize.Uncharger()
    for _ in range(10):
        before = smiles
        smiles = Chem.MolToSmiles(uncharger.uncharge(chooser.choose(Chem.MolFromSmiles(before))))
        if before == smiles:
            break
    return smiles


# ---------------------------------------------------------------- planting


def _archive(root: Path, rng: np.random.Generator) -> dict[str, list[Row]]:
    """Files below `root` → the rows of each, with what is due."""
    molecules = _molecules(4 * GOOD)
    planted: dict[str, list[Row]] = {}
    for number, (name, write) in enumerate(WRITERS.items()):
        mine = molecules[number * GOOD : (number + 1) * GOOD]
        rows = [_good(smiles, place, rng) for place, smiles in enumerate(mine)]
        rows += _faults(rng) if name != "blocks.sdf" else _broken_blocks()
        earlier = molecules[: number * GOOD]
        for smiles in earlier[:: max(1, len(earlier) // TWICE)][:TWICE]:
            rows.append(Row(_written(smiles, rng), "duplicate_molecule"))
        if name in EXTRA:
            rows += [Row("", code, raw=raw) for raw, code in EXTRA[name] for _ in range(FAULTS)]
        rows = [rows[place] for place in rng.permutation(len(rows))]
        (root / name).write_bytes(write(rows))
        planted[name] = rows
    return planted


def _molecules(count: int) -> list[str]:
    """Canonical SMILES of different small molecules without charges."""
    found: dict[str, None] = {}
    for chain in range(1, 100):
        for core in CORES:
            for side in SIDES:
                mol = Chem.MolFromSmiles(core.format("C" * chain + side))
                found[Chem.MolToSmiles(mol)] = None
                if len(found) == count:
                    return list(found)
    raise ValueError("not so many")


def _good(smiles: str, place: int, rng: np.random.Generator) -> Row:
    structure = _written(smiles, rng)
    if place % 5 == 0:
        structure += IONS[rng.integers(len(IONS))]
    return Row(structure, smiles, NAMES[place % len(NAMES)])


def _written(smiles: str, rng: np.random.Generator) -> str:
    return Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(smiles), 1, int(rng.integers(2**31)))[0]


def _faults(rng: np.random.Generator) -> list[Row]:
    kinds = {
        "invalid_structure": BROKEN,
        "impossible_valence": VALENCE,
        "metal": METALS,
        "no_atoms": WITHOUT_ATOMS,
        "no_structure": ("",),
    }
    rows = [
        Row(texts[i % len(texts)], code) for code, texts in kinds.items() for i in range(FAULTS)
    ]
    peptides = (
        "N" + "".join(f"C({rng.choice(SIDES)})C(=O)N" for _ in range(RESIDUES)) + "CC(=O)O"
        for _ in range(FAULTS)
    )
    return [*rows, *(Row(peptide, "too_many_atoms") for peptide in peptides)]


def _broken_blocks() -> list[Row]:
    """Of SDF: blocks that break off, that bind too much, that are empty."""
    block = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    five = Chem.MolToMolBlock(Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False))
    nothing = Chem.MolToMolBlock(Chem.MolFromSmiles(""))
    kinds = {
        "invalid_structure": block[: len(block) // 2],
        "impossible_valence": five,
        "metal": Chem.MolToMolBlock(Chem.MolFromSmiles("C[Hg]C")),
        "no_atoms": nothing,
        "no_structure": "\n",
    }
    return [Row("", code, raw=text.encode()) for code, text in kinds.items() for _ in range(FAULTS)]


# ---------------------------------------------------------------- writing


def _csv(rows: Sequence[Row]) -> bytes:
    """UTF-8 with a byte order mark, and the line ends of Windows."""
    lines = [f"{row.name},{row.structure}".encode() if row.raw is None else row.raw for row in rows]
    return b"\xef\xbb\xbf" + b"\r\n".join([b"name,smiles", *lines, b""])


def _smi(rows: Sequence[Row]) -> bytes:
    """Names in Latin-1 where they can be, in UTF-8 where not."""
    return gzip.compress(b"".join(_smi_line(row) + b"\n" for row in rows))


def _smi_line(row: Row) -> bytes:
    if row.raw is not None:
        return row.raw
    text = f"{row.structure} {row.name}" if row.structure else ""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _sdf(rows: Sequence[Row]) -> bytes:
    return b"".join(_record(row) + b"\n$$$$\n" for row in rows)


def _record(row: Row) -> bytes:
    if row.raw is not None:
        return row.raw
    block = Chem.MolToMolBlock(Chem.MolFromSmiles(row.structure))
    return f"{row.name}{block}".encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    sink = pa.BufferOutputStream()
    columns = {"name": [row.name for row in rows], "smiles": [row.structure for row in rows]}
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


WRITERS: dict[str, Callable[[Sequence[Row]], bytes]] = {
    "table.csv": _csv,
    "lines.smi.gz": _smi,
    "blocks.sdf": _sdf,
    "columns.parquet": _parquet,
}
# What only such a file can have wrong.
EXTRA = {
    "table.csv": [
        (b"", "no_structure"),
        (b"a,C,extra", "unreadable_row"),
        (b"b", "unreadable_row"),
        (b"c,C C", "invalid_structure"),
    ],
    "lines.smi.gz": [(b" \t", "no_structure"), (b"\xff\xfe\x00", "invalid_structure")],
}
