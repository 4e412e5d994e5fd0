"""What packages of predictors say of molecules: a column per package and target.

Each package reads molecules in the standard form that it was trained on.
"""

from collections.abc import Sequence

from medray.errors import PackageError, RejectError, UsageError
from medray.molecules.standard import standardise
from medray.molecules.text import as_bytes
from medray.package import Task
from medray.score.prediction import Outcome
from medray.score.predictor import Predictor


class Judge:
    """A predictor of molecules' properties, loaded once.

    Raises PackageError for a package that is not intact or predicts from something else.
    """

    def __init__(self, package_uri: str, device: str, task: Task | None = None) -> None:
        self._predictor = Predictor(package_uri, device, task)
        package = self._predictor.package
        molecules = package.manifest.molecules
        if molecules is None or not self._predictor.targets:
            raise PackageError(
                f"{package.ref} does not predict properties of molecules",
                remedy="name a package of the workload `toxicity`",
            )
        self.name = package.name
        self.ref = package.ref
        self._standard = molecules.standard
        targets = self._predictor.targets
        self.columns = tuple(
            self._column(target.name, each)
            for target in targets
            for each in (target.classes if target.kind == "multiclass" else (None,))
        )
        """What it says of a molecule; of numbers the bounds are left out."""
        self.risks = tuple(self._column(t.name, None) for t in targets if t.kind == "binary")
        """Columns that are probabilities of something unwanted."""

    def _column(self, target: str, text_value: str | None) -> str:
        return "/".join([self.name, target, *([] if text_value is None else [text_value])])

    def say(self, smiles: Sequence[str]) -> list[dict[str, float]]:
        """Column → score of every molecule; nothing of one that the package does not take."""
        forms = [self._form(one) for one in smiles]
        taken = [form for form in forms if form is not None]
        outcomes = iter(self._predictor.predict_columns({"smiles": as_bytes(taken)}))
        return [{} if form is None else self._said(next(outcomes)) for form in forms]

    def _form(self, smiles: str) -> str | None:
        try:
            return standardise(smiles, self._standard).smiles
        except RejectError:
            return None

    def _said(self, outcome: Outcome) -> dict[str, float]:
        said = {self._column(one.target, one.text_value): one.score for one in outcome.scores}
        return {name: score for name, score in said.items() if name in self.columns}


def open_judges(
    package_uris: Sequence[str], device: str, task: Task | None = None
) -> tuple[Judge, ...]:
    """Open all packages. Raises UsageError when two of them would write the same column."""
    judges = tuple(Judge(uri, device, task) for uri in package_uris)
    names = [judge.name for judge in judges]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"two packages are called {twice[0]!r}", remedy="their columns could not be told apart"
        )
    return judges
