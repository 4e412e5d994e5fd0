"""Files of tables → scores, in this process: the verb `predict` for a package of records."""

from collections.abc import Sequence

from medray.errors import UsageError
from medray.ingest import sources, tables
from medray.ingest.parts import Row
from medray.ingest.scans import check_pseudonyms
from medray.privacy.pseudonyms import load_key
from medray.score.prediction import TablesPrediction
from medray.score.predictor import Predictor
from medray.score.timelines import Timelines
from medray.spec.records import RecordSource, RecordsSpec


def predict_tables(
    predictor: Predictor,
    paths: Sequence[str],
    *,
    explain: str | None,
    every: bool,
    source: int | None,
) -> TablesPrediction:
    """Score all patients of some tables; a patient may stand in several of them.

    every   at all times that the task learns from, instead of the latest.
    source  which of `records.sources` the files have the form of, from 1; absent: told by their
            columns.
    Raises UsageError for a file that is not there, or that no source describes.
    """
    if explain is not None:
        raise UsageError(
            f"--explain draws heat maps of pictures; {predictor.package.ref} predicts from records",
            remedy="leave --explain out",
        )
    timelines = Timelines(predictor)
    records = _sources(timelines.records, paths, source)
    key = load_key()
    check_pseudonyms(records, key)
    found = tables.read(sources.units_of(records), records, key)
    rows = timelines.predict(found.events, "all" if every else "latest", found.silent)
    return TablesPrediction(
        package=predictor.package.ref,
        rows=tuple(rows),
        events=found.events.num_rows,
        refused=found.refused,
        unknown=timelines.unknown(found.codes),
        time_unit=timelines.time_unit,
    )


def _sources(records: RecordsSpec, paths: Sequence[str], source: int | None) -> RecordsSpec:
    """The package's settings with these files in the place of its own."""
    forms = records.sources
    if source is not None and source > len(forms):
        raise UsageError(
            f"the package has {len(forms)} sources, no number {source}", remedy=_named(forms)
        )
    if source is not None or len(forms) == 1:
        chosen = [_with(forms[(source or 1) - 1], paths)]
    else:
        chosen = [_with(_form(forms, path), [path]) for path in paths]
    return records.model_copy(update={"sources": tuple(chosen)})


def _with(form: RecordSource, paths: Sequence[str]) -> RecordSource:
    return form.model_copy(update={"path": tuple(paths)})


def _form(forms: Sequence[RecordSource], path: str) -> RecordSource:
    """The only form whose columns a file, or each file of a folder, has."""
    fitting = [form for form in forms if _fits(form, path)]
    if len(fitting) != 1:
        raise UsageError(
            f"{path} has the columns of {len(fitting)} of the package's sources",
            remedy=f"say with --source which it is: {_named(forms)}",
        )
    return fitting[0]


def _fits(form: RecordSource, path: str) -> bool:
    spec = RecordsSpec(sources=(_with(form, [path]),))
    units: list[Row] = sources.units_of(spec)
    try:
        for unit in units:
            next(sources.read(unit, form, {}, ()), None)
    except UsageError:
        return False
    return True


def _named(forms: Sequence[RecordSource]) -> str:
    """Say what the sources look like, for people to choose."""
    said = [
        f"{number}: {form.format} ({', '.join(filter(None, (form.subject, form.time)))}, …)"
        for number, form in enumerate(forms, 1)
    ]
    return "; ".join(said)
