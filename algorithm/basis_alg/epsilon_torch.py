"""Exploring by random actions, whose share falls while the agent explores."""

from __future__ import annotations

from torch import Tensor

from algorithm.basis_alg.off_policy_torch import OffPolicy
from utils.settings.fields import Config


class EpsilonGreedy(OffPolicy):
    """An agent whose actions are random for the first `warmup` exploring steps, and later for a share epsilon."""

    explore_info = ("Epsilon",)

    def __init__(self, config: Config):
        super().__init__(config)
        self.counters["steps"] = 0          # exploring ones, by which epsilon falls

    @property
    def epsilon(self) -> float:
        """The share of random actions: from eps_l to eps_r over eps_decay exploring steps."""
        config = self.config
        share = min(self.counters["steps"] / config.eps_decay, 1)
        return config.eps_l + (config.eps_r - config.eps_l) * share

    def explore_metrics(self) -> dict[str, float]:
        return {"Epsilon": self.epsilon}

    def random_rows(self, chances: Tensor) -> Tensor:
        """Return which exploring steps are random, bool (N,), by numbers uniform in [0, 1), (N,); count the steps.

        The rows of one environment are one step.
        """
        config = self.config
        warming = config.random_warmup is not False and self.counters["steps"] < config.warmup
        random = (chances <= self.epsilon) | warming
        self.counters["steps"] += max(1, len(chances) // config.rows)
        return random
