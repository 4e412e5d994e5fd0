"""Figure 4: a stay scores the same alone, in a batch, online and in a night, whatever follows.

    python -m benchmarks.timeline_parity

On stays of PhysioNet/CinC Challenge 2012, set A, with every network of the ICU job, trained for one
epoch: what is measured is that scores agree, not how good they are. Online is Ray Serve over HTTP.
"""

import json
import os
import socket
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.figures import Figure
from benchmarks.shared import shared
from medray import api, storage
from medray.ingest import sources, tables
from medray.ingest.cluster import ensure_ray
from medray.ingest.tables import Records
from medray.privacy.pseudonyms import load_key
from medray.score.prediction import PredictionRow
from medray.score.predictor import Predictor
from medray.score.timelines import Timelines
from medray.spec.load import load_spec
from medray.spec.models import RunSpec

SPEC = "jobs/icu_mortality/spec.yaml"
STAYS, ALONE, ONLINE = 800, 200, 50
HOUR = 3_600_000_000
FORWARD = "params.bidirectional=false"
# network → what it changes in the job's spec
ROWS: dict[str, tuple[str, ...]] = {
    "gru, both ways": (),
    "gru_d": ("params.network=gru_d", FORWARD),
    "lstm": ("params.network=lstm", FORWARD),
    "elman": ("params.network=elman", FORWARD),
}
Scores = Mapping[str, float]


def figures() -> list[Figure]:
    """Every network in turn, on one dataset."""
    data = shared("data/icu_physionet2012")
    events = pd.read_parquet(data / "set_a.parquet").sort_values(["record_id", "minutes"])
    events = events[events.record_id.isin(events.record_id.unique()[:STAYS])]
    events["parameter"] = events.parameter.astype(str)
    rows: list[Figure] = []
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        os.environ.setdefault("MEDRAY_KEY_FILE", str(home / "pseudonym.key"))
        _write(events, home / "events", files=2)
        for network, changes in ROWS.items():
            rows += _network(network, changes, home, data / "outcomes_a.csv", events)
    return rows


def _write(events: pd.DataFrame, folder: Path, files: int, seed: int | None = None) -> None:
    """CSV files; with a seed rows in any order, a stay's spread over all files."""
    folder.mkdir()
    shuffled = events if seed is None else events.sample(frac=1, random_state=seed)
    for file in range(files):
        whose = shuffled.record_id % files if seed is None else np.arange(len(shuffled)) % files
        shuffled[whose == file].to_csv(folder / f"{file}.csv", index=False)


def _network(
    name: str, changes: tuple[str, ...], home: Path, outcomes: Path, events: pd.DataFrame
) -> list[Figure]:
    folder = home / name.replace(" ", "_").replace(",", "")
    sets = [
        f"output={folder}",
        f"records.sources.0.path={home / 'events'}",
        f"records.tables.0.path={outcomes}",
        "train.epochs=1",
        *changes,
    ]
    spec = load_spec(SPEC, sets)
    api.ingest(spec)
    api.train(spec)
    model = Timelines(Predictor(str(folder / "package")))
    read = tables.read(sources.units_of(model.records), model.records, load_key())
    batch = _scores(model.predict(read.events))
    numbers = np.random.default_rng(0).permutation(pc.unique(read.events["subject_id"]).to_numpy())
    alone: dict[str, float] = {}
    for number in numbers[:ALONE]:
        alone |= _scores(model.predict(_of(read, [int(number)])))
    middle = sum(0.02 < score < 0.98 for score in batch.values())
    note = f"{middle} of {len(batch)} scores between .02 and .98"
    shuffled = home / "shuffled"
    if not shuffled.exists():
        _write(events, shuffled, files=3, seed=1)
    return [
        _same(f"alone beside a batch, {name}", alone, batch, ALONE, note),
        _same(f"a night beside a batch, {name}", _night(spec), batch, len(batch)),
        _same(
            f"a night over shuffled rows, other files and shards, {name}",
            _night(spec, shuffled, folder / "again"),
            batch,
            len(batch),
        ),
        _same(f"online beside a batch, {name}", _online(folder, events), batch, ONLINE),
        _future(name, model, read, numbers[:ALONE]),
    ]


def _scores(rows: list[PredictionRow]) -> dict[str, float]:
    return {row.item_id: row.score for row in rows if row.score is not None}


