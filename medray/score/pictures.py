"""Pictures → scores: files are decoded as the package says, and handed to the Predictor."""

import hashlib
import os
import secrets
import weakref
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medray import items
from medray.dicom.contained import ContainedDecoder
from medray.errors import Code, RejectError, UsageError
from medray.explain.heatmap import as_uint8, heatmap_png
from medray.privacy.pseudonyms import identify, load_key
from medray.score.prediction import FilePrediction, ItemKey, Outcome, PredictionRow, rows_of
from medray.score.predictor import Predictor

Array = np.ndarray[Any, Any]


class Explanation(NamedTuple):
    """Where the model looked, and for which target.

    picture uint8 (H, W[, 3]), heatmap float32 (H, W) in 0..1.
    """

    frame: int
    target: str
    picture: Array
    heatmap: Array


class ReadFile(NamedTuple):
    """A file that was decoded: a key for each picture, or one and the fault it is refused with."""

    keys: tuple[ItemKey, ...]
    found: tuple[items.ItemPixels, ...]
    fault: RejectError | None


class Pictures:
    """What a package says of pictures. Raises PackageError for a package of records."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._package = predictor.package
        self._settings = self._package.pixels
        self._decoder = ContainedDecoder()  # its child starts with the first compressed file
        weakref.finalize(self, self._decoder.close)

    def warm(self) -> None:
        """Start what the first compressed file would wait for."""
        self._decoder.start()

    def predict_arrays(self, pixels: Sequence[Array]) -> list[Outcome]:
        """One outcome per picture, in order; pictures may differ in shape and type."""
        alike: dict[tuple[tuple[int, ...], str], list[int]] = defaultdict(list)
        for row, picture in enumerate(pixels):
            alike[picture.shape, picture.dtype.str].append(row)
        outcomes: dict[int, Outcome] = {}
        for rows in alike.values():
            found = self.predictor.predict_columns(
                {"pixels": np.stack([pixels[row] for row in rows])}
            )
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
            return FilePrediction(file, self._package.ref, tuple(rows), fault.detail)
        rows, detail, found = self._answer(file, data, explain)
        if explain is not None:
            stem = f"{Path(file).stem}-{_file_id(file)[:6]}"
            for one in found:
                path = Path(explain) / f"{stem}-frame{one.frame}.png"
                _write(path, heatmap_png(one.picture, one.heatmap))
                pictures.append(str(path))
        return FilePrediction(file, self._package.ref, tuple(rows), detail, tuple(pictures))

    def explain_bytes(self, data: bytes, target: str | None = None) -> list[Explanation]:
        """Where the model looked in each picture of a file; pictures it does not take are left out.

        target  absent: the one of the highest score. Raises RejectError when the file cannot be
                decoded.
        """
        return self.explain(self._decode(items.header_row(data), data), target)

    def read(self, name: str, data: bytes) -> ReadFile:
        """Decode a file as the package says; what it gives, or why nothing. Threads may share it.

        name  what the file is called, for file_id and for pictures without a header.
        """
        file_id = _file_id(name)
        header = {**items.header_row(data), "path": name}
        try:
            found = self._decode(header, data)
        except RejectError as fault:
            return ReadFile((_no_item(file_id),), (), fault)
        ingest = self._package.spec.ingest
        who = identify(load_key(), header, ingest.subject if ingest else "patient_id")
        keys = [
            ItemKey(f"{who.item}#{one.frame}", who.subject_id, who.study_id, file_id, one.frame)
            for one in found
        ]
        return ReadFile(tuple(keys), tuple(found), None)

    def answer(self, files: Sequence[ReadFile]) -> list[list[tuple[ItemKey, Outcome]]]:
        """Items of each file and what is said of them; all are computed together."""
        outcomes = self.predict_arrays([one.pixels for file in files for one in file.found])
        answers: list[list[tuple[ItemKey, Outcome]]] = []
        for file in files:
            if file.fault is not None:
                refused = Outcome((), file.fault.code, file.fault.detail)
                answers.append([(key, refused) for key in file.keys])
                continue
            mine, outcomes = outcomes[: len(file.keys)], outcomes[len(file.keys) :]
            answers.append(list(zip(file.keys, mine, strict=True)))
        return answers

    def _answer(
        self, name: str, data: bytes, explain: str | None
    ) -> tuple[list[PredictionRow], str, list[Explanation]]:
        """Rows, why there is no score, and heat maps when they are asked for."""
        file = self.read(name, data)
        (answers,) = self.answer([file])
        rows = [row for key, outcome in answers for row in rows_of(key, outcome)]
        detail = next((outcome.detail for _, outcome in answers if outcome.reason), "")
        return rows, detail, [] if explain is None else self.explain(file.found, None)

    def _decode(self, header: Mapping[str, Any], data: bytes) -> list[items.ItemPixels]:
        if header["reason"] is not None:
            raise RejectError(Code(header["reason"]), header["detail"] or "")
        return items.decode_items(data, header["kind"], self._settings, (), self._decoder)

    def explain(self, found: Sequence[items.ItemPixels], target: str | None) -> list[Explanation]:
        """Where the model looked in decoded pictures; see `explain_bytes`."""
        explained: list[Explanation] = []
        for item in found:
            try:
                chosen, heat = self.predictor.heatmap(item.pixels, target)
            except RejectError:
                continue  # the item's own row says why
            explained.append(Explanation(item.frame, chosen, as_uint8(item.pixels), heat))
        return explained


def predict_files(
    predictor: Predictor,
    files: Sequence[str],
    *,
    explain: str | None,
    every: bool,
    source: int | None,
) -> list[FilePrediction]:
    """An answer per file. Raises UsageError for what can only be asked of records."""
    if every or source is not None:
        raise UsageError(
            "--all and --source are for tables of patients' records",
            remedy=f"leave them out: {predictor.package.ref} predicts from images",
        )
    pictures = Pictures(predictor)
    return [pictures.predict_file(file, explain) for file in files]


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
