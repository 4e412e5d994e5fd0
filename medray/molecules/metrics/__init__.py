"""How good a set of generated molecules is: the metrics of the MOSES benchmark.

    profile        what is computed of each molecule by itself: fingerprint, fragments, ...
    filters        the rules of medicinal chemistry
    similarity     nearest neighbours and diversity, in blocks
    distributions  Fréchet distance, cosine of counts
    moses          the whole row, from profiles

Nothing here knows torch or Ray: `medray.score.profiles` computes profiles, ChemNet's activations
with them, in parallel and keeps them.
"""
