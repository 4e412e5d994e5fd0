"""What is asked about one target on `held_out`: the answers of the model and of its rivals.

Shapes: N items; truth and answers in the shape of the target's kind (medray.workload.Target).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medray.calibration import Calibration
from medray.evaluate.results import Scored, Settings
from medray.metrics.bootstrap import patient_bootstrap
from medray.report.elements import Estimate
from medray.report.numbers import NETWORK
from medray.workload import Target

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Question:
    """One target, and all that its results are computed from.

    train_truth  what was observed of the items of `train`: whence the weights against censoring.
    columns      subgroup columns of the held-out items.
    rivals       name of a simple model → its answers, as `Calibration.apply` gives them; or, in
                 words, why it could not be fitted.
    """

    target: Target
    held_out: Scored
    tuning: Scored | None
    train_truth: Array
    calibration: Calibration
    columns: Mapping[str, Array]
    rivals: Mapping[str, Array | str]
    settings: Settings

    def answers(self) -> Mapping[str, Array]:
        """Calibrated answers of the network, first, and of its rivals."""
        found = self.calibration.apply(self.target.name, self.held_out.logits)
        fitted = {name: one for name, one in self.rivals.items() if not isinstance(one, str)}
        return {NETWORK: found, **fitted}

    def not_fitted(self) -> Mapping[str, str]:
        """Simple models that could not be fitted, and why."""
        return {name: one for name, one in self.rivals.items() if isinstance(one, str)}

    def replicates(self, items: int) -> int:
        """As many as the spec asks for, but fewer where every one of them is long work."""
        return int(np.clip(_PAIRS / max(items, 1), 100, self.settings.evaluate.replicates))

    def estimate(
        self, statistic: Callable[..., float], subject_ids: Array, *arrays: Array
    ) -> Estimate:
        """A statistic of rows of some subjects, with its interval by patient."""
        found = patient_bootstrap(
            statistic,
            subject_ids.tolist(),
            arrays,
            replicates=self.replicates(len(subject_ids)),
            seed=self.settings.seed,
        )
        return Estimate.of(found)


_PAIRS = 2_000_000  # items × replicates
