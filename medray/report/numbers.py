"""The numbers of a result as lists: for the model card, and for sums over folds.

Owns which numbers stand for a result; formats nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from medray.report.document import BinaryResult, MulticlassResult, TargetResult
from medray.report.elements import Estimate
from medray.report.outcomes import ForecastResult, SurvivalResult
from medray.report.values import ValueResult

NETWORK: Final = "the network"


@dataclass(frozen=True, slots=True)
class Row:
    """One number with its interval. `percent`: people read it as a share of 100."""

    name: str
    estimate: Estimate | None
    percent: bool = False


def rows(result: TargetResult) -> Iterator[Row]:
    """Every number of a result that a reader of the model card wants."""
    yield from _ROWS[result.kind](result)


def by_model(result: TargetResult) -> Mapping[tuple[str, str], float | None]:
    """(model, measure) → value, the network's first; what is averaged over folds."""
    return _BY_MODEL[result.kind](result)


def _plain(value: float | None) -> Estimate:
    return Estimate(value=value)


def _binary_rows(result: BinaryResult) -> Iterator[Row]:
    yield Row("AUROC", result.auroc)
    yield Row("AUPRC", result.auprc)
    if result.operating is not None:
        point = result.operating
        yield Row(f"Sensitivity at p ≥ {point.threshold:.4g}", point.sensitivity, percent=True)
        yield Row("Specificity", point.specificity, percent=True)
        for at in (point.here, point.elsewhere):
            if at is not None:
                share = f"{100 * at.prevalence:.1f} %"
                yield Row(f"PPV at prevalence {share}", at.ppv, percent=True)
                yield Row(f"NPV at prevalence {share}", at.npv, percent=True)
    if result.calibration is not None:
        yield Row("Expected calibration error", _plain(result.calibration.after.ece))
        yield Row("Brier score", _plain(result.calibration.after.brier))


def _multiclass_rows(result: MulticlassResult) -> Iterator[Row]:
    yield Row("Accuracy", result.accuracy, percent=True)
    yield Row("Balanced accuracy", result.balanced_accuracy, percent=True)
    yield Row("Macro AUROC", result.macro_auroc)
    if result.calibration is not None:
        yield Row("Expected calibration error", _plain(result.calibration.after.ece))
        yield Row("Brier score", _plain(result.calibration.after.brier))


def _survival_rows(result: SurvivalResult) -> Iterator[Row]:
    yield Row("Harrell’s C", result.harrell)
    yield Row("Antolini’s C", _plain(result.antolini))
    yield Row("Integrated Brier score", _plain(result.integrated_brier))
    yield Row("… of everybody’s risk alike", _plain(result.integrated_brier_null))
    for at in result.horizons:
        yield Row(f"Uno’s C up to {at.horizon_days:g} days", at.uno)
        yield Row(f"AUC at {at.horizon_days:g} days", at.auc)
        yield Row(f"Brier score at {at.horizon_days:g} days", _plain(at.brier))


def _forecast_rows(result: ForecastResult) -> Iterator[Row]:
    for at in result.horizons:
        yield Row(f"Mean error at {at.horizon_days:g} days", at.error)
        yield Row(f"Coverage at {at.horizon_days:g} days", at.coverage, percent=True)
        yield Row(f"Pinball loss at {at.horizon_days:g} days", _plain(at.pinball))


def _value_rows(result: ValueResult) -> Iterator[Row]:
    yield Row("RMSE", result.rmse)
    yield Row("MAE", result.mae)
    yield Row("R²", result.r_squared)
    yield Row("Pearson’s r", result.pearson)
    yield Row("Spearman’s ρ", result.spearman)
    if result.wanted is not None:
        said = f"Inside the interval that should hold {100 * result.wanted:.0f} %"
        yield Row(said, result.coverage, percent=True)
        yield Row("Mean width of the interval", _plain(result.width))


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


def _binary_models(result: BinaryResult) -> dict[tuple[str, str], float | None]:
    found = {
        (NETWORK, "AUROC"): _value(result.auroc),
        (NETWORK, "AUPRC"): _value(result.auprc),
        (NETWORK, "Brier"): result.calibration.after.brier if result.calibration else None,
    }
    for row in result.baselines:
        found[row.name, "AUROC"] = _value(row.auroc)
        found[row.name, "AUPRC"] = _value(row.auprc)
        found[row.name, "Brier"] = row.brier
    return found


def _multiclass_models(result: MulticlassResult) -> dict[tuple[str, str], float | None]:
    return {
        (NETWORK, "accuracy"): _value(result.accuracy),
        (NETWORK, "macro AUROC"): _value(result.macro_auroc),
    }


def _survival_models(result: SurvivalResult) -> dict[tuple[str, str], float | None]:
    found: dict[tuple[str, str], float | None] = {}
    days = [at.horizon_days for at in result.horizons]
    for model in (one for one in result.models if not one.note):
        for horizon, uno, brier in zip(days, model.uno, model.brier, strict=True):
            found[model.name, f"Uno’s C up to {horizon:g} days"] = uno
            found[model.name, f"Brier at {horizon:g} days"] = brier
        found[model.name, "integrated Brier"] = model.integrated_brier
        found[model.name, "Harrell’s C"] = model.harrell
        found[model.name, "Antolini’s C"] = model.antolini
    return found


def _forecast_models(result: ForecastResult) -> dict[tuple[str, str], float | None]:
    found: dict[tuple[str, str], float | None] = {}
    days = [at.horizon_days for at in result.horizons]
    for model in (one for one in result.models if not one.note):
        for index, horizon in enumerate(days):
            found[model.name, f"mean error at {horizon:g} days"] = model.error[index]
            found[model.name, f"pinball at {horizon:g} days"] = model.pinball[index]
            found[model.name, f"coverage at {horizon:g} days"] = model.coverage[index]
    return found


def _value_models(result: ValueResult) -> dict[tuple[str, str], float | None]:
    found: dict[tuple[str, str], float | None] = {}
    for model in (one for one in result.models if not one.note):
        found[model.name, "RMSE"] = _value(model.rmse)
        found[model.name, "MAE"] = _value(model.mae)
        found[model.name, "R²"] = _value(model.r_squared)
    return found


_ROWS: Mapping[str, Callable[[Any], Iterator[Row]]] = {
    "binary": _binary_rows,
    "multiclass": _multiclass_rows,
    "survival": _survival_rows,
    "quantiles": _forecast_rows,
    "value": _value_rows,
}
_BY_MODEL: Mapping[str, Callable[[Any], Mapping[tuple[str, str], float | None]]] = {
    "binary": _binary_models,
    "multiclass": _multiclass_models,
    "survival": _survival_models,
    "quantiles": _forecast_models,
    "value": _value_models,
}
