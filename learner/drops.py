"""Episodes that are dropped because an observation or a reward is not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from utils.errors import EpisodeNotFiniteError
from utils.finite import check_observation, check_reward

STARTS = 10             # starts of episodes in a row that may be dropped
DROPPED = "train/dropped"


class Drops:
    """What an observation or a reward that is not finite does: it drops its episode, or stops the run."""

    def __init__(self, allowed: bool = False, say: Callable[[str], None] = lambda line: None):
        """allowed: whether episodes are dropped; `say` is called with a line for the first one."""
        self.allowed, self.say, self.count, self.said = allowed, say, 0, False

    def finite(self, obs: np.ndarray, reward: float, where: str) -> bool:
        """Return whether both are finite; if not, the episode is to be dropped, and is counted.

        Raises:
            NotFiniteError: one is not, and no episode may be dropped.
        """
        try:
            check_observation(obs, where)
            check_reward(reward, where)
        except EpisodeNotFiniteError as error:
            if not self.allowed:
                raise
            self.count += 1
            if not self.said:
                self.say(f"note: {error}; its episode is dropped (--on_nan=drop), as later ones are, which {DROPPED} "
                         "counts")
            self.said = True
            return False
        return True

    def log(self, logger: Any) -> None:
        """Log how many episodes were dropped so far, if any may be."""
        if self.allowed:
            logger.set({DROPPED: self.count})

    def check_starts(self, starts: int, where: str) -> None:
        """Raise a NotFiniteError if `starts` episodes in a row began with an observation that is not finite."""
        if starts >= STARTS:
            raise EpisodeNotFiniteError(f"observation: got {starts} starts of episodes in a row that are not finite, "
                                        f"{where}; expected finite numbers after a reset")
