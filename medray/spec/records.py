"""Where patient records come from and how their rows become events: the `records:` section."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from medray.spec.base import Section

TimeUnit = Literal["timestamp", "seconds", "minutes", "hours", "days", "years"]
MICROSECONDS: dict[TimeUnit, float] = {
    "seconds": 1e6,
    "minutes": 60e6,
    "hours": 3600e6,
    "days": 86400e6,
    "years": 365.25 * 86400e6,
}


class CodeSpec(Section):
    """What is known of one code before any data is seen.

    unit      the unit its values are in; a row of a `unit` column that names another is rejected
              (`wrong_unit`) unless it stands in `convert`.
    convert   other unit → factor to multiply with (e.g. µmol/L → 0.0113 for creatinine in mg/dL).
    low, high values outside are rejected (`implausible_value`).
    missing   values that the source writes for "not measured" (e.g. -1): counted, left out.
    """

    unit: str | None = None
    convert: dict[str, float] = Field(default={})
    low: float | None = None
    high: float | None = None
    missing: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.convert and self.unit is None:
            raise ValueError("`convert` needs `unit`: what values are converted to")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("`low` is above `high`")
        return self


class RecordSource(Section):
    """One kind of file that holds patients' records.

    format    meds: MEDS 0.4 (subject_id, time, code, numeric_value, text_value).
              long: a row per event, columns named below. wide: a row per visit, a column per code.
              fhir: resources of FHIR R4, one a line (NDJSON bulk export; see medray.records.fhir).
              omop: tables of the OMOP Common Data Model 5.4 by their names, person and
              measurement for two (see medray.records.omop). Units of these two are compared by
              either of their names: UCUM code or word, concept or source value.
    path      CSV or Parquet files (fhir: .ndjson, .jsonl, .gz of them), or folders of them; local,
              s3:// or gs:// (one or several).
    subject   the column that names the patient (or stay).
    time      its time; absent, or empty in a row: a fact without time (sex, a birth weight).
    time_unit `timestamp`: dates and times; else numbers counted from the patient's own start.
    code, value, unit   long: the columns of the code, its value, and the value's unit.
    columns   wide: the columns that become events; absent: all others.
    static    wide: columns that are facts without time; long: codes that are.
    birth     the column that holds the date of birth; times before it are rejected.
    pseudonyms  long: the subjects are pseudonyms of this hospital's key already, as in what
              `medray embed` writes of a dataset of images.
    """

    format: Literal["meds", "long", "wide", "fhir", "omop"]
    path: tuple[str, ...]
    subject: str = "subject_id"
    time: str | None = "time"
    time_unit: TimeUnit = "timestamp"
    code: str = "code"
    value: str = "numeric_value"
    unit: str | None = None
    columns: tuple[str, ...] | None = None
    static: tuple[str, ...] = ()
    birth: str | None = None
    pseudonyms: bool = False

    @field_validator("path", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _columns_belong_to_wide(self) -> Self:
        if self.columns is not None and self.format != "wide":
            raise ValueError("`columns` belongs to the wide form")
        if self.format in ("meds", "fhir", "omop") and (named := self._named_columns()):
            form = self.format.upper()
            raise ValueError(f"the columns of {form} are its own: leave out {', '.join(named)}")
        if self.pseudonyms and self.format != "long":
            raise ValueError("`pseudonyms` belongs to the long form")
        if self.birth is not None and self.time is not None and self.time_unit != "timestamp":
            raise ValueError("`birth` is a date: it needs `time_unit: timestamp`")
        return self

    def _named_columns(self) -> list[str]:
        """What was said of columns that differs from what holds when nothing is said."""
        fields = type(self).model_fields
        return [
            name
            for name in fields
            if name not in ("format", "path") and getattr(self, name) != fields[name].default
        ]


class SubjectTable(Section):
    """A CSV or Parquet table of facts about patients: outcomes, follow-up, the official split.

    Its columns can be named by tasks, by `split.column` and by `evaluate.subgroups`. Rows of one
    patient must agree.
    """

    path: str
    key: str
    columns: tuple[str, ...] | None = None
    required: bool = False


class RecordsSpec(Section):
    """From tables to a dataset of timelines.

    codes         what is known of codes: units, plausible ranges, what stands for missing.
    drop          codes that are not events (identifiers, the outcome itself).
    tables        facts about patients, joined by the same name as `subject`.
    shards        Parquet files the events are spread over; one patient stands in one of them.
                  Absent: as many as give each about 260,000 events.
    reject_limit  rejected share of the rows above which the run ends with exit code 3.
    """

    sources: tuple[RecordSource, ...] = Field(min_length=1)
    codes: dict[str, CodeSpec] = Field(default={})
    drop: tuple[str, ...] = ()
    tables: tuple[SubjectTable, ...] = ()
    shards: int | None = Field(default=None, ge=1, le=4096)
    reject_limit: float = Field(default=0.05, ge=0, le=1)

    @model_validator(mode="after")
    def _one_kind_of_time(self) -> Self:
        timed = [source for source in self.sources if source.time is not None]
        if len({source.time_unit == "timestamp" for source in timed}) > 1:
            raise ValueError("one source has dates, another times from the patient's own start")
        return self
