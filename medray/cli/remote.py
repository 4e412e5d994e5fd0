"""`medray predict --url`: the same question put to a service, its answer told in the same words."""

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medray.cli import given
from medray.errors import Code, UsageError
from medray.explain.heatmap import side_by_side
from medray.score.prediction import (
    FilePrediction,
    MoleculeAnswer,
    MoleculesPrediction,
    PredictionRow,
    TablesPrediction,
)

if TYPE_CHECKING:
    from medray.client import Client

_BAR = 20  # files from which on progress is shown


def predict(
    address: tuple[str, str | None, str | None],
    ref: str,
    files: Sequence[str],
    explain: str | None,
    *,
    every: bool,
    source: int | None,
) -> Sequence[FilePrediction | TablesPrediction | MoleculesPrediction]:
    """Ask a service (URL, file with a token, file with a certificate) about files.

    Raises ServiceError; UsageError for what can only be asked of a package that lies here.
    """
    from medray.client import Client

    if every or source is not None:
        raise UsageError(
            "--all and --source are for a package's own tables; a service takes MEDS rows",
            remedy="leave them out",
        )
    url, token_file, ca = address
    with Client(url, token=_token(token_file), ca=ca) as client:
        model = client.model(ref)
        if model["reads"] == "images":
            return _images(client, model, ref, files, explain)
        if model["reads"] == "molecules":
            return [_molecules(client, model, ref, files, explain)]
        if explain is not None:
            raise UsageError(
                f"--explain draws heat maps of pictures; {model['package']} predicts from records",
                remedy="leave --explain out",
            )
        return [_records(client, model, ref, files)]


def _token(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        token = Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the token in {file} cannot be read: {type(error).__name__}",
            remedy="give a file with nothing but the token",
        ) from None
    if not token:
        raise UsageError(f"{file} is empty", remedy="give a file with nothing but the token")
    return token


# ---------------------------------------------------------------- images


def _images(
    client: "Client", model: dict[str, Any], ref: str, files: Sequence[str], explain: str | None
) -> list[FilePrediction]:
    there, refused = _readable(files)
    rows: dict[int, list[dict[str, Any]]] = {place: [] for place in range(len(there))}
    pictures: dict[int, list[str]] = {place: [] for place in range(len(there))}
    if there:
        for one in _asked(client.predict, ref, there).predictions:
            rows[one["part"]].append(one)
    if there and explain is not None:
        for one in _asked(client.explain, ref, there).explanations:
            name = there[one["part"]]
            member = f"-{one['member']}" if one.get("member") else ""
            stem = f"{Path(name).stem}-{_file_id(name)[:6]}{member}"
            path = Path(explain) / f"{stem}-frame{one['frame']}.png"
            _write(path, side_by_side(_pixels(one["picture"]), _pixels(one["overlay"])))
            pictures[one["part"]].append(str(path))
    told = {
        name: _file(name, rows[place], pictures[place], model["package"])
        for place, name in enumerate(there)
    }
    return [
        told[name] if name in told else _unread(name, model["package"], refused[name])
        for name in files
    ]


def _pixels(picture: str) -> Any:
    """uint8 (H, W) or (H, W, 3) of a PNG in base64."""
    return np.asarray(Image.open(BytesIO(base64.b64decode(picture))))


def _asked(verb: Any, ref: str, files: Sequence[str]) -> Any:
    """Ask about files, with a bar on the error stream where there are many."""
    if len(files) < _BAR:
        return verb(ref, files=files)
    from rich.console import Console

    from medray.cli.progress import LiveProgress

    with LiveProgress(Console(stderr=True)) as progress:
        return verb(ref, files=files, progress=progress)


