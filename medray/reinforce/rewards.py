"""What molecules are worth: wishes of a spec, and a memory of what has been rewarded already.

Shapes: B texts of a batch.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from medray.errors import RejectError, UsageError
from medray.generate.judges import Judge
from medray.molecules.metrics.filters import alert
from medray.molecules.metrics.profile import fingerprint
from medray.molecules.neighbours import neighbours
from medray.molecules.properties import PROPERTIES
from medray.molecules.standard import Standard, standardise
from medray.package import Task
from medray.spec.molecules import StandardSpec
from medray.spec.reinforce import ReinforceSpec, RewardSpec

Floats = NDArray[np.float64]


def desirability(values: Floats, wish: RewardSpec) -> Floats:
    """Worth (B,) between 0 and 1 of values (B,); of NaN 0."""
    share = (np.nan_to_num(values, nan=-np.inf) - wish.low) / (wish.high - wish.low)
    worth = {
        "higher": share,
        "lower": np.where(np.isnan(values), 0.0, 1 - share),
        "between": np.minimum(1 + share, 2 - share),
    }[wish.better]
    return np.clip(worth, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Worth:
    """What a batch is worth.

    rewards   (B,) 0 to 1. values: wish → what it looks at (B,), NaN of what is no molecule.
    valid     molecules in standard form; repeated: those again in the batch; alerts: with a filter
              alert; familiar: whose scaffold has been rewarded often enough.
    """

    rewards: Floats
    values: Mapping[str, Floats]
    valid: int
    repeated: int
    alerts: int
    familiar: int


@dataclass(slots=True)
class Memory:
    """How often a molecule of each scaffold has been rewarded; Blaschke et al. 2020, J. Cheminform.

    A molecule without rings is its own scaffold. At least half of the reward counts.
    """

    most: int
    seen: Counter[str] = field(default_factory=Counter[str])

    def familiar(self, form: Standard) -> bool:
        """Whether its like was rewarded often enough."""
        return 0 < self.most <= self.seen[form.scaffold or form.smiles]

    def remember(self, form: Standard, reward: float) -> None:
        """Count it."""
        if self.most and reward >= 0.5:
            self.seen[form.scaffold or form.smiles] += 1


class Rewards:
    """The wishes of a spec, with the packages behind them loaded once.

    Raises UsageError for a target that a package does not predict and for a `similar_to` that is
    no SMILES, PackageError for a package that is not intact.
    """

    def __init__(
        self,
        spec: ReinforceSpec,
        standard: StandardSpec,
        device: str = "cpu",
        judge_task: Task | None = None,
    ) -> None:
        self._spec = spec
        self._standard = standard
        uris = {one.package for one in spec.rewards if one.package is not None}
        self._judges = {uri: Judge(uri, device, judge_task) for uri in sorted(uris)}
        self.refs = tuple(judge.ref for judge in self._judges.values())
        for wish in spec.rewards:
            if wish.package is not None and self._column(wish) not in self._known(wish.package):
                raise UsageError(
                    f"{self._judges[wish.package].ref} does not predict {wish.target!r}",
                    remedy=f"one of: {', '.join(self._known(wish.package))}",
                )
        self._liked = {wish.name: _prints(wish) for wish in spec.rewards if wish.similar_to}

    def _known(self, uri: str) -> tuple[str, ...]:
        return self._judges[uri].columns

    def _column(self, wish: RewardSpec) -> str:
        return f"{self._judges[wish.package or ''].name}/{wish.target}"

    def __call__(self, texts: Sequence[str], memory: Memory) -> Worth:
        """Worth of a batch; what is rewarded is remembered, in the order of the batch."""
        with rdBase.BlockLogs():
            forms = [self._form(text) for text in texts]
            distinct = {form.smiles: at for at, form in reversed(list(enumerate(forms))) if form}
            places = sorted(distinct.values())
            molecules = [Chem.MolFromSmiles(forms[at].smiles) for at in places]  # pyright: ignore
            alerts = [self._spec.filters and alert(one) is not None for one in molecules]
            values = self._values(places, forms, molecules)
        weights = np.array([wish.weight for wish in self._spec.rewards])
        each = np.stack([desirability(values[wish.name], wish) for wish in self._spec.rewards])
        rewards = (weights @ each) / weights.sum()
        worthless = np.ones(len(texts), bool)
        familiar = 0
        for at, bad in zip(places, alerts, strict=True):
            form = forms[at]
            known = form is not None and memory.familiar(form)
            familiar += known
            worthless[at] = bad or known
            if form is not None and not worthless[at]:
                memory.remember(form, float(rewards[at]))
        valid = sum(form is not None for form in forms)
        return Worth(
            rewards=np.where(worthless, 0.0, rewards),
            values=values,
            valid=valid,
            repeated=valid - len(places),
            alerts=sum(alerts),
            familiar=familiar,
        )

    def _form(self, text: str) -> Standard | None:
        try:
            return standardise(text, self._standard)
        except RejectError:
            return None

    def _values(
        self, places: Sequence[int], forms: Sequence[Standard | None], molecules: Sequence[Any]
    ) -> dict[str, Floats]:
        """What each wish looks at (B,): of distinct molecules; NaN elsewhere."""
        found = {wish.name: np.full(len(forms), np.nan) for wish in self._spec.rewards}
        if not places:
            return found
        smiles = [form.smiles for at in places if (form := forms[at]) is not None]
        said = {uri: judge.say(smiles) for uri, judge in self._judges.items()}
        prints = [np.frombuffer(fingerprint(one), np.uint8) for one in molecules]
        for wish in self._spec.rewards:
            if wish.of is not None:
                here = [PROPERTIES[wish.of](one) for one in molecules]
            elif wish.package is not None:
                column = self._column(wish)
                here = [row.get(column, np.nan) for row in said[wish.package]]
            else:
                here = neighbours(np.stack(prints), self._liked[wish.name])[0]
            found[wish.name][list(places)] = here
        return found


def _prints(wish: RewardSpec) -> NDArray[np.uint8]:
    found: list[NDArray[np.uint8]] = []
    for smiles in wish.similar_to:
        molecule: Any = Chem.MolFromSmiles(smiles)
        if molecule is None:
            raise UsageError(
                "`similar_to` of a reward holds what is no SMILES", remedy="see reinforce.rewards"
            )
        found.append(np.frombuffer(fingerprint(molecule), np.uint8))
    return np.stack(found)
