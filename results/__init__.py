"""Runs read back: curves, scores, statistics, figures, page, video."""
