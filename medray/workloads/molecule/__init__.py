"""Drug discovery: a GAN that makes molecules."""

from medray.workloads.molecule.workload import Molecule

__all__ = ["Molecule"]
