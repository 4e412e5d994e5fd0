"""One chunk of draws: so many texts from a seed of their own → molecules with all that is asked.

What a chunk holds depends on the seed and its number alone, not on who draws it or what was drawn
before. Faults of a text are counted; they raise nothing.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from rdkit import Chem, rdBase

from medray import storage
from medray.errors import RejectError
from medray.generate.judges import Judge, open_judges
from medray.generate.known import Known
from medray.ingest.parts import IN_PROCESS_COST, KEY_FIELDS, Finished, Row, Work, finish
from medray.molecules.metrics.filters import alert
from medray.molecules.metrics.profile import fingerprint
from medray.molecules.properties import PROPERTIES
from medray.molecules.standard import Standard, standardise
from medray.package import Task
from medray.schema import GENERATED
from medray.score.predictor import Predictor
from medray.spec.molecules import StandardSpec

CHUNK = 512  # draws: some seconds of work, of which a killed run loses at most as many as it has
_FEW = 8  # chunks that are drawn in this process: starting Ray costs more
_SUFFIX = ".molecules.parquet"
RECEIPT = pa.schema(
    [
        *KEY_FIELDS,
        pa.field("drawn", pa.int64(), nullable=False),
        pa.field("valid", pa.int64(), nullable=False),  # RDKit reads it
        pa.field("refused", pa.map_(pa.string(), pa.int64())),  # valid, but no small molecule: why
    ]
)
_OURS = ("smiles", "scaffold", *PROPERTIES, "alert", "novel", "neighbour", "similarity", "place")


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker must know; picklable.

    standard  form of the molecules that the package learned from.
    known     files of `known.prepare`; none: there is nothing to compare with.
    filters, unlike_training  see `Asked`: what they leave out is not described further.
    judges    packages of predictors, and the columns that they fill.
    tasks     workloads of the caller's own for the package and its judges; absent: those of
              WORKLOADS.
    """

    package_uri: str
    device: str
    seed: int
    way: str
    temperature: float
    filters: bool = True
    unlike_training: float | None = None
    standard: StandardSpec = field(default_factory=StandardSpec)
    known: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    task: Task | None = None
    judge_task: Task | None = None

    @property
    def schema(self) -> pa.Schema:
        """Distinct molecules of a chunk; properties are null of those that are left out."""
        ours = [GENERATED.field(name).with_nullable(True) for name in _OURS]
        return pa.schema([*ours, *(pa.field(name, pa.float64()) for name in self.columns)])


def chunk_seed(seed: int, chunk: int) -> int:
    """Seed of one chunk, independent of all others."""
    return int(np.random.SeedSequence([seed, chunk]).generate_state(1, np.uint64)[0] >> 1)


def draw_chunks(
    job: Job, count: int, folder: str, *, gpus: float, progress: Callable[[int, int], None]
) -> Finished:
    """Chunks 0 to `count` of a job: those that `folder` does not hold are drawn, over Ray if many.

    Raises MedrayError when a worker fails; run again, finished chunks are kept.
    """
    rows: list[Row] = [
        {"file_id": f"chunk-{number}", "size": CHUNK, "mtime_ns": number} for number in range(count)
    ]
    return finish(
        rows,
        partial(_open, job),
        RECEIPT,
        folder=folder,
        rows_per_part=1,
        cost=lambda row: IN_PROCESS_COST // _FEW,
        progress=progress,
        gpus=gpus,
    )


def read_chunks(job: Job, done: Finished) -> pa.Table:
    """Rows of all chunks, in the order of chunk and place, with the number of the `chunk`."""
    schema = pa.schema([*job.schema, pa.field("chunk", pa.int32())])
    uris = [base + _SUFFIX for base in done.bases]
    return storage.read_parquet(uris, schema).sort_by(
        [("chunk", "ascending"), ("place", "ascending")]
    )