def _readable(files: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Files that can be read, and why the others cannot."""
    there: list[str] = []
    refused: dict[str, str] = {}
    for name in files:
        try:
            with open(name, "rb"):
                there.append(name)
        except OSError as error:
            refused[name] = error.strerror or type(error).__name__
    return there, refused


def _file(
    name: str, items: Sequence[dict[str, Any]], pictures: Sequence[str], package: str
) -> FilePrediction:
    rows = [row for item in items for row in _rows(item, _file_id(name))]
    detail = next((item["detail"] for item in items if item["status"] != "ok"), "")
    said = items[0]["package"] if items else package
    return FilePrediction(name, said, tuple(rows), detail, tuple(pictures))


def _unread(name: str, package: str, detail: str) -> FilePrediction:
    item = {
        "item_id": _file_id(name),
        "status": "rejected",
        "reason": str(Code.UNREADABLE),
        "scores": [],
    }
    return FilePrediction(name, package, tuple(_rows(item, _file_id(name))), detail)


# ---------------------------------------------------------------- records, molecules


def _records(
    client: "Client", model: dict[str, Any], ref: str, files: Sequence[str]
) -> TablesPrediction:
    answer = client.predict(ref, **given.records(files))
    items = sorted(answer.predictions, key=lambda one: int(one["subject_id"]))
    return TablesPrediction(
        package=answer.packages[0] if answer.packages else model["package"],
        rows=tuple(row for item in items for row in _rows(item, item["subject_id"])),
        events=answer.counts["events"],
        refused=answer.counts["refused"],
        unknown=answer.counts["unknown_codes"],
        time_unit=model["time_unit"],
    )


def _molecules(
    client: "Client", model: dict[str, Any], ref: str, files: Sequence[str], explain: str | None
) -> MoleculesPrediction:
    rows = given.molecules(files)
    asked = [row for row in rows if row.structure is not None]
    smiles = [row.structure or "" for row in asked]
    answer = client.predict(ref, smiles=smiles)
    drawn = {} if explain is None else _drawings(client, ref, smiles, explain)
    told = iter(answer.predictions)
    answers: list[MoleculeAnswer] = []
    for row in rows:
        item: dict[str, Any] = {"status": "rejected", "reason": row.problem, "scores": []}
        if row.structure is not None:
            item = next(told)
        if item["status"] != "ok":  # named by its row, as `predict` does
            item = {**item, "item_id": _short_hash(row.words), "smiles": None}
        mine = tuple(_rows(item, item["item_id"]))
        smile = item["smiles"]
        answers.append(MoleculeAnswer(row.words, smile, mine, drawn.get(smile)))
    return MoleculesPrediction(
        package=answer.packages[0] if answer.packages else model["package"],
        answers=tuple(answers),
        near=frozenset(one["name"] for one in model["targets"] if one["kind"] == "domain"),
    )


def _drawings(
    client: "Client", ref: str, smiles: Sequence[str], folder: str
) -> dict[str | None, str]:
    """SMILES → the file with the structure, atoms coloured by what they added."""
    answer = client.explain(ref, smiles=smiles)
    targets = {one["smiles"]: one["target"] for one in answer.explanations}
    found: dict[str | None, str] = {}
    for smile, drawing in answer.drawings.items():
        name = re.sub(r"[^A-Za-z0-9]+", "-", targets[smile]).strip("-")
        path = Path(folder) / f"{_short_hash(smile)[:12]}-{name}.svg"
        _write(path, drawing.encode())
        found[smile] = str(path)
    return found


# ---------------------------------------------------------------- rows


def _rows(item: dict[str, Any], file_id: str) -> list[PredictionRow]:
    """Rows of one item, as the same package here would give them."""
    time = item.get("prediction_time")
    key = (
        item["item_id"],
        item.get("subject_id"),
        item.get("study_id"),
        file_id,
        item.get("frame"),
        None if time is None else datetime.fromisoformat(time),
    )
    if item["status"] != "ok":
        return [PredictionRow(*key, None, None, None, None, "rejected", item["reason"])]
    return [
        PredictionRow(
            *key, one["target"], one["score"], one["decision"], one["text_value"], "ok", None
        )
        for one in item["scores"]
    ]


def _file_id(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises UsageError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise UsageError(
            f"{path.parent} cannot be written: {error.strerror}", remedy="name another folder"
        ) from error
