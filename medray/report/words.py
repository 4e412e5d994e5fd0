"""Numbers and results as people read them: the page and the card say the same.

Owns rounding and wording. A missing number is an en dash, never 0 or "nan".
"""

from dataclasses import dataclass

from medray.report.document import (
    BinaryResult,
    Estimate,
    MulticlassResult,
    OperatingResult,
    Report,
    TargetResult,
)
from medray.report.outcomes import ForecastResult, SurvivalResult
from medray.report.values import ValueResult

MISSING = "–"


def decimal(value: float | None, digits: int = 3) -> str:
    """0.912; the digits stay, so that columns align."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "−")


def percent(value: float | None, digits: int = 1) -> str:
    """87.5 %; the digits stay, so that columns align."""
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def value_text(estimate: Estimate, *, as_percent: bool = False, coarse: bool = False) -> str:
    """Give the value alone; `coarse`: with two digits only."""
    if as_percent:
        return percent(estimate.value, 0 if coarse else 1)
    return decimal(estimate.value, 2 if coarse else 3)


def bounds_text(
    estimate: Estimate | None, *, as_percent: bool = False, coarse: bool = False
) -> str:
    """Give the bounds alone, "0.871–0.949"; empty where there are none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    if as_percent:
        digits = 0 if coarse else 1
        return f"{100 * estimate.low:.{digits}f}–{100 * estimate.high:.{digits}f}"
    digits = 2 if coarse else 3
    return f"{decimal(estimate.low, digits)}–{decimal(estimate.high, digits)}"


def with_bounds(estimate: Estimate | None, *, as_percent: bool = False) -> str:
    """Value and bounds in one string: "0.912 (0.871–0.949)" or "87.5 % (81.0–92.1)"."""
    if estimate is None or estimate.value is None:
        return MISSING
    head = value_text(estimate, as_percent=as_percent)
    bounds = bounds_text(estimate, as_percent=as_percent)
    return f"{head} ({bounds})" if bounds else head


def along(value: float, origin: float) -> str:
    """Place of a value on a line of 100 units from `origin` to 1; values below are cut off."""
    return f"{100 * max(0.0, value - origin) / (1 - origin):.1f}"


def of_100(value: float | None) -> str:
    """Share as a whole number of 100, saying "fewer than 1" rather than a wrong 0."""
    if value is None:
        return MISSING
    if 0 < value < 0.005:
        return "fewer than 1"
    return "more than 99" if 0.995 <= value < 1 else str(round(100 * value))


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence of the summary: "Of 100 {whom}, {many} {what}", with the bounds of `many`."""

    whom: str
    many: str
    what: str
    bounds: str
    share: float | None
    good: bool


def statements(operating: OperatingResult, unit: str) -> list[Statement]:
    """Say what the operating point means for 100 patients (or images) with and without."""
    sensitivity, specificity = operating.sensitivity, operating.specificity
    alarms = _complement(specificity)
    return [
        Statement(
            f"{unit} with the finding",
            of_100(sensitivity.value),
            "are flagged",
            _bounds_of_100(sensitivity),
            sensitivity.value,
            good=True,
        ),
        Statement(
            f"{unit} without it",
            of_100(alarms.value),
            "are flagged by mistake",
            _bounds_of_100(alarms),
            alarms.value,
            good=False,
        ),
    ]


def flags_sentence(operating: OperatingResult) -> list[str]:
    """How often a flag is right, at the set's prevalence and at the one asked for."""
    sentences: list[str] = []
    for at in (operating.here, operating.elsewhere):
        if at is None or at.ppv.value is None:
            continue
        place = (
            "As in this set, with" if at is operating.here else "Where the model will work, with"
        )
        sentences.append(
            f"{place} {of_100(at.prevalence)} of 100 having the finding, "
            f"{of_100(at.ppv.value)} of 100 flags are right."
        )
    return sentences


def headline(result: TargetResult) -> tuple[str, Estimate | None]:
    """Name and value of the one number that stands for a target."""
    if isinstance(result, BinaryResult):
        return "AUROC", result.auroc
    if isinstance(result, MulticlassResult):
        return "Accuracy", result.accuracy
    if isinstance(result, SurvivalResult):
        return "Uno’s C", result.horizons[-1].uno if result.horizons else None
    if isinstance(result, ValueResult):
        return "RMSE", result.rmse
    return "Mean error", result.horizons[0].error if result.horizons else None


