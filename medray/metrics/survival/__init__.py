"""How good a model of time to an event is, on right-censored data.

    inputs       the checks of what comes in
    km           Kaplan-Meier, the censoring distribution, Aalen-Johansen, step curves
    concordance  Harrell's C, Uno's C, Antolini's time-dependent C
    dynamic_auc  cumulative/dynamic AUC at times, and its mean
    brier        Brier score at times, and its integral
    calibration  predicted against observed risk at a horizon, by group of risk
    groups       Kaplan-Meier curves by group of risk, the log-rank test
    quantiles    forecasts of a number: pinball loss, coverage, error of the median

One convention throughout. `time` (N,) > 0 is when the event or the end of follow-up came. `event`
(N,) is 0 where censored and the cause elsewhere, so that True is cause 1; `cause` names the cause
that is measured, and every other cause competes with it. Predictions rise with risk: a score, or
the probability of the event by a time (cumulative incidence; with a single cause 1 − survival).
Weights by the inverse probability of censoring come from `censoring_distribution` of the training
rows, never of the rows that are judged.

Every statistic is a function of (time, event, prediction), and NaN where undefined, so that
`metrics.bootstrap.patient_bootstrap` gives its interval by resampling patients:

    g = censoring_distribution(train_time, train_event)
    patient_bootstrap(partial(uno_c, censoring=g, tau=365.0), patients, [time, event, risk], seed=0)

(`patient_bootstrap_vector` where it has a value for each of several times.)

Pure functions of numpy arrays; nothing here knows a model, torch or ray.
"""
