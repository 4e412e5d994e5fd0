"""How good a model is: numbers with intervals, from labels and scores alone.

    interval        the Interval type, the Wilson interval, the checks of what comes in
    discrimination  AUROC (DeLong interval and test), average precision, curves
    operating       choosing a threshold, and what holds at it
    calibration     temperature, reliability curve, ECE, Brier score, slope and intercept
    classification  the same questions with more than two classes
    regression      errors and correlations of predicted numbers
    survival        time to an event under censoring and competing causes; forecasts of a number
    bootstrap       intervals that resample patients, not rows

Pure functions of numpy arrays: nothing here reads a file or knows a model, torch or ray.
One rule of missing values: binary labels, scores and identifiers must be present (ValueError
otherwise); class labels and group names may be missing and are excluded, or grouped as "unknown".
An undefined number is NaN, never 0.
"""

from medray.metrics.interval import Interval

__all__ = ["Interval"]
