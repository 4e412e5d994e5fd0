"""The only way from pixels to a score: `predict`, the nightly actors and online serving use it.

A network's answer for a row changes in the last bits with the number of rows beside it, because
libraries choose other kernels. So rows always go through in chunks of one fixed size, padded:
the same item gives the same score to the bit whatever it is batched with.

Owns no Ray. Row-level faults are outcomes; they never raise and never touch their neighbours.
"""

import hashlib
import os
import secrets
import weakref
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from medray import items
from medray.dicom.contained import ContainedDecoder
from medray.errors import Code, RejectError, UsageError
from medray.explain.heatmap import as_uint8, heatmap_png
from medray.package import Task, forward, load_modules, open_package, replay_selftest
from medray.privacy.pseudonyms import identify, load_key
from medray.score.prediction import (
    FilePrediction,
    ItemKey,
    Outcome,
    PredictionRow,
    Score,
    rows_of,
)
from medray.workload import Columns

if TYPE_CHECKING:
    from medray.workload import Target

Array = np.ndarray[Any, Any]

# Values per chunk, and rows at most: on a processor little more than one picture of 128×128, so
# that one file alone is not slowed by padding; a GPU wants more at once.
_HISTORIES = 32
_CHUNKS = {"cpu": (1 << 14, 16), "cuda": (1 << 22, 64)}


class Explanation(NamedTuple):
    """Where the model looked: picture uint8 (H, W[, 3]), heatmap float32 (H, W) in 0..1."""

    frame: int
    picture: Array
    heatmap: Array


