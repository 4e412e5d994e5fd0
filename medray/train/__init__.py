"""Training: dataset → package. One loop for every list of objectives."""

from medray.train.driver import TrainResult, train

__all__ = ["TrainResult", "train"]
