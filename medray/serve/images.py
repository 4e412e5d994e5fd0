"""Scans online: files in, scores by item out, heat maps on request."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from medray.errors import UsageError
from medray.explain.heatmap import as_uint8, encode_png, overlay
from medray.package import Package
from medray.score.pictures import Pictures, ReadFile
from medray.score.prediction import ItemKey, Outcome
from medray.score.predictor import Predictor
from medray.serve.asked import Explained, Heatmap, Request
from medray.serve.model import not_read, said, status, thresholds
from medray.serve.problems import unprocessable


class Scans(NamedTuple):
    """The decoded files of one request."""

    files: tuple[ReadFile, ...]


class ImagesModel:
    """A package of images."""

    def __init__(self, package: str, device: str = "cpu") -> None:
        self._pictures = Pictures(Predictor(package, device))
        self._pictures.warm()
        self._thresholds = thresholds(self.package)

    @property
    def package(self) -> Package:
        """What answers."""
        return self._pictures.predictor.package

    def read(self, request: Request) -> Scans:
        """Decode every file; a bad one is refused by itself. Raises ProblemError."""
        if any(part.kind != "file" for part in request.parts):
            raise not_read(self.package, "images")
        return Scans(tuple(self._pictures.read(part.name, part.data) for part in request.parts))

    def answer(self, several: Sequence[Scans]) -> list[dict[str, Any]]:
        """An object per picture, in the order of parts and frames."""
        answers = self._pictures.answer([file for one in several for file in one.files])
        told: list[dict[str, Any]] = []
        for one in several:
            mine, answers = answers[: len(one.files)], answers[len(one.files) :]
            told.append(
                {
                    "predictions": [
                        self._said(part, key, outcome)
                        for part, items in enumerate(mine)
                        for key, outcome in items
                    ]
                }
            )
        return told

    def explain(self, asked: Scans, target: str | None) -> Explained:
        """A heat map of every picture that the model takes. Raises ProblemError."""
        maps: list[Heatmap] = []
        for part, file in enumerate(asked.files):
            names = {key.frame: key.item_id for key in file.keys}
            try:
                found = self._pictures.explain(file.found, target)
            except UsageError as error:
                raise unprocessable("no-such-target", error) from None
            for one in found:
                picture, heat = one.picture, one.heatmap
                maps.append(
                    Heatmap(
                        part=part,
                        frame=one.frame,
                        item_id=names[one.frame],
                        target=one.target,
                        picture=encode_png(as_uint8(picture)),
                        heatmap=encode_png(as_uint8((heat * 255).round().astype("uint8"))),
                        overlay=encode_png(overlay(picture, heat)),
                    )
                )
        return Explained(heatmaps=tuple(maps))

    def _said(self, part: int, key: ItemKey, outcome: Outcome) -> dict[str, Any]:
        return {
            "part": part,
            "item_id": key.item_id,
            "subject_id": key.subject_id,
            "study_id": key.study_id,
            "frame": key.frame,
            **status(outcome),
            "scores": said(outcome.scores, self._thresholds),
        }
