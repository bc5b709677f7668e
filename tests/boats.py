"""A boat that steers to its goal, by hand, and the published trainer's files of settings, made small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

SHIPPED = {
    "seed": [0], "total_timesteps": 6_000_000, "eval_freq": 60_000, "imitation_learning": False, "agent_type": "AC-IQN",
    "save_dir": "./logs",
    "training_schedule": {"timesteps": [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000],
                          "num_robots": [3, 4, 5, 5, 5, 5], "num_cores": [0] * 6, "num_obstacles": [0, 0, 0, 2, 3, 4],
                          "min_start_goal_dis": [30.0, 35.0, 40.0, 40.0, 40.0, 40.0]},
    "eval_schedule": {"num_episodes": [10] * 6, "num_robots": [3, 4, 5, 5, 5, 5], "num_cores": [0] * 6,
                      "num_obstacles": [0, 0, 0, 2, 3, 4], "min_start_goal_dis": [30.0, 35.0, 40.0, 40.0, 40.0, 40.0]}}
SMALL = SHIPPED | {
    "total_timesteps": 80, "eval_freq": 40, "save_dir": "logs",
    "training_schedule": {"timesteps": [0, 30], "num_robots": [2, 3], "num_cores": [0, 2], "num_obstacles": [0, 1],
                          "min_start_goal_dis": [20.0, 25.0]},
    "eval_schedule": {"num_episodes": [2, 1], "num_robots": [2, 4], "num_cores": [1, 0], "num_obstacles": [0, 3],
                      "min_start_goal_dis": [15.0, 20.0]}}
# Short episodes, so that something is learned from.
QUICK = ["--device=cpu", "--test_timesteps=9", "--warmup=20", "--batch_size=8", "--buffer_size=500",
         "--object_sizes=4,3", "--hidden_sizes=8,8"]


def write(path: str, content: dict[str, Any] = SMALL, **changes: Any) -> str:
    """Write a file of settings; returns its path."""
    Path(path).write_text(json.dumps(content | changes))
    return path


class Seeker:
    """Turns to its goal and goes ahead, whatever is in its way."""

    def __init__(self, thrust: float = 400.0, turn: float = 600.0):
        self.thrust, self.turn = thrust, turn
        self.generator, self.counters = torch.Generator(), {}

    def step(self, obs: np.ndarray, explore: bool = False) -> np.ndarray:
        """(N, O) -> (N, 2): the changes that lead to the wanted thrust."""
        angle = np.arctan2(obs[:, 1], obs[:, 0]) - 0.5 * obs[:, 4]
        wanted = np.stack([self.thrust + self.turn * angle, self.thrust - self.turn * angle], 1)
        return np.clip((np.clip(wanted, -500, 1000) - obs[:, 5:7]) / 500, -1, 1).astype(np.float32)
