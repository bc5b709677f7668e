"""Environments whose numbers are not finite at one step. Without PyTorch, which each worker would import with them."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from tiny_envs import Match

from utils.seeding import stream_seed


class Breaks(Match):
    """Match with three components, whose `what` is not finite at step `at` of the environment with one of the seeds."""

    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)

    def __init__(self, what: str, value: float = np.nan, seed: int = 0, streams: tuple[str, ...] = ("env",),
                 at: int = 75):
        super().__init__()
        self.what, self.value, self.at, self.steps, self.weak = what, value, at, 0, False
        self.seeds = [stream_seed(seed, name) for name in streams]

    def reset(self, *, seed=None, options=None):
        self.weak |= seed in self.seeds
        obs, info = super().reset(seed=seed)
        if self.weak and self.what == "reset" and self.steps >= self.at:
            obs = obs + np.float32([0, 0, self.value])
        return obs, info

    def step(self, action):
        obs, reward, *rest = super().step(action)
        self.steps += 1
        if self.weak and self.steps == self.at:
            if self.what == "obs":
                obs = obs + np.float32([0, self.value, self.value])
            if self.what == "reward":
                reward = self.value
        return obs, reward, *rest

    def _draw(self):
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


for what in ("obs", "reset", "reward"):
    gym.register(f"Breaks-{what}-v0", Breaks, kwargs={"what": what})
    gym.register(f"BreaksInTest-{what}-v0", Breaks, kwargs={"what": what, "streams": ("test env",), "at": 25})
    gym.register(f"BreaksSecond-{what}-v0", Breaks, kwargs={"what": what, "streams": ("env 1",), "at": 33})
    gym.register(f"BreaksSeed1-{what}-v0", Breaks, kwargs={"what": what, "seed": 1})
gym.register("Infinite-v0", Breaks, kwargs={"what": "reward", "value": -np.inf})
gym.register("Large-v0", Breaks, kwargs={"what": "reward", "value": 1e39})
