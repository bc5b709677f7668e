"""Exploring by random actions, whose share falls while the agent explores."""

from __future__ import annotations

from torch import Tensor

from algorithm.basis_alg.off_policy_torch import OffPolicy
from utils.settings.fields import Config


class EpsilonGreedy(OffPolicy):
    """An agent whose actions are random for the first `warmup` exploring steps, and later for a share epsilon.

    Attributes:
        share: of random actions, instead of the settings'; None: as those say.
    """

    explore_info = ("Epsilon",)
    share: float | None = None

    def __init__(self, config: Config):
        super().__init__(config)
        self.counters["steps"] = 0          # exploring ones, by which epsilon falls

    @property
    def epsilon(self) -> float:
        """The share of random actions: from eps_l to eps_r over eps_decay exploring steps."""
        if self.share is not None:
            return self.share
        config = self.config
        share = min(self.counters["steps"] / config.eps_decay, 1)
        return config.eps_l + (config.eps_r - config.eps_l) * share

    def explore_metrics(self) -> dict[str, float]:
        return {"Epsilon": self.epsilon}

    def random_rows(self, chances: Tensor) -> Tensor:
        """Return which exploring steps are random, bool (N,), by numbers uniform in [0, 1), (N,); count the steps.

        The rows of one environment are one step. The host reads nothing of the device.
        """
        random = (chances <= self.epsilon) | self.warming
        self.counters["steps"] += max(1, len(chances) // self.config.rows)
        return random

    @property
    def warming(self) -> bool:
        """Whether all actions are still random."""
        return (self.config.random_warmup is not False and self.share is None
                and self.counters["steps"] < self.config.warmup)
