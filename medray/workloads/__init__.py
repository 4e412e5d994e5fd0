"""The prediction tasks medray knows. Adding one: one module, one line here."""

from typing import Any

from medray.workload import Workload
from medray.workloads.imaging import Imaging
from medray.workloads.molecule import Molecule
from medray.workloads.timeline import Timeline
from medray.workloads.toxicity import Toxicity

WORKLOADS: dict[str, Workload[Any, Any]] = {
    "imaging": Imaging(),
    "timeline": Timeline(),
    "molecule": Molecule(),
    "toxicity": Toxicity(),
}
