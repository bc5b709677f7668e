"""Training: gather experience, schedule updates, evaluate, and keep the record."""

from learner.collector import open_collector
from learner.evaluator import Evaluator
from learner.learner import Learner

__all__ = ["Evaluator", "Learner", "open_collector"]
