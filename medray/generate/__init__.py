"""New molecules from a package that makes them: drawn, checked, compared, judged, shown.

asked    what is asked for; its hash names the work
known    the training set that molecules are compared with
judges   packages of predictors that say something of each molecule
draws    one chunk of draws, with a seed of its own: what a worker does
picked   which of all that was drawn are the molecules asked for
files    CSV and SDF
run      the verb: rounds of chunks until there are enough, then what is published
"""

from medray.generate.run import GenerateSummary, generate

__all__ = ["GenerateSummary", "generate"]
