"""Scores → an Enhanced SR in the study of their images: TID 1500, a group for each score.

Codes are DICOM's and SNOMED CT's. Only what a package predicts has none of its own there: it is
named in the scheme 99MEDRAY, by a value drawn from the name.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pydicom.uid import EnhancedSRStorage

from medray.deliver.source import (
    MAKER,
    RESEARCH_USE,
    Algorithm,
    Source,
    add_equipment,
    add_patient_and_study,
    encoded,
    moment,
)
from medray.deliver.uids import uid
from medray.errors import UsageError

if TYPE_CHECKING:
    from highdicom.sr import (
        CodedConcept,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
    )

SERIES_NUMBER = 9901
SCHEME = "99MEDRAY"
SCHEME_UID = "2.25.146337293172264733209853229937463720457"
COMMENT = (
    f"{RESEARCH_USE}: the output of a statistical model, not reviewed by a physician and not for "
    "diagnosis or treatment."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A calibrated probability.

    text_value  the class, of a target that has several.
    decision    at `threshold`; both None where nothing is decided upon.
    """

    target: str
    text_value: str | None
    score: float
    decision: bool | None = None
    threshold: float | None = None

    @property
    def said_of(self) -> str:
        """What is probable, in words."""
        return self.target if self.text_value is None else f"{self.target} = {self.text_value}"


@dataclass(frozen=True, slots=True)
class Item:
    """What is said of one frame, counted from 0, of an instance."""

    source: Source
    frame: int
    answers: tuple[Answer, ...]


def structured_reports(
    items: Sequence[Item], by: Algorithm, key: bytes, created: datetime | None = None
) -> list[bytes]:
    """One report for each study, in the order in which the items first name one, as DICOM files.

    The same instances give the same UIDs, in any order. created: absent: now.
    Raises UsageError when there is nothing to report.
    """
    if not any(item.answers for item in items):
        raise UsageError("there is no score to report")
    studies: dict[str, list[Item]] = {}
    for item in items:
        if item.answers:
            studies.setdefault(item.source.study_instance_uid, []).append(item)
    return [_report(each, by, key, created) for each in studies.values()]


def measurement_groups(
    item: Item, by: Algorithm, key: bytes
) -> "list[MeasurementsAndQualitativeEvaluations]":
    """TID 1501 of each answer: what is probable, how much, and what is decided."""
    return [_group(item, answer, by, key) for answer in item.answers]


def _group(
    item: Item, answer: Answer, by: Algorithm, key: bytes
) -> "MeasurementsAndQualitativeEvaluations":
    from highdicom import sr
    from pydicom.sr.codedict import codes

    source = item.source
    of = "\0".join((source.sop_instance_uid, str(item.frame), answer.said_of))
    where = f", frame {item.frame + 1}" if source.frames > 1 else ""
    tracked = uid(key, "tracking", by.digest, (of,))
    frames = [item.frame + 1] if source.many else None
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(tracked, f"{answer.said_of}{where}"),
        finding_type=_own("target", answer.said_of),
        algorithm_id=sr.AlgorithmIdentification(
            by.name,
            by.version,
            parameters=[f"package digest {by.digest}"],
            family=codes.DCM.ArtificialIntelligence,
        ),
        measurements=_measurements(answer),
        qualitative_evaluations=_decision(answer),
        source_images=[
            sr.SourceImageForMeasurementGroup(source.sop_class_uid, source.sop_instance_uid, frames)
        ],
    )


def _measurements(answer: Answer) -> "list[Measurement]":
    from highdicom import sr
    from pydicom.sr.codedict import codes

    made = [sr.Measurement(codes.DCM.Probability, answer.score, codes.UCUM.NoUnits)]
    if answer.threshold is not None:
        value = sr.Measurement(codes.DCM.ThresholdValue, answer.threshold, codes.UCUM.NoUnits)
        made.append(value)
    return made


