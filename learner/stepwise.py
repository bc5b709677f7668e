"""Collectors that take one step after the other."""

from __future__ import annotations

from typing import Any

import numpy as np

from learner.drops import Drops

Columns = dict[str, np.ndarray]         # a finished episode, as `store_episode` takes it


class Stepwise:
    """A collector that stores episodes as they end."""

    num_envs: int
    drops: Drops
    returns: list[tuple[float, int]]        # true return and length of the episodes that `step` returned
    ended: tuple[tuple[float, int], ...] = ()           # likewise, of those since `log`

    def step(self) -> list[Columns]:
        """Step each environment; return the episodes that ended."""
        raise NotImplementedError

    def gather(self, count: int, buffer: Any) -> tuple[int, int]:
        """Take `count` environment steps, or up to `num_envs` - 1 more; store the episodes that end.

        Returns:
            (environment steps taken, episodes stored).
        """
        taken = stored = 0
        while taken < count:
            episodes = self.step()
            taken += self.num_envs
            for episode in episodes:
                buffer.store_episode(episode)
            self.ended += tuple(self.returns)
            stored += len(episodes)
        return taken, stored

    def agreed(self, yes: bool) -> bool:
        """Return whether all processes of the run say yes; here there is one."""
        return yes

    def log(self, logger: Any) -> None:
        """Log the true returns and lengths of the episodes that ended, and how many were dropped so far."""
        for total, length in self.ended:
            logger.add({"train/return": total, "train/length": length})
        self.ended = ()
        self.drops.log(logger)
