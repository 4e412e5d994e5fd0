"""How good a package is on the split nobody has looked at: numbers, pictures, report.

    cohort      who is in which split; refuses a held-out set that decides nothing
    groups      columns of the dataset as groups of patients; what is suppressed and rounded
    results     one yes/no target: discrimination, calibration, operating point
    multiclass  one target of several classes
    mistakes    the items the model was most confidently wrong about
    standing    what stands in every report
    run         the verb: reads a package and a dataset, writes report/
    verdict     whether one way of making molecules is better than another, or luckier
    makers      the verb for packages that make molecules

Everything but `run`, `standing` and `makers` is pure functions of arrays.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from medray.evaluate.run import EvaluationResult, evaluate_judge
from medray.package import Task
from medray.spec.models import RunSpec
from medray.workload import GenerativeWorkload
from medray.workloads import WORKLOADS

if TYPE_CHECKING:
    from medray.evaluate.makers import MakerResult

__all__ = ["EvaluationResult", "evaluate"]


class _Evaluate(Protocol):
    def __call__(self, spec: RunSpec, *, progress: Any, workload: Task | None) -> Any: ...


def _of_maker(spec: RunSpec, *, progress: Any, workload: Task | None) -> "MakerResult":
    """`evaluate_maker`, imported when it is asked for: it needs RDKit."""
    from medray.evaluate.makers import evaluate_maker

    return evaluate_maker(spec, progress=progress, workload=workload)


# What a package of a kind is measured by: the truth of what it says, or what it makes.
KINDS: Mapping[str, _Evaluate] = {"judges": evaluate_judge, "makes": _of_maker}


def evaluate(
    spec: RunSpec, *, progress: Any = None, workload: Task | None = None
) -> "EvaluationResult | MakerResult":
    """Evaluate the run's package on `held_out`: see `evaluate_judge` and `evaluate_maker`.

    workload  absent: the one of WORKLOADS that the spec names.
    """
    task = workload or WORKLOADS.get(spec.workload)
    kind = "makes" if isinstance(task, GenerativeWorkload) else "judges"
    return KINDS[kind](spec, progress=progress, workload=workload)