def _of(read: Records, numbers: list[int]) -> pa.Table:
    return read.events.filter(pc.is_in(read.events["subject_id"], pa.array(numbers, pa.int64())))


def _same(name: str, some: Scores, all_of: Scores, wanted: int, note: str = "") -> Figure:
    gap = max((abs(score - all_of[item]) for item, score in some.items()), default=np.inf)
    exact = sum(score == all_of[item] for item, score in some.items())
    return Figure(
        name=name,
        value=f"{gap:.1e}",
        bar="≤ 1e-6",
        ok=bool(gap <= 1e-6) and len(some) == wanted,
        note=f"{exact} of {len(some)} to the bit{'; ' + note if note else ''}",
    )


def _night(spec: RunSpec, folder: Path | None = None, output: Path | None = None) -> Scores:
    """Score as `medray score` does, over tables of its own where they are named."""
    section: dict[str, Any] = {"package": f"{spec.output_uri}/package"}
    changes: dict[str, Any] = {"score": section}
    if folder is not None and spec.records is not None:
        source = spec.records.sources[0].model_dump() | {"path": str(folder)}
        section["records"] = {"sources": [source]}
        changes["output"] = str(output)
        changes["records"] = spec.records.model_dump() | {"shards": 3}
    asked = RunSpec.model_validate(spec.model_dump() | changes)
    api.score(asked)
    rows = storage.read_table(f"{asked.output_uri}/predictions").to_pylist()
    return {row["item_id"]: row["score"] for row in rows}


def _online(folder: Path, events: pd.DataFrame) -> Scores:
    """What Ray Serve answers, a request per stay."""
    found: dict[str, float] = {}
    with _served(str(folder / "package")) as post:
        for stay in events.record_id.unique()[:ONLINE]:
            mine = events[events.record_id == stay]
            asked = [
                {"subject_id": int(stay), "time": minutes, "code": code, "numeric_value": value}
                for minutes, code, value in zip(
                    mine.minutes.tolist(), mine.parameter, mine.value.tolist(), strict=True
                )
            ]
            for item in post({"events": asked})["predictions"]:
                found[item["item_id"]] = item["scores"][0]["score"]
    return found


@contextmanager
def _served(package: str) -> Iterator[Any]:
    from ray import serve

    from medray.serve.app import Settings, build

    ensure_ray()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(build(Settings(package=package)), name="model")

    def post(body: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/models/icu_mortality/predict",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - this machine
            return json.load(answer)

    try:
        yield post
    finally:
        serve.shutdown()


def _future(name: str, model: Timelines, read: Records, numbers: Any) -> Figure:
    """Scores at 24 h with what comes later left out, doubled in value, moved and added to."""
    rng = np.random.default_rng(1)
    events = _of(read, numbers.tolist()).to_pandas()
    moment = pd.Timestamp(0) + pd.Timedelta(hours=24)
    asked = {str(number): [24 * HOUR] for number in numbers.tolist()}
    before = _scores(model.predict(_of(read, numbers.tolist()), asked))
    worst, changed = 0.0, 0
    for _ in range(10):
        later = (events.time > moment).to_numpy()
        other = events[~later | (rng.random(len(events)) < 0.5)].copy()
        later = (other.time > moment).to_numpy()
        other.loc[later, "numeric_value"] *= 2
        other.loc[later, "time"] += pd.to_timedelta(rng.integers(0, 900, later.sum()), "min")
        more = other[later].sample(frac=0.5, random_state=int(rng.integers(1 << 31))).copy()
        more["code"] = rng.permutation(more["code"].to_numpy())
        other = pd.concat([other, more]).sort_values(
            ["subject_id", "time"], kind="stable", na_position="first"
        )
        table = pa.Table.from_pandas(other, schema=read.events.schema, preserve_index=False)
        after = _scores(model.predict(table, asked))
        worst = max(worst, *(abs(after[item] - score) for item, score in before.items()))
        changed += int(later.sum()) + len(more)
    return Figure(
        name=f"scores at 24 h with later events changed, {name}",
        value=f"{worst:.1e}",
        bar="0",
        ok=worst == 0 and len(before) == len(numbers),
        note=f"{len(before)} stays, 10 times, {changed:,} events changed",
    )


if __name__ == "__main__":
    for figure in figures():
        print(*figure.values(), sep="  ")