class Predictor:
    """A package's model, loaded once and checked against its own self-test.

    device   "cpu", "cuda", or "auto": a GPU when there is one.
    workload the task that the package was made for; absent: looked up in WORKLOADS by name.
    Raises PackageError when the package is not intact, UsageError for a device that is absent.
    """

    def __init__(self, package_uri: str, device: str = "cpu", workload: Task | None = None) -> None:
        self.package = open_package(package_uri)
        self.device = _device(device)
        self._task = workload or _workload(self.package.workload)
        self._params, self._fitted, self._modules = load_modules(
            self.package, self._task, self.device
        )
        replay_selftest(
            self.package, self._task, self._params, self._fitted, self._modules, self.device
        )
        self._decoder = ContainedDecoder()  # its child starts with the first compressed file
        weakref.finalize(self, self._decoder.close)

    @property
    def targets(self) -> "tuple[Target, ...]":
        """What the package predicts."""
        return self._task.targets(self._params, self._fitted)

    @property
    def learned(self) -> tuple[Any, Any]:
        """The task's params, and what preprocessing learned."""
        return self._params, self._fitted

    def logits(self, columns: Columns) -> dict[str, Array]:
        """Uncalibrated logits per target, float32 (B,) or (B, K), of columns with B rows.

        Raises RejectError (unexpected_shape) when the package does not take such rows.
        """
        rows = len(next(iter(columns.values())))
        chunk = chunk_rows(columns, self.device.type)
        parts = [
            self._forward(
                {name: values[at : at + chunk] for name, values in columns.items()}, chunk
            )
            for at in range(0, rows, chunk)
        ]
        names = parts[0] if parts else ()
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _forward(self, columns: dict[str, Array], chunk: int) -> dict[str, Array]:
        """Logits of at most one chunk of rows, run as exactly one chunk."""
        rows = len(next(iter(columns.values())))
        padded = {
            name: np.concatenate([values, np.repeat(values[:1], chunk - rows, axis=0)])
            for name, values in columns.items()
        }
        answered = forward(
            self._task, self._modules, padded, self._params, self._fitted, self.device
        )
        return {name: values[:rows] for name, values in answered.items()}

    def predict_columns(self, columns: Columns) -> list[Outcome]:
        """One outcome per row of columns whose rows are alike (`pixels` is (B, H, W[, C]))."""
        rows = len(next(iter(columns.values())))
        if not rows:
            return []
        try:
            logits = self.logits(columns)
        except RejectError as reject:
            return [Outcome((), reject.code, reject.detail)] * rows
        finite = np.ones(rows, dtype=bool)
        for values in logits.values():
            finite &= np.isfinite(values.reshape(rows, -1)).all(axis=1)
        scores = [self._scores(target, logits[target.name]) for target in self.targets]
        return [
            Outcome(tuple(score for target in scores for score in target[row]))
            if finite[row]
            else Outcome((), Code.NOT_FINITE, "the model's answer is not a finite number")
            for row in range(rows)
        ]

    def predict_arrays(self, pixels: Sequence[Array]) -> list[Outcome]:
        """One outcome per picture, in order; pictures may differ in shape and type."""
        alike: dict[tuple[tuple[int, ...], str], list[int]] = defaultdict(list)
        for row, picture in enumerate(pixels):
            alike[picture.shape, picture.dtype.str].append(row)
        outcomes: dict[int, Outcome] = {}
        for rows in alike.values():
            found = self.predict_columns({"pixels": np.stack([pixels[row] for row in rows])})
            outcomes.update(zip(rows, found, strict=True))
        return [outcomes[row] for row in range(len(pixels))]

    def predict_bytes(self, name: str, data: bytes) -> list[PredictionRow]:
        """Rows of one file: per item and target (multi-class: per class), or one rejected row.

        name  what the file is called, for file_id; pseudonyms are the same as in ingest and score.
        """
        return self._answer(name, data, None)[0]

    def predict_file(self, file: str, explain: str | None = None) -> FilePrediction:
        """Predict one file; `explain` is a folder that gets a heat map of each picture as PNG.

        A file that cannot be read or decoded is a rejected row. Raises UsageError when the
        folder cannot be written.
        """
        pictures: list[str] = []
        try:
            data = _read(file)
        except RejectError as fault:
            rows = list(rows_of(_no_item(_file_id(file)), Outcome((), fault.code)))
            return FilePrediction(file, self.package.ref, tuple(rows), fault.detail)
        rows, detail, found = self._answer(file, data, explain)
        if explain is not None:
            stem = f"{Path(file).stem}-{_file_id(file)[:6]}"
            for one in found:
                path = Path(explain) / f"{stem}-frame{one.frame}.png"
                _write(path, heatmap_png(one.picture, one.heatmap))
                pictures.append(str(path))
        return FilePrediction(file, self.package.ref, tuple(rows), detail, tuple(pictures))

    def explain_bytes(self, data: bytes, target: str | None = None) -> list[Explanation]:
        """Where the model looked in each picture of a file; pictures it does not take are left out.

        target  absent: the one of the highest score. Raises RejectError when the file cannot be
                decoded.
        """
        return self._explain(self._decode(items.header_row(data), data), target)

    def _answer(
        self, name: str, data: bytes, explain: str | None
    ) -> tuple[list[PredictionRow], str, list[Explanation]]:
        """Rows, why there is no score, and heat maps when they are asked for."""
        file_id = _file_id(name)
        header = {**items.header_row(data), "path": name}
        try:
            found = self._decode(header, data)
        except RejectError as fault:
            return list(rows_of(_no_item(file_id), Outcome((), fault.code))), fault.detail, []
        ingest = self.package.spec.ingest
        who = identify(load_key(), header, ingest.subject if ingest else "patient_id")
        outcomes = self.predict_arrays([item.pixels for item in found])
        rows: list[PredictionRow] = []
        for item, outcome in zip(found, outcomes, strict=True):
            item_id = f"{who.item}#{item.frame}"
            key = ItemKey(item_id, who.subject_id, who.study_id, file_id, item.frame)
            rows.extend(rows_of(key, outcome))
        detail = next((outcome.detail for outcome in outcomes if outcome.reason), "")
        return rows, detail, [] if explain is None else self._explain(found, None)

    def _decode(self, header: Mapping[str, Any], data: bytes) -> list[items.ItemPixels]:
        if header["reason"] is not None:
            raise RejectError(Code(header["reason"]), header["detail"] or "")
        return items.decode_items(data, header["kind"], self.package.pixels, (), self._decoder)

    def _explain(self, found: Sequence[items.ItemPixels], target: str | None) -> list[Explanation]:
        explained: list[Explanation] = []
        for item in found:
            try:
                heat = self.heatmap(item.pixels, target)
            except RejectError:
                continue  # the item's own row says why
            explained.append(Explanation(item.frame, as_uint8(item.pixels), heat))
        return explained

    def heatmap(self, picture: Array, target: str | None = None) -> Array:
        """Where the model looked in one picture: float32 (H, W) in 0..1.

        target  absent: the one of the highest score. Of a multi-class target the most probable
                class is explained.
        Raises RejectError when the package does not take the picture, UsageError for a target
        it does not have.
        """
        columns = {"pixels": picture[None]}
        highest = {
            name: self.package.calibration.apply(name, values)[0]
            for name, values in self.logits(columns).items()
        }
        chosen = target or max(highest, key=lambda name: float(np.max(highest[name])))
        if chosen not in highest:
            raise UsageError(
                f"{self.package.ref} does not predict {target!r}",
                remedy=f"one of: {', '.join(highest)}",
            )
        index = int(np.argmax(highest[chosen]))
        collated = self._task.collate(columns, self._params, self._fitted)
        batch = {name: values.to(self.device) for name, values in collated.items()}
        found = self._task.explain(self._modules, batch, chosen, index, self._params)
        return found["heatmap"][0].detach().float().cpu().numpy()

    def _scores(self, target: "Target", logits: Array) -> list[tuple[Score, ...]]:
        """Scores of every row of one target: one, or one per class, horizon or quantile."""
        with np.errstate(invalid="ignore"):  # rows that are not finite are refused by the caller
            answers = self.package.calibration.answers(target.name, logits)
        return [
            tuple(
                Score(
                    answer.name,
                    answer.text_value,
                    float(answer.values[row]),
                    None if answer.decisions is None else bool(answer.decisions[row]),
                )
                for answer in answers
            )
            for row in range(len(logits))
        ]


