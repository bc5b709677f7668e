"""A short game for agents that observe images: ten balls fall one after the other, and a paddle catches them.

`--env=benchmarks.catch:Catch-v0`, from the repository's root. With `--env_type=ep_rews`, the default, the reward
comes at the end of an episode: how many of the ten were caught.
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

CELLS = 6               # columns, and rows: a ball falls for five steps, and the paddle is on the last row
PIXELS = 14             # 6 x 14 = 84
BALLS = 10


class Catch(gym.Env):
    """Observes 84 x 84 pixels; moves left, stays, or moves right; pays 1 for a ball that is caught."""

    observation_space = Box(0, 255, (CELLS * PIXELS, CELLS * PIXELS, 1), np.uint8)
    action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.paddle, self.ball = CELLS // 2, 0
        self._drop()
        return self._picture(), {}

    def step(self, action: int):
        self.paddle = min(max(self.paddle + int(action) - 1, 0), CELLS - 1)
        self.row += 1
        landed = self.row == CELLS - 1
        reward = float(landed and self.column == self.paddle)
        picture = self._picture()
        if landed:
            self._drop()
        return picture, reward, self.ball > BALLS, False, {}

    def _drop(self) -> None:
        self.ball, self.row, self.column = self.ball + 1, 0, int(self.np_random.integers(CELLS))

    def _picture(self) -> np.ndarray:
        cells = np.zeros((CELLS, CELLS), np.uint8)
        cells[-1, self.paddle] = 128
        cells[self.row, self.column] = 255
        return cells.repeat(PIXELS, 0).repeat(PIXELS, 1)[..., None]


gym.register("Catch-v0", Catch)
