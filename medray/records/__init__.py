"""Patients' records as events: tables → events, events → what a model sees.

    events    rows of a source → events, each with its outcome
    fhir      resources of FHIR R4 → the same
    omop      tables of the OMOP Common Data Model → the same
    tokens    codes and texts as 64-bit names that are the same in every dataset
    history   one patient's events up to a prediction time
    steps     histories → values, masks and gaps over time steps
    summary   what a dataset of timelines holds

Pure functions of Arrow tables and numpy arrays: nothing here knows a file, torch or ray.
"""
