"""Figure 1: online, a night and single files give the same scores, alone and under 16 clients.

    python -m benchmarks.figures serving --only 1

200 items of each workload: scans of many shapes and transfer syntaxes as DICOM and PNG, made-up
patients, molecules of the Tox21 table. Packages are untrained, or trained for seconds: what is
measured is that scores agree. Clients under load each ask about a few items at a time, in an order
of their own, so that what is computed together differs in shape and number.
"""

import os
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.figures import Figure
from benchmarks.packages import untrained_package, write_scans
from benchmarks.serving import Service, service
from benchmarks.serving_packages import patients, patients_package, smiles_of, toxicity_package
from medray import api, storage
from medray.client import Client
from medray.package import open_package
from medray.spec.models import RunSpec

ITEMS, CLIENTS, ROUNDS = 200, 16, 2
Scores = dict[tuple[str, str, str], float]
"""(item, target, class or quantile) → score."""


def figures() -> list[Figure]:
    """Three packages behind one door."""
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        os.environ.setdefault("MEDRAY_KEY_FILE", str(home / "pseudonym.key"))
        scans = untrained_package(home / "scans", "conv3", 64)
        records = patients_package(home / "records", ITEMS)
        molecules = toxicity_package(home / "molecules", ITEMS)
        source = {"path": str(home / "molecules" / "asked.csv"), "columns": []}
        nights = [
            _night(scans, archive=[str(_archive(home))]),
            _night(records),
            _night(molecules, molecules=[source]),
        ]
        models = [{"package": one, "replicas": {"max": 2}} for one in (scans, records, molecules)]
        settings = {"limits": {"per_minute": 10_000_000}}
        with (
            service(home / "service", models, **settings) as running,
            chdir(_archive(home)),  # a PNG is who its path in the archive says
        ):
            asked = [_scans(home, scans), _records(home, records), _molecules(home, molecules)]
            return [
                row
                for question, night in zip(asked, nights, strict=True)
                for row in _compared(running, question, night)
            ]


class _Question:
    """What is asked of a model: things by name, how a few of them are asked, and `predict`."""

    def __init__(
        self,
        name: str,
        model: str,
        things: Sequence[Any],
        ask: Callable[[Client, Sequence[Any]], Scores],
        local: Scores,
    ) -> None:
        self.name, self.model, self.things, self.ask, self.local = name, model, things, ask, local


def _compared(running: Service, question: _Question, night: Scores) -> list[Figure]:
    with Client(running.url, timeout_s=120, retries=8) as client:
        alone: Scores = {}
        for one in question.things:
            alone |= question.ask(client, [one])
        crowds = [_crowd(client, question, number) for number in range(ROUNDS)]
    crowd = {key: score for found in crowds for key, score in found.items()}
    middle = sum(0.02 < score < 0.98 for score in alone.values())
    note = f"{len(alone)} scores of {len(question.things)}, {middle} between .02 and .98"
    return [
        _same(f"{question.name}: online beside a night", alone, night, note),
        _same(f"{question.name}: online beside single files", alone, question.local),
        _same(f"{question.name}: {CLIENTS} clients at once beside one", crowd, alone),
    ]


def _crowd(client: Client, question: _Question, seed: int) -> Scores:
    """Every thing, a few at a time, by clients at once."""
    rng = random.Random(seed)  # noqa: S311 - an order, no secret
    things = list(question.things)
    rng.shuffle(things)
    groups: list[list[Any]] = []
    while things:
        size = rng.randint(1, 4)
        groups.append(things[:size])
        things = things[size:]
    with ThreadPoolExecutor(CLIENTS) as threads:
        found = list(threads.map(lambda group: question.ask(client, group), groups))
    return {key: score for one in found for key, score in one.items()}


def _same(name: str, some: Scores, all_of: Scores, note: str = "") -> Figure:
    gap = max((abs(score - all_of.get(key, np.inf)) for key, score in some.items()), default=np.inf)
    exact = sum(score == all_of.get(key) for key, score in some.items())
    return Figure(
        name=name,
        value=f"{gap:.1e}",
        bar="≤ 1e-6",
        ok=bool(gap <= 1e-6) and set(some) == set(all_of),
        note=f"{exact} of {len(some)} to the bit{'; ' + note if note else ''}",
    )


def _told(predictions: Sequence[Mapping[str, Any]]) -> Scores:
    return {
        (one["item_id"], score["target"], score["text_value"] or ""): score["score"]
        for one in predictions
        for score in one["scores"]
    }


def _rows(rows: Sequence[Mapping[str, Any]]) -> Scores:
    return {
        (row["item_id"], row["target"], row["text_value"] or ""): row["score"]
        for row in rows
        if row["status"] == "ok"
    }


def _night(package: str, **section: Any) -> Scores:
    """`medray score`, of the archive, tables or molecules that `section` names."""
    spec = open_package(package).spec
    asked = RunSpec.model_validate(spec.model_dump() | {"score": {"package": package, **section}})
    api.score(asked)
    return _rows(storage.read_table(f"{asked.output_uri}/predictions").to_pylist())


# ---------------------------------------------------------------- scans


def _archive(home: Path) -> Path:
    """DICOM files in every syntax, and PNGs of many shapes."""
    folder = home / "archive"
    if folder.exists():
        return folder
    write_scans(folder, ITEMS // 2)
    for number in range(ITEMS // 2):
        rng = np.random.default_rng(number)
        shape = (int(rng.integers(40, 300)), int(rng.integers(40, 300)))
        ramp = np.linspace(40, 200, shape[1])[None, :] + rng.normal(0, 15, shape)
        Image.fromarray(np.clip(ramp, 0, 255).astype(np.uint8)).save(folder / f"{number:03}.png")
    return folder


def _scans(home: Path, package: str) -> _Question:
    root = _archive(home)
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    told = api.predict(package, files, device="cpu")
    local = _rows([row for one in told for row in one.to_dict()["rows"]])  # pyright: ignore
    name = open_package(package).name

    def ask(client: Client, some: Sequence[str]) -> Scores:
        return _told(client.predict(name, files=some).predictions)

    return _Question("scans", name, files, ask, local)


# ---------------------------------------------------------------- records, molecules


def _records(home: Path, package: str) -> _Question:
    folder = home / "records"
    told = api.predict(package, [str(folder / "events")], device="cpu")[0]
    local = _told([one for one in told.dicts() if "scores" in one])
    things = patients(folder)
    name = open_package(package).name

    def ask(client: Client, some: Sequence[list[dict[str, Any]]]) -> Scores:
        events = [event for one in some for event in one]
        return _told(client.predict(name, events=events).predictions)

    return _Question("records", name, things, ask, local)


def _molecules(home: Path, package: str) -> _Question:
    things = smiles_of(home / "molecules")
    told = api.predict(package, things, device="cpu")[0]
    local = _told(list(told.dicts()))
    name = open_package(package).name

    def ask(client: Client, some: Sequence[str]) -> Scores:
        return _told(client.predict(name, smiles=some).predictions)

    return _Question("molecules", name, things, ask, local)
