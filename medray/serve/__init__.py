"""Scores online: one loaded Predictor behind HTTP, on Ray Serve (`medray.serve.app:build`)."""
