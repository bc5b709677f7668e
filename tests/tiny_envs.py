"""Environments made to check one thing each, solved in seconds; importing this registers them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box


class Match(gym.Env):
    """The best action is `gain` times the (random) observation plus `shift`; ten steps to an episode."""

    observation_space, action_space = Box(-1, 1, (1,), np.float32), Box(-1, 1, (1,), np.float32)

    def __init__(self, gain: float = 0.8, shift: float = 0.0, length: int = 10):
        self.gain, self.shift, self.length = gain, shift, length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.obs = 0, self._draw()
        return self.obs, {}

    def step(self, action):
        reward = -float(np.abs(action - (self.gain * self.obs + self.shift))[0])
        self.t, self.obs = self.t + 1, self._draw()
        return self.obs, reward, self.t >= self.length, False, {}

    def _draw(self):
        return self.np_random.uniform(-1, 1, 1).astype(np.float32)


class Clock(gym.Env):
    """Observes the time; pays t at step t; terminates after `length` steps."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,), np.float32), Box(-2, 2, (1,), np.float32)

    def __init__(self, length: int = 10):
        self.length, self.episode = length, -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1
        return np.float32([self.episode, 0]), {}

    def step(self, action):
        self.t += 1
        return np.float32([self.episode, self.t]), float(self.t), self.t >= self.length, False, {}


class InPlace(Clock):
    """A clock that writes the time into the one array that it always returns."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = np.zeros(1, np.float32)
        return self.state, {}

    def step(self, action):
        _, reward, terminated, truncated, info = super().step(action)
        self.state += 1
        return self.state, reward, terminated, truncated, info


gym.register("Match-v0", Match)
gym.register("MatchConstant-v0", Match, kwargs={"gain": 0.0, "shift": 0.6, "length": 2})
gym.register("Clock10-v0", Clock)
gym.register("InPlace-v0", InPlace)
gym.register("Clock7-v0", Clock, kwargs={"length": 7})
