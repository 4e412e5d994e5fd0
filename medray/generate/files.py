"""The molecules as files that other programs read: CSV, and SDF with a flat drawing of each."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from pyarrow import csv
from rdkit import Chem
from rdkit.Chem import rdDepictor

from medray.generate.asked import Format

chem: Any = Chem
depictor: Any = rdDepictor


def to_csv(table: pa.Table) -> bytes:
    """Comma-separated, with a header; nothing between the commas where there is no value."""
    sink = io.BytesIO()
    csv.write_csv(table, sink)
    return sink.getvalue()


def to_sdf(table: pa.Table) -> bytes:
    """A record per molecule (V2000), titled with its id; columns with a value are data items."""
    sink = io.StringIO()
    writer: Any = chem.SDWriter(sink)
    for row in table.to_pylist():
        molecule: Any = chem.MolFromSmiles(row["smiles"])
        depictor.Compute2DCoords(molecule)
        molecule.SetProp("_Name", row["item_id"])
        for name, value in row.items():
            if value is not None:
                molecule.SetProp(name, str(value))
        writer.write(molecule)
    writer.close()
    return sink.getvalue().encode()


WRITERS: Mapping[Format, Callable[[pa.Table], bytes]] = {"csv": to_csv, "sdf": to_sdf}
