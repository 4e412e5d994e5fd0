"""A package: everything a trained model needs to predict, in one immutable folder.

    package.json            what is in it (medray.manifest)
    spec.yaml               the validated spec, every default written out
    fitted.json             what preprocessing learned from `train`
    calibration.json        temperatures and thresholds learned on `tuning`
    weights/<module>.safetensors
    selftest/               synthetic inputs and the logits they gave; replayed at load
    metrics.json, MODEL_CARD.md   written again by an evaluation

Owns writing, verifying and loading. No pickle anywhere. Works on local folders and object stores;
a remote package is copied to a local cache first. Imports no workload: callers hand theirs in.

    opened   a package that stands somewhere, every byte checked
    running  its networks: loaded, checked against their self-test, run
    writing  making one, and what an evaluation adds
"""

from medray.package.opened import Package, open_package
from medray.package.running import (
    SELFTEST_TOLERANCE,
    Task,
    answer,
    exactly,
    forward,
    load_modules,
    repeatable,
    replay_selftest,
)
from medray.package.writing import SELFTEST_ROWS, add_evaluation, write_package

__all__ = [
    "SELFTEST_ROWS",
    "SELFTEST_TOLERANCE",
    "Package",
    "Task",
    "add_evaluation",
    "answer",
    "exactly",
    "forward",
    "load_modules",
    "open_package",
    "repeatable",
    "replay_selftest",
    "write_package",
]
