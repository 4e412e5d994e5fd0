"""From a package that makes molecules to one that makes more of the wanted ones.

rewards   what a molecule is worth
learning  the update: REINFORCE on a leash to the prior
run       the verb: checkpoints, history, the new package
"""

from medray.reinforce.run import ReinforceResult, reinforce

__all__ = ["ReinforceResult", "reinforce"]
