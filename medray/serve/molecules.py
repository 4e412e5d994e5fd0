"""Molecules online: SMILES in, scores out, what each atom added on request."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from medray.errors import UsageError
from medray.molecules.drawing import svg
from medray.molecules.text import as_bytes
from medray.package import Package
from medray.score.molecules import Molecules
from medray.score.predictor import Predictor
from medray.score.structures import Given, StructureRow, prediction, read_row, scored
from medray.serve.asked import Explained, Request
from medray.serve.messages import Structures, parsed
from medray.serve.model import not_read, thresholds
from medray.serve.problems import unprocessable
from medray.workload import AtomCredits


class Asked(NamedTuple):
    """The structures of one request in standard form, or why they have none."""

    rows: tuple[StructureRow, ...]


class MoleculesModel:
    """A package that judges molecules."""

    def __init__(self, package: str, device: str = "cpu") -> None:
        self._molecules = Molecules(Predictor(package, device))
        self._thresholds = thresholds(self.package)

    @property
    def package(self) -> Package:
        """What answers."""
        return self._molecules.predictor.package

    def read(self, request: Request) -> Asked:
        """Bring every structure into standard form. Raises ProblemError."""
        if len(request.parts) != 1 or request.parts[0].kind != "json":
            raise not_read(self.package, "molecules")
        given = parsed(request.parts[0].data, Structures).smiles
        return Asked(tuple(read_row(self._molecules.spec, Given(one, one)) for one in given))

    def answer(self, several: Sequence[Asked]) -> list[dict[str, Any]]:
        """An object per structure, in order; what is none is refused with its reason."""
        scores = scored(self._molecules, [row for one in several for row in one.rows])
        kept = ("smiles", "item_id", "status", "reason", "scores")
        told: list[dict[str, Any]] = []
        for one in several:
            each: list[dict[str, Any]] = []
            for part, row in enumerate(prediction(self._molecules, one.rows, scores).dicts()):
                for score in row["scores"]:
                    score["threshold"] = self._thresholds.get(score["target"])
                each.append({"part": part, "detail": "", **{name: row[name] for name in kept}})
            told.append({"predictions": each})
        return told

    def explain(self, asked: Asked, target: str | None) -> Explained:
        """What each atom added to the answer for a target. Raises ProblemError."""
        predictor = self._molecules.predictor
        told: list[dict[str, Any]] = []
        drawings: dict[str, str] = {}
        for part, row in enumerate(asked.rows):
            if row.standard is None:
                continue
            smiles = row.standard.smiles
            try:
                chosen, credits = predictor.explain_columns({"smiles": as_bytes([smiles])}, target)
            except UsageError as error:
                raise unprocessable("no-such-target", error) from None
            if not isinstance(credits, AtomCredits):
                raise unprocessable(
                    "not-explained",
                    UsageError(f"{self.package.ref} does not explain molecules"),
                )
            atoms = [float(value) for value in credits.atoms[0]]
            told.append({"part": part, "smiles": smiles, "target": chosen, "atoms": atoms})
            drawings[smiles] = svg(smiles, credits.atoms[0])
        return Explained({"explanations": told}, drawings=drawings)