@contextmanager
def _open(job: Job) -> Generator[Work]:
    """What a worker holds: the package, the training set, the judges."""
    maker = Predictor(job.package_uri, job.device, job.task)
    describe = _Describing(
        job,
        Known.read(job.known) if job.known else None,
        open_judges(job.judges, job.device, job.judge_task),
    )

    def work(rows: list[Row], base: str) -> pa.Table:
        receipts: list[Row] = []
        for row in rows:
            number = row["mtime_ns"]
            seed = chunk_seed(job.seed, number)
            texts = maker.sample(row["size"], seed, job.way, job.temperature)
            table, counts = describe(texts)
            numbers = pa.array([number] * table.num_rows, pa.int32())
            storage.write_parquet(base + _SUFFIX, table.append_column("chunk", numbers))
            receipts.append({**row, **counts})
        return pa.Table.from_pylist(receipts, schema=RECEIPT)

    yield work


@dataclass(frozen=True, slots=True)
class _Describing:
    """Texts → rows of `Job.schema`, and what was counted."""

    job: Job
    known: Known | None
    judges: Sequence[Judge]

    def __call__(self, texts: Sequence[str]) -> tuple[pa.Table, dict[str, Any]]:
        with rdBase.BlockLogs():
            forms, valid, refused = self._forms(texts)
            rows: list[Row] = [
                {"place": place, "smiles": form.smiles, "scaffold": form.scaffold}
                for place, form in forms
            ]
            molecules = [Chem.MolFromSmiles(row["smiles"]) for row in rows]
            for row, molecule in zip(rows, molecules, strict=True):
                row["alert"] = alert(molecule)
            self._compare(rows, molecules)
            wanted = [at for at, row in enumerate(rows) if self._is_wanted(row)]
            for at in wanted:
                rows[at] |= {name: of(molecules[at]) for name, of in PROPERTIES.items()}
            self._judge([rows[at] for at in wanted])
        counts = {"drawn": len(texts), "valid": valid, "refused": list(refused.items())}
        return pa.Table.from_pylist(rows, schema=self.job.schema), counts

    def _forms(self, texts: Sequence[str]) -> tuple[list[tuple[int, Standard]], int, Counter[str]]:
        """Place and standard form of each distinct molecule; how many are valid, and refused."""
        seen = set[str]()
        forms: list[tuple[int, Standard]] = []
        refused = Counter[str]()
        valid = 0
        for place, text in enumerate(texts):
            molecule: Any = Chem.MolFromSmiles(text) if text else None
            if molecule is None:
                continue
            valid += 1
            try:
                form = standardise(molecule, self.job.standard)
            except RejectError as reject:
                refused[str(reject.code)] += 1
                continue
            if form.smiles not in seen:
                seen.add(form.smiles)
                forms.append((place, form))
        return forms, valid, refused

    def _compare(self, rows: list[Row], molecules: Sequence[Any]) -> None:
        """What `train` holds, and what of it is most similar to those that no filter leaves out."""
        if self.known is None or not rows:
            return
        for row, held in zip(rows, self.known.holds([r["smiles"] for r in rows]), strict=True):
            row["novel"] = not held
        asked = [at for at, row in enumerate(rows) if self._passes(row)]
        prints = [fingerprint(molecules[at]) for at in asked]
        for at, smiles, similar in zip(asked, *self.known.nearest(prints), strict=True):
            rows[at] |= {"neighbour": smiles, "similarity": similar}

    def _passes(self, row: Row) -> bool:
        return not self.job.filters or row["alert"] is None

    def _is_wanted(self, row: Row) -> bool:
        limit = self.job.unlike_training
        return self._passes(row) and (limit is None or row["similarity"] < limit)

    def _judge(self, rows: list[Row]) -> None:
        for judge in self.judges:
            said = judge.say([row["smiles"] for row in rows])
            for row, scores in zip(rows, said, strict=True):
                row.update(scores)


def item_id(smiles: str) -> str:
    """The id of a molecule in every table."""
    return hashlib.sha256(smiles.encode()).hexdigest()[:24]