def meaning(result: TargetResult, unit: str) -> str:
    """Say the headline number in words."""
    _, estimate = headline(result)
    if estimate is None or estimate.value is None:
        return result.undefined
    if isinstance(result, BinaryResult):
        return (
            f"Given one of the {unit} with the finding and one without, the model scores the one "
            f"with the finding higher {of_100(estimate.value)} times of 100. "
            "Guessing does so 50 times."
        )
    if isinstance(result, SurvivalResult):
        return (
            "Of two, one of whom has the outcome first and within "
            f"{days_text(result.horizons[-1].horizon_days)}, the model gives this one the higher "
            f"risk {of_100(estimate.value)} times of 100. Guessing does so 50 times."
        )
    if isinstance(result, ForecastResult):
        return (
            f"So far from the value lies the middle of the forecast for "
            f"{days_text(result.horizons[0].horizon_days)} ahead, on average."
        )
    if isinstance(result, ValueResult):
        return (
            "So far from the value lies the answer: the root of the mean squared difference, in "
            "the unit of the source."
        )
    share = 1 / len(result.classes)
    return (
        f"Of 100 {unit}, {of_100(estimate.value)} get the right one of {len(result.classes)} "
        f"classes. Guessing evenly gets {of_100(share)}."
    )


@dataclass(frozen=True, slots=True)
class Fact:
    """One number of the summary, with what it means."""

    label: str
    value: str
    bounds: str
    text: str


def facts(result: TargetResult) -> list[Fact]:
    """What stands beside the headline of a result on timelines, or on a number."""
    if isinstance(result, SurvivalResult) and not result.undefined:
        at = result.horizons[-1]
        best = max(
            (m.uno[-1] for m in result.models[1:] if m.uno and m.uno[-1] is not None), default=None
        )
        return [
            Fact(
                f"Risk within {days_text(at.horizon_days)}",
                percent(at.predicted),
                f"observed {with_bounds(at.observed, as_percent=True)}",
                f"Predicted on average, beside what came. {result.events} of {result.items} items "
                "have the outcome.",
            ),
            Fact(
                "Beside a simple model",
                decimal(best, 2),
                "Uno’s C",
                "The best simple model on the same items; see its row for the difference.",
            ),
        ]
    if isinstance(result, ForecastResult) and not result.undefined:
        at = result.horizons[0]
        return [
            Fact(
                "Values inside the interval",
                percent(at.coverage.value),
                f"95 % interval {bounds_text(at.coverage, as_percent=True)}",
                f"{percent(result.wanted, 0)} should be.",
            )
        ]
    if isinstance(result, ValueResult) and not result.undefined:
        return _facts_of_value(result)
    return []


def _facts_of_value(result: ValueResult) -> list[Fact]:
    explained = result.r_squared or Estimate(value=None)
    found = [
        Fact(
            "Variance explained (R²)",
            decimal(explained.value, 2),
            f"95 % interval {bounds_text(explained, coarse=True)}",
            "1 is every value as it is, 0 the mean for all.",
        )
    ]
    if result.coverage is not None:
        found.append(
            Fact(
                "Values inside the interval",
                percent(result.coverage.value),
                f"95 % interval {bounds_text(result.coverage, as_percent=True)}",
                f"{percent(result.wanted, 0)} should be.",
            )
        )
    return found


def days_text(days: float | None) -> str:
    """Time as people say it: "5.5 years", "90 days", "12 hours"."""
    if days is None:
        return MISSING
    if days >= 2 * 365.25:
        return f"{days / 365.25:.3g} years"
    return f"{days:.3g} days" if days >= 3 or days == 0 else f"{24 * days:.3g} hours"


def p_text(value: float | None) -> str:
    """A p-value: "< 0.001" rather than 0.000."""
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def one_line(report: Report) -> list[str]:
    """Give one line per target, for logs, terminals and the card."""
    lines: list[str] = []
    for row in report.means[:1]:
        shown = ", ".join(f"{name} {with_bounds(one)}" for name, one in row.measures.items())
        lines.append(f"mean of {row.targets} targets: {shown}")
    for result in report.targets:
        name, estimate = headline(result)
        text = result.undefined or f"{name} {with_bounds(estimate)}"
        lines.append(f"{result.name}: {text}")
    return lines


def _complement(estimate: Estimate) -> Estimate:
    def flip(value: float | None) -> float | None:
        return None if value is None else 1 - value

    return estimate.model_copy(
        update={
            "value": flip(estimate.value),
            "low": flip(estimate.high),
            "high": flip(estimate.low),
        }
    )


def _bounds_of_100(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{100 * estimate.low:.0f} to {100 * estimate.high:.0f}"
