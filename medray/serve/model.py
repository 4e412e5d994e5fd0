"""Models that answer questions: the Predictor, and what a request needs around it. No HTTP."""

from functools import partial
from typing import Any, Protocol

from medray.errors import UsageError
from medray.ingest import tables
from medray.ingest.shards import subject_number
from medray.package import Package, open_package
from medray.privacy.pseudonyms import load_key
from medray.records.events import normalise
from medray.score.molecules import Molecules
from medray.score.prediction import TablesPrediction
from medray.score.predictor import Predictor
from medray.score.structures import Given, answered
from medray.score.timelines import Asked, Timelines
from medray.serve.messages import Question, Structures, moments_of, name_of, parsed, table_of
from medray.spec.records import RecordSource

_MEDS = RecordSource(format="meds", path=())


class Model(Protocol):
    """One loaded package. A question is answered as `medray predict` does: the same refusals,
    pseudonyms and scores."""  # noqa: D205, D209

    @property
    def package(self) -> Package:
        """What answers."""
        ...

    def question(self, body: bytes) -> Any:
        """Read a request. Raises ProblemError."""
        ...

    def answer(self, question: Any) -> dict[str, Any]:
        """Answer a request that was read. Raises ProblemError."""
        ...


def open_model(package: str, device: str = "cpu") -> Model:
    """Load a package. Raises UsageError for one of images: these are not asked about online."""
    reads = open_package(package).reads
    if reads not in _MODELS:
        raise UsageError(
            f"a package of {reads} is not served",
            remedy="medray predict and medray score take files of images",
        )
    return _MODELS[reads](package, device)


class MoleculesModel:
    """A package of molecules: SMILES in, scores out."""

    def __init__(self, package: str, device: str = "cpu") -> None:
        self._molecules = Molecules(Predictor(package, device))
        self.package = self._molecules.predictor.package

    def question(self, body: bytes) -> Structures:
        """Read a request. Raises ProblemError."""
        return parsed(body, Structures)

    def answer(self, question: Structures) -> dict[str, Any]:
        """An object per molecule, in order; what is none is refused with its reason."""
        told = answered(self._molecules, [Given(one, one) for one in question.smiles])
        kept = ("smiles", "item_id", "status", "reason", "scores")
        each = [{name: one[name] for name in kept} for one in told.dicts()]
        return {"package": self.package.ref, "predictions": each}


class RecordsModel:
    """A package of patients' records: events in, scores out, by pseudonym."""

    def __init__(self, package: str, device: str = "cpu") -> None:
        self._timelines = Timelines(Predictor(package, device))
        self._key = load_key()
        self._records = self._timelines.records
        self._static = frozenset(code for source in self._records.sources for code in source.static)
        self.package = self._timelines.predictor.package

    def question(self, body: bytes) -> Question:
        """Read a request. Raises ProblemError."""
        return parsed(body, Question)

    def answer(self, question: Question) -> dict[str, Any]:
        """Scores of every item, and what of the events was not read. Raises ProblemError.

        `subject` of a prediction counts patients in the order the request first names them, so that
        the caller finds them again: answers carry pseudonyms only.
        """
        unit = self._timelines.time_unit
        table = table_of(question.events, unit, self._static)
        asked: Asked = "latest"
        named = [name_of(event) for event in question.events]
        if question.prediction_times is not None:
            moments = moments_of(question.prediction_times, unit)
            named += [name for name, _ in moments]
            times: dict[str, list[int]] = {}
            for name, micros in moments:
                times.setdefault(self._subject(name), []).append(micros)
            asked = times
        batch = normalise(table, _MEDS, self._records.codes, self._records.drop)
        alone = {"source": 0, "file": 0}
        found = tables.collect([(batch, partial(subject_number, self._key), alone)])
        rows = self._timelines.predict(found.events, asked, found.silent)
        numbers = {self._subject(name): at for at, name in enumerate(dict.fromkeys(named))}
        told = TablesPrediction(
            package=self.package.ref,
            rows=tuple(rows),
            events=found.events.num_rows,
            refused=found.refused,
            unknown=self._timelines.unknown(found.codes),
        )
        *items, counts = told.dicts()
        items = [{"subject": numbers[item["subject_id"]], **item} for item in items]
        items.sort(key=lambda item: item["subject"])
        return {**counts, "predictions": items}

    def _subject(self, name: str) -> str:
        return str(subject_number(self._key, name))


_MODELS = {"records": RecordsModel, "molecules": MoleculesModel}
