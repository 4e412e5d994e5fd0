"""Random forests on the same molecules' fingerprints: what every network must be compared with.

Needs RDKit. Shapes: B molecules, F places.
"""

from typing import Any

import numpy as np

from medray.molecules.fingerprints import counts
from medray.molecules.text import strings
from medray.workload import Columns, Rivals
from medray.workloads.toxicity.labels import truth_of
from medray.workloads.toxicity.params import SIMILARITY, ToxicityParams

Array = np.ndarray[Any, Any]

_TREES = 100
FOREST = "random forest on count fingerprints"


def forests(train: Columns, held_out: Columns, params: ToxicityParams, seed: int) -> Rivals:
    """One forest per target, learned from the molecules where it is known.

    Answers are probabilities (B,) or values (B,) in the source's unit.
    """
    truth = truth_of(train, params)
    x_BF, asked_BF = (
        counts(strings(columns["smiles"]), params.fingerprint.places, params.fingerprint.radius)
        for columns in (train, held_out)
    )
    found: dict[str, Array] = {}
    for name in params.targets:
        known = ~np.isnan(truth[name])
        if len(np.unique(truth[name][known])) < 2:
            return {FOREST: f"the training part of {name!r} has one outcome only"}
        found[name] = _answers(x_BF[known], truth[name][known], asked_BF, params, seed)
    return {FOREST: found | {SIMILARITY: np.full(len(asked_BF), np.nan)}}


def _answers(x_BF: Array, y_B: Array, asked_BF: Array, params: ToxicityParams, seed: int) -> Array:
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    if params.task == "binary":
        classifier = RandomForestClassifier(_TREES, random_state=seed, n_jobs=1)
        return classifier.fit(x_BF, y_B).predict_proba(asked_BF)[:, 1]
    share = 1 / 3  # of the places that a split chooses among (Breiman 2001)
    regressor = RandomForestRegressor(_TREES, max_features=share, random_state=seed, n_jobs=1)
    return regressor.fit(x_BF, y_B).predict(asked_BF)
