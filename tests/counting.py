"""An environment whose observations say where they are, so that a test knows every step of a replay."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

MOST = 1000.0


class Counting(gym.Env):
    """Observes (number of the episode, number of the step); pays nothing until the episode is over, then its length.

    Episodes last 3, 4, 5, 3, ... steps; every second one ends at a time limit. `info["true_reward"]` is 1.
    """

    def __init__(self, discrete: bool = False, parts: bool = False):
        self.numbers = Box(-MOST, MOST, (2,), np.float32)
        self.parts = parts
        self.observation_space = Dict({"where": self.numbers, "mod": Discrete(3)}) if parts else self.numbers
        self.action_space = Discrete(3) if discrete else Box(-2, 2, (1,), np.float32)
        self.episode, self.t = -1, 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self.obs(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        over = self.t == 3 + self.episode % 3
        limit = over and self.episode % 2 == 1
        return self.obs(), float(self.t * over), over and not limit, limit, {"true_reward": 1.0}

    def obs(self) -> Any:
        where = np.array([self.episode, self.t], np.float32)
        return {"where": where, "mod": self.t % 3} if self.parts else where