def _decision(answer: Answer) -> "list[QualitativeEvaluation] | None":
    from highdicom import sr
    from pydicom.sr.codedict import codes

    if answer.decision is None:
        return None
    value = codes.SCT.Positive if answer.decision else codes.SCT.Negative
    name = _own("concept", "Decision at the threshold")
    return [sr.QualitativeEvaluation(name, value)]


def _own(kind: str, meaning: str) -> "CodedConcept":
    """A code of 99MEDRAY; a value has at most 16 characters, a meaning 64 (PS3.3 table 8.8-1)."""
    from highdicom import sr

    value = hashlib.sha256(f"{kind}\0{meaning}".encode()).hexdigest()[:16]
    return sr.CodedConcept(value, SCHEME, meaning[:64])


def _report(items: Sequence[Item], by: Algorithm, key: bytes, created: datetime | None) -> bytes:
    """SR Document Series and General modules around the content (PS3.3 C.17.1, C.17.2)."""
    sources = {item.source.sop_instance_uid: item.source for item in items}
    first = items[0].source
    made: Any = Dataset()
    add_patient_and_study(made, first)
    add_equipment(made, by)
    made.SOPClassUID = EnhancedSRStorage
    made.SOPInstanceUID = uid(key, "report", by.digest, tuple(sources))
    made.SeriesInstanceUID = uid(key, "reports", by.digest, (first.study_instance_uid,))
    made.Modality, made.SeriesNumber, made.InstanceNumber = "SR", SERIES_NUMBER, 1
    made.ContentDate, made.ContentTime = when = moment(first, created)
    made.InstanceCreationDate, made.InstanceCreationTime = when
    made.CompletionFlag, made.VerificationFlag = "COMPLETE", "UNVERIFIED"
    made.PreliminaryFlag = "PRELIMINARY"
    made.CodingSchemeIdentificationSequence = [_scheme()]
    made.CurrentRequestedProcedureEvidenceSequence = [_evidence(tuple(sources.values()))]
    made.PerformedProcedureCodeSequence = []
    made.ReferencedPerformedProcedureStepSequence = []
    made.update(_content(items, by, key))
    return encoded(made)


def _scheme() -> Dataset:
    """PS3.3 C.12.1."""
    made = Dataset()
    made.CodingSchemeDesignator, made.CodingSchemeUID = SCHEME, SCHEME_UID
    made.CodingSchemeName = "What medray's packages predict"
    made.CodingSchemeResponsibleOrganization = MAKER
    return made


def _evidence(sources: Sequence[Source]) -> Dataset:
    """The instances of one study, by series (PS3.3 table C.17-3)."""
    by_series: dict[str, list[Dataset]] = {}
    for source in sources:
        instance = Dataset()
        instance.ReferencedSOPClassUID = source.sop_class_uid
        instance.ReferencedSOPInstanceUID = source.sop_instance_uid
        by_series.setdefault(source.series_instance_uid, []).append(instance)
    made = Dataset()
    made.StudyInstanceUID = sources[0].study_instance_uid
    made.ReferencedSeriesSequence = []
    for name, instances in by_series.items():
        series = Dataset()
        series.SeriesInstanceUID, series.ReferencedSOPSequence = name, instances
        made.ReferencedSeriesSequence.append(series)
    return made


def _content(items: Sequence[Item], by: Algorithm, key: bytes) -> Dataset:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    device = sr.DeviceObserverIdentifyingAttributes(
        uid=uid(key, "device", by.digest, ()),
        name=MAKER,
        manufacturer_name=MAKER,
        model_name=f"{by.name}@{by.version}",
        serial_number=by.digest[:64],
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(codes.DCM.Device, device)
        ),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=[
            group for item in items for group in measurement_groups(item, by, key)
        ],
    )
    root: Dataset = report[0]
    root.ContentSequence.append(
        sr.TextContentItem(codes.DCM.Comment, COMMENT, sr.RelationshipTypeValues.CONTAINS)
    )
    return root
