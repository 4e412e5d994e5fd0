"""A model that answers questions: the Predictor, and what a request needs around it. No HTTP."""

from functools import partial
from typing import Any

from medray.ingest import tables
from medray.ingest.shards import subject_number
from medray.privacy.pseudonyms import load_key
from medray.records.events import normalise
from medray.score.prediction import TablesPrediction
from medray.score.predictor import Predictor
from medray.score.timelines import Asked, Timelines
from medray.serve.messages import Question, moments_of, name_of, table_of
from medray.spec.records import RecordSource

_MEDS = RecordSource(format="meds", path=())


class Model:
    """One loaded package of records. Raises PackageError for one of images.

    A question is answered as `medray predict` does: the same refusals, pseudonyms and scores.
    """

    def __init__(self, package: str, device: str = "cpu") -> None:
        self._timelines = Timelines(Predictor(package, device))
        self._key = load_key()
        self._records = self._timelines.records
        self._static = frozenset(code for source in self._records.sources for code in source.static)
        self.package = self._timelines.predictor.package

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
