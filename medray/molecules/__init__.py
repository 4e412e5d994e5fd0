"""Molecules as text: standard form, tokens, scaffolds, properties. RDKit is an optional extra.

Modules of this package that need RDKit import it at their top; what may run without it (a spec's
check, the table of workloads) imports them inside functions, behind `extra.require`.
"""
