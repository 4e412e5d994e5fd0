"""Pictures → diagnoses: convolutional classifiers with binary, multi-class, multi-label heads."""

from medray.workloads.imaging.params import ImagingFitted, ImagingParams
from medray.workloads.imaging.workload import Imaging

__all__ = ["Imaging", "ImagingFitted", "ImagingParams"]