def chunk_rows(columns: Columns, device: str) -> int:
    """Rows that go through the model at once: decided by the shape of a row, never by how many.

    Histories have no shape: so many go at once, whatever their length.
    """
    if any(values.dtype == object for values in columns.values()):
        return _HISTORIES
    values, most = _CHUNKS[device]
    return max(1, min(most, values // max(1, sum(v[0].size for v in columns.values() if len(v)))))


def _file_id(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _no_item(file_id: str) -> ItemKey:
    return ItemKey(file_id, None, None, file_id, None)


def _read(file: str) -> bytes:
    """Read a local or remote file. Raises RejectError(UNREADABLE)."""
    try:
        if "://" not in file:
            return Path(file).read_bytes()
        from medray import storage

        return storage.read_bytes(file)
    except OSError as error:
        raise RejectError(Code.UNREADABLE, error.strerror or type(error).__name__) from None


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises UsageError."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise UsageError(
            f"the heat map cannot be written: {error.strerror}",
            remedy="name a folder that you can write to",
        ) from error


def _workload(name: str) -> Task:
    from medray.workloads import WORKLOADS

    found: Mapping[str, Task] = WORKLOADS
    if name not in found:
        raise UsageError(
            f"this medray has no workload {name!r}", remedy=f"one of: {', '.join(found)}"
        )
    return found[name]


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in _CHUNKS:
        raise UsageError(f"no device {name!r}", remedy=f"one of: auto, {', '.join(_CHUNKS)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("this machine has no CUDA device", remedy="use device cpu or auto")
    return torch.device(name)
