"""Decompositions: models that turn the return of an episode into a reward for every step."""
