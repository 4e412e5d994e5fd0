"""Patients' records online: events in, scores by pseudonym out, the part of each event on request.

A request names patients as its sender does. Nothing that it says of them comes back: answers carry
pseudonyms, and number the patients in the order in which the request first names them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from medray.errors import DataError, UsageError
from medray.ingest import tables
from medray.ingest.shards import subject_number
from medray.package import Package
from medray.privacy.pseudonyms import load_key
from medray.records.events import Batch, normalise
from medray.records.fhir import normalise as normalise_fhir
from medray.report.timeline import timeline_svg
from medray.score.explanation import explain_item
from medray.score.predictor import Predictor
from medray.score.timelines import Asked, Prepared, Timelines
from medray.serve import fhir
from medray.serve.asked import Explained, Request
from medray.serve.messages import Question, moments_of, name_of, parsed, table_of
from medray.serve.model import not_read, said, thresholds
from medray.serve.problems import ProblemError, unprocessable
from medray.spec.records import RecordSource

_MEDS = RecordSource(format="meds", path=())


class Patients(NamedTuple):
    """The events of one request, cut into items.

    numbers  pseudonym → place in the request. counts: what of the events was read.
    """

    prepared: Prepared
    numbers: Mapping[str, int]
    counts: Mapping[str, Any]


class _Given(NamedTuple):
    """What a request says, whichever way: events, patients in its order, when to predict."""

    batch: Batch
    named: Sequence[str]
    asked: Asked
    counts: Mapping[str, Any]


class RecordsModel:
    """A package of patients' records."""

    def __init__(self, package: str, device: str = "cpu") -> None:
        self._timelines = Timelines(Predictor(package, device))
        self._key = load_key()
        self._records = self._timelines.records
        self._static = frozenset(code for source in self._records.sources for code in source.static)
        self._thresholds = thresholds(self.package)

    @property
    def package(self) -> Package:
        """What answers."""
        return self._timelines.predictor.package

    def read(self, request: Request) -> Patients:
        """Read events in MEDS or FHIR, by pseudonym. Raises ProblemError."""
        if len(request.parts) != 1 or request.parts[0].kind == "file":
            raise not_read(self.package, "records")
        (part,) = request.parts
        given = self._fhir(part.data) if part.kind == "fhir" else self._meds(part.data)
        alone = {"source": 0, "file": 0}
        found = tables.collect([(given.batch, partial(subject_number, self._key), alone)])
        return Patients(
            prepared=self._timelines.prepare(found.events, given.asked, found.silent),
            numbers={self._subject(name): at for at, name in enumerate(dict.fromkeys(given.named))},
            counts={
                "events": found.events.num_rows,
                "refused": dict(found.refused),
                "unknown_codes": self._timelines.unknown(found.codes),
                **given.counts,
            },
        )

    def _meds(self, body: bytes) -> _Given:
        unit = self._timelines.time_unit
        question = parsed(body, Question)
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
        return _Given(batch, named, asked, {})

    def _fhir(self, body: bytes) -> _Given:
        unit = self._timelines.time_unit
        if unit != "timestamp":
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "invalid-time",
                f"the model's records count {unit} from the patient's own start, and FHIR has "
                "dates: send events as application/json",
            )
        found = fhir.resources(body)
        batch = normalise_fhir(found.lines, self._records.codes, self._records.drop)
        return _Given(batch, found.patients, "latest", {"not_used": dict(batch.not_used)})

    def answer(self, several: Sequence[Patients]) -> list[dict[str, Any]]:
        """An object per patient and moment, and what of the events was not read."""
        answers = self._timelines.answer([one.prepared for one in several])
        told: list[dict[str, Any]] = []
        for one, rows in zip(several, answers, strict=True):
            each: list[dict[str, Any]] = []
            for _, group in groupby(rows, lambda row: row.item_id):
                mine = list(group)
                first = mine[0].to_dict()
                names = ("item_id", "subject_id", "prediction_time", "status", "reason")
                scored = [row for row in mine if row.status == "ok"]
                each.append(
                    {
                        "subject": one.numbers[first["subject_id"]],
                        **{name: first[name] for name in names},
                        "detail": "",
                        "scores": said(scored, self._thresholds),
                    }
                )
            each.sort(key=lambda item: item["subject"])
            told.append({**one.counts, "predictions": each})
        return told

    def explain(self, asked: Patients, target: str | None) -> Explained:
        """The part of each event in the latest prediction for every patient. Raises ProblemError.

        A patient of whom the model says nothing is left out.
        """
        items = asked.prepared.items
        read_M = self._timelines.reads(items)
        latest: dict[str, int] = {}
        for row in np.argsort(np.asarray(items["prediction_time"]), kind="stable").tolist():
            if read_M[row]:
                latest[str(items["subject_id"][row])] = row
        named = {
            **items,
            "item_id": np.array(
                [
                    f"{who}@{when}"
                    for who, when in zip(items["subject_id"], items["prediction_time"], strict=True)
                ],
                object,
            ),
        }
        told: list[dict[str, Any]] = []
        drawings: dict[str, str] = {}
        for subject, row in sorted(latest.items(), key=lambda pair: asked.numbers[pair[0]]):
            try:
                found = explain_item(self._timelines.predictor, named, row, target)
            except UsageError as error:
                raise unprocessable("no-such-target", error) from None
            except DataError:
                continue
            told.append({"subject": asked.numbers[subject], **found.model_dump(mode="json")})
            drawings[found.item_id] = timeline_svg(found)
        return Explained({"explanations": told}, drawings=drawings)

    def _subject(self, name: str) -> str:
        return str(subject_number(self._key, name))
