"""What a molecule does: toxicity, efficacy, solubility; any property known of some molecules."""

from medray.workloads.toxicity.params import ToxicityFitted, ToxicityParams
from medray.workloads.toxicity.workload import Toxicity

__all__ = ["Toxicity", "ToxicityFitted", "ToxicityParams"]
