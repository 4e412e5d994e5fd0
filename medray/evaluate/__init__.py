"""How good a package is on the split nobody has looked at: numbers, pictures, report.

    cohort      who is in which split; refuses a held-out set that decides nothing
    groups      columns of the dataset as groups of patients; what is suppressed and rounded
    results     one yes/no target: discrimination, calibration, operating point
    multiclass  one target of several classes
    mistakes    the items the model was most confidently wrong about
    run         the verb: reads a package and a dataset, writes report/

Everything but `run` is pure functions of arrays.
"""

from medray.evaluate.run import EvaluationResult, evaluate

__all__ = ["EvaluationResult", "evaluate"]
