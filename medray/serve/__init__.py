"""Scores online: one loaded Predictor behind HTTP, on Ray Serve."""

from medray.serve.app import build

__all__ = ["build"]
