"""Small tensor environments for tests."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete

from envs.tensor import TensorEnv


class Walk(TensorEnv):
    """A walk on a line to 0, from U(-far, far); the step's own length is a setting that acts at once."""

    SETTINGS: ClassVar = {"far": 2.0, "limit": 7, "speed": 1.0, "name": "a", "on": False, "pair": (1, 2)}
    LIMITS: ClassVar = {"far": (0.0, None), "limit": (1, 1000)}
    PER_ROW = ("limit",)
    STATE = ("place", "count")
    rewards = ("near",)
    metrics = ("distance", "success")

    def setup(self):
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = Box(-2, 2, (1,), np.float32)
        self.place, self.count = self.zeros(), self.zeros(dtype=torch.int64)

    def _reset(self, rows):
        far = self.settings["far"]
        self.renew(rows, lambda count: {"place": self.uniform(-far, far, count),
                                        "count": torch.zeros(count, dtype=torch.int64, device=self.device)})
        return self.observe()

    def observe(self):
        return torch.stack([self.place, self.count / 10], 1)

    def _step(self, acts):
        self.place = self.place + self.settings["speed"] * acts[:, 0].clamp(-2, 2)
        self.count = self.count + 1
        distance = self.place.abs()
        done = distance < 0.1
        metrics = {"distance": distance, "success": done.float()}
        return (self.observe(), -distance, done, self.count >= self.of_row("limit"),
                {"rewards": {"near": -distance}, "metrics": metrics})


class Team(TensorEnv):
    """Worlds of three robots, which are over after 1, 2 and 3 steps of their own; `size` robots take part."""

    SETTINGS: ClassVar = {"size": 3}
    STATE = ("count", "world")
    rows_per_group = 3

    def setup(self):
        self.observation_space = Dict({"self": Box(-9, 9, (2,), np.float32), "others": Box(-9, 9, (1,), np.float32)})
        self.action_space = Discrete(2)
        self.count, self.world = self.zeros(dtype=torch.int64), self.zeros()

    def number(self):
        return torch.arange(self.num_envs) % 3

    def _reset(self, rows):
        draw = self.uniform(0, 1, self.num_groups).repeat_interleave(3)
        self.world = torch.where(rows, draw, self.world)
        self.count = self.count.masked_fill(rows, 0)
        self.active = self.active & ~(rows & (self.number() >= self.settings["size"]))
        return self.observe()

    def observe(self):
        return {"self": torch.stack([self.world, self.count.float()], 1), "others": self.world[:, None]}

    def _step(self, acts):
        self.count = self.count + self.active
        over = self.active & (self.count > self.number())
        return self.observe(), self.count.float() * self.active, over, torch.zeros_like(over), {}
