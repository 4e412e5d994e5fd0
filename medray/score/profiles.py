"""Profiles of many molecules: computed in parts over Ray, kept in a folder, computed once.

    <folder>/<key>/chemnet.parquet     moments of ChemNet's activations, one row
    <folder>/<key>/molecules.parquet   columns of PROFILE; written last, so that a profile is
                                       whole if it is there
    <folder>/<key>/parts/              of an interrupted run, which goes on from there

The key is a hash of the SMILES in their order, the role, and all that the numbers depend on. Needs
the extra `molecules`: import this behind `extras.require`.
"""

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from medray import storage
from medray.ingest.parts import IN_PROCESS_COST, KEY_FIELDS, Row, Work, finish
from medray.models.chemnet import ACTIVATIONS, ChemNet
from medray.molecules.metrics.distributions import Moments
from medray.molecules.metrics.profile import PROFILE, Profile, Role, describe, merge

FORMAT = 1  # raise it when a profile's numbers change
_RECEIPT = pa.schema(KEY_FIELDS)
_VECTOR = pa.list_(pa.float64())
CHEMNET = pa.schema([("count", pa.int64()), ("mean", _VECTOR), ("scatter", _VECTOR)])
# Molecules of a part, a few seconds of work, and so many that starting Ray costs less.
_PART: dict[Role, int] = {"known": 32768, "reference": 2048, "generated": 2048}
_FEW: dict[Role, int] = {"known": 65536, "reference": 2048, "generated": 2048}


def profiled(
    smiles: Sequence[str],
    role: Role,
    folder: str,
    *,
    device: str = "cpu",
    per_part: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Profile:
    """The profile of a list of SMILES; read where `folder` has it, else computed and kept there.

    Parts are tasks of Ray Data, or run in this process when there are few molecules. A run that was
    killed goes on where it stopped. `device` is where ChemNet runs, `per_part` how many molecules
    are a part (absent: some seconds' work); `progress(done, total)` counts parts.

    Raises UsageError for a GPU that is not there, MedrayError when a worker fails.
    """
    place = storage.join(folder, profile_key(smiles, role))
    if not storage.exists(_molecules(place)):
        parts = storage.join(place, "parts")
        size = per_part or _PART[role]
        _write(_computed(smiles, role, parts, size, device, progress), place)
        storage.remove_tree(parts)
    return _read(place, role)


def known_smiles(
    smiles: Sequence[str],
    folder: str,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> pa.ChunkedArray:
    """Canonical SMILES of a training set, to measure novelty against; kept as profiles are.

    RDKit's canonical form differs between versions, so that those in a file need not be today's.
    """
    return profiled(smiles, "known", folder, progress=progress).smiles()


def profile_key(smiles: Sequence[str], role: Role) -> str:
    """Name a profile by its content and what computes it."""
    digest = hashlib.sha256(f"{FORMAT} {role} {version('rdkit')}".encode())
    if role != "known":
        digest.update(version("fcd_torch").encode())
    for one in smiles:
        digest.update(b"\n" + one.encode())
    return digest.hexdigest()[:32]


def _computed(
    smiles: Sequence[str],
    role: Role,
    folder: str,
    size: int,
    device: str,
    progress: Callable[[int, int], None],
) -> Profile:
    parts: list[Row] = [
        # Within a folder of this very list, a part is named by its place.
        {"file_id": str(at), "size": size, "mtime_ns": 0, "smiles": list(smiles[at : at + size])}
        for at in range(0, len(smiles), size)
    ]
    finished = finish(
        parts,
        partial(_open, role, device),
        _RECEIPT,
        folder=folder,
        rows_per_part=1,
        cost=lambda row: len(row["smiles"]) * (IN_PROCESS_COST // _FEW[role]),
        progress=progress,
    )
    nothing = Profile(PROFILE[role].empty_table(), Moments.none(ACTIVATIONS))
    return merge([nothing, *(_read(base, role) for base in finished.bases)])


@contextmanager
def _open(role: Role, device: str) -> Generator[Work]:
    """What a worker holds: the network, unless nothing is asked of it."""
    network = None if role == "known" else ChemNet(device)

    def work(rows: list[Row], base: str) -> pa.Table:
        for row in rows:
            table = describe(row["smiles"], role, int(row["file_id"]))
            chemnet = Moments.none(ACTIVATIONS)
            if network is not None:
                valid = table["smiles"].drop_null().to_pylist()
                chemnet = Moments.of(network.activations(valid))
            _write(Profile(table, chemnet), base)
        return pa.Table.from_pylist(rows, schema=_RECEIPT)

    yield work


def _molecules(place: str) -> str:
    return storage.join(place, "molecules.parquet")


def _chemnet(place: str) -> str:
    return storage.join(place, "chemnet.parquet")


def _write(profile: Profile, place: str) -> None:
    moments = profile.chemnet
    row: dict[str, Any] = {
        "count": moments.count,
        "mean": moments.mean,
        "scatter": moments.scatter.ravel(),
    }
    storage.write_parquet(_chemnet(place), pa.Table.from_pylist([row], schema=CHEMNET))
    storage.write_parquet(_molecules(place), profile.molecules)


def _read(place: str, role: Role) -> Profile:
    row = storage.read_parquet([_chemnet(place)], CHEMNET)
    mean, scatter = (row[name].combine_chunks().flatten().to_numpy() for name in CHEMNET.names[1:])
    moments = Moments(row["count"][0].as_py(), mean, scatter.reshape(mean.size, mean.size))
    return Profile(storage.read_parquet([_molecules(place)], PROFILE[role]), moments)
