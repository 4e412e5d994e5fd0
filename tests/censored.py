"""Right-censored outcomes and predictions made on the spot, for the survival metrics' tests."""

import numpy as np
from sksurv.util import Surv

# name: rows, share censored, whether times are rounded so that they tie
SCENARIOS = {
    "ties": (80, 0.4, True),
    "no ties": (80, 0.4, False),
    "heavy censoring": (150, 0.92, True),
    "all events": (60, 0.0, True),
    "many rows": (450, 0.5, True),
    "few rows": (6, 0.3, False),
}


def outcomes(rng, rows, censored=0.4, ties=True, causes=1, apart=False):
    """Times and causes (0 censored). `apart`: no event and no censoring at the same time."""
    time = rng.exponential(6.0, rows) + 0.05
    event = np.where(rng.random(rows) < censored, 0, rng.integers(1, causes + 1, rows))
    if ties:
        time = np.ceil(time)
    if ties and apart:
        time = 2.0 * time + (event == 0)
    return time, event


def scenario(name, seed, causes=1, apart=False):
    rows, censored, ties = SCENARIOS[name]
    return outcomes(np.random.default_rng(seed), rows, censored, ties, causes, apart)


def risks(rng, time, decimals=1):
    """Scores that know a little about the time, rounded so that they tie."""
    return np.round(rng.normal(size=time.size) - 0.3 * np.log(time), decimals)


def incidences(rng, time, times, decimals=2):
    """Curves that rise from row to row differently, rounded so that they tie."""
    rate = np.exp(rng.normal(size=(time.size, 1))) / (0.5 * time[:, None] + 3.0)
    shape = np.exp(0.4 * rng.normal(size=(time.size, 1)))
    return np.round(1.0 - np.exp(-((rate * np.asarray(times)) ** shape)), decimals)


def surv(time, event):
    """scikit-survival's structured outcome."""
    return Surv.from_arrays(np.asarray(event) > 0, time)
